"""``python parse_dags.py ROOT``: import every DAG file under a folder, as the DAG processor does it, without a database.

The staging of a pipeline release runs it in the release's environment. What cannot be imported is told, and the status is 1.
"""

from __future__ import annotations

import sys
from pathlib import Path


def main(root: Path) -> str:
    """What is wrong with the DAG files; empty when nothing is."""
    sys.path.insert(0, str(root / "plugins"))
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(root / "dags")
    return "\n".join(f"{file}: {words}" for file, words in bag.import_errors.items()) or ("" if bag.dags else "no DAG")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) or None)
