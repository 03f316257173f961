"""The forge's CI does what .ci/run does, and may no more than it needs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[3]
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
JOBS: dict[str, Any] = WORKFLOW["jobs"]
SCRIPT = (ROOT / ".ci" / "run").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def commands(job: str) -> list[str]:
    return [step["run"] for step in JOBS[job]["steps"] if "run" in step]


def targets(lines: list[str]) -> list[str]:
    found = re.findall(r"^\s*make (?:-s )?([a-z-]+)", "\n".join(lines), re.MULTILINE)
    return [str(name) for name in found]


def test_the_tests_are_those_of_the_script_in_its_order() -> None:
    here = targets(SCRIPT.splitlines())

    assert here == ["setup", "lint", "interpreters", "test"]
    assert targets(commands("test")) == here


def test_the_machine_gets_the_programs_of_the_script() -> None:
    wanted = re.search(r"for package in (.+); do", SCRIPT)
    assert wanted
    (install,) = [line for line in commands("test") if "apt-get" in line]
    given = install.partition("--no-install-recommends")[2].split()

    assert {*given, "chromium"} == set(wanted[1].split())  # the browser is part of the runner's image


def test_the_environment_is_the_scripts() -> None:
    (line,) = [line for line in SCRIPT.splitlines() if line.startswith("export")]
    given = dict(re.findall(r"(\w+)=(\S+)", line))

    assert given.pop("CI") == "true"  # the forge says so by itself
    assert WORKFLOW["env"] == given


def test_every_target_is_one_of_the_makefile() -> None:
    known = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

    for job in JOBS:
        used = set(targets(commands(job)))
        assert used, job
        assert used <= known, job


def test_actions_are_pinned_by_commit() -> None:
    used = [step["uses"] for job in JOBS.values() for step in job["steps"] if "uses" in step]

    assert used
    assert [u for u in used if not re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", u)] == []


def test_a_job_may_no_more_than_it_needs() -> None:
    assert WORKFLOW["permissions"] == {"contents": "read"}
    beyond = {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job}
    assert beyond == {
        "metrics": {"contents": "read", "pull-requests": "write"},
        "attest": {"contents": "write"},
    }
    for name, job in JOBS.items():
        assert job["timeout-minutes"] <= 90
        for step in job["steps"]:
            if "checkout" in step.get("uses", "") and name != "attest":
                assert step["with"]["persist-credentials"] is False, f"{name} keeps a token on the disk"


def test_a_revision_is_attested_only_after_its_tests_passed() -> None:
    attest = JOBS["attest"]

    assert set(attest["needs"]) == {"test", "package"}
    assert attest["if"] == "github.event_name == 'push'"
    assert "always()" not in str(attest)
    assert [name for name in JOBS if "attest" in " ".join(commands(name))] == ["attest"]
