"""``make docs``: every relative link of the documents must lead to a file."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from airworthy.config.settings import PROJECT_ROOT

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)[^)]*\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)


def documents(root: Path) -> list[Path]:
    """The documents: Markdown at the root and under ``docs/``."""
    return sorted([*root.glob("*.md"), *(root / "docs").rglob("*.md")])


def broken(document: Path) -> list[str]:
    """Relative links of a document that lead nowhere. Links to the web are not followed."""
    text = CODE.sub("", document.read_text(encoding="utf-8"))
    targets = [t for t in LINK.findall(text) if not re.match(r"[a-z]+:|#", t)]
    return [t for t in targets if not (document.parent / t.partition("#")[0]).exists()]


def main(root: Path = PROJECT_ROOT) -> int:
    """Check all; returns 1 when a link is broken."""
    found = {d: broken(d) for d in documents(root)}
    for document, links in found.items():
        for link in links:
            sys.stderr.write(f"{document.relative_to(root)}: {link} does not exist\n")
    sys.stdout.write(
        f"{len(found)} documents, {sum(map(len, found.values()))} broken links; start with docs/architecture.md\n"
    )
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
