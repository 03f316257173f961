"""A git repository with the present code, as a team has it: branches ``develop`` and ``main``, and tags of tested revisions."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from airworthy.config.settings import PROJECT_ROOT

CODE = ("include", "airflow", "dags", "plugins", "feature_repo", "great_expectations")
FILES = ("pyproject.toml", "uv.lock", "README.md", "LICENSE", ".gitignore")
USE_CASE = "use_cases.tiny_orders"


class Repository:
    """The repository, with a use case whose training needs two weeks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for name in CODE:
            shutil.copytree(PROJECT_ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy(PROJECT_ROOT / name, root / name)
        own = root / "include" / "use_cases" / "tiny_orders"
        shutil.copytree(
            PROJECT_ROOT / "tests" / "use_cases" / "tiny_orders", own, ignore=shutil.ignore_patterns("__pycache__")
        )
        spec = own / "use_case.yaml"
        text = spec.read_text()
        for name, days in (("holdout_days", 5), ("min_train_days", 6), ("min_holdout_rows", 100), ("max_p99_ms", 9000)):
            text = re.sub(rf"{name}: \d+", f"{name}: {days}", text)
        spec.write_text(text + "  max_p99_ms: 9000\n")  # of the deliveries, which come last
        self.git("init", "-q", "-b", "develop")
        self.commit("the code")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, message: str) -> str:
        """Commit everything; returns the revision."""
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def change(self, path: str, content: str) -> str:
        """Write a file and commit it; returns the revision."""
        (self.root / path).write_text(content)
        return self.commit(f"change {path}")

    def attest(self, revision: str, **message: str) -> None:
        """Vouch for a revision as CI does, by building its wheel beside it."""
        from airworthy.platform.releasing import build_wheel
        from airworthy.training.folders import sha256

        scratch = self.root.parent / f"wheel-{revision}"
        if not message:
            source = scratch / "source"
            source.mkdir(parents=True)
            archive = self.root.parent / f"{revision}.tar"
            self.git("archive", f"--output={archive}", revision)
            subprocess.run(["tar", "-xf", str(archive), "-C", str(source)], check=True)
            message = {"by": "ci", "wheel": sha256(build_wheel(source, scratch / "wheels").read_bytes())}
        self.git("tag", "-f", "-a", "-m", json.dumps(message), f"tested/{revision}", revision)
