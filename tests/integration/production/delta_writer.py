"""A process that replaces the same interval as its rivals, round by round, all on handles of the same version.

``python delta_writer.py TABLE NAME RIVALS ROUNDS FOLDER``: prints one line for each round, ``won`` or the error.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake
from deltalake.exceptions import DeltaError

from airworthy.lake.tables import open_table


def meet(folder: Path, name: str, rivals: int, word: str) -> None:
    """Wait until every rival is here; a bound, so that a dead rival does not hold the others."""
    (folder / f"{word}-{name}").touch()
    deadline = time.monotonic() + 60
    while len(list(folder.glob(f"{word}-*"))) < rivals:
        if time.monotonic() > deadline:
            sys.exit(f"{word}: the others did not come")
        time.sleep(0.0005)


def main() -> None:
    table, name, rivals, rounds, folder = (
        sys.argv[1],
        sys.argv[2],
        int(sys.argv[3]),
        int(sys.argv[4]),
        Path(sys.argv[5]),
    )
    for number in range(rounds):
        handle = open_table(table)
        rows = pa.table(
            {"writer": [name] * 3, "round": pa.array([number] * 3, pa.int64()), "interval": ["2024-01-01"] * 3}
        )
        meet(folder, name, rivals, f"write-{number}")
        try:
            write_deltalake(handle, rows, mode="overwrite", predicate="\"interval\" = '2024-01-01'")
            sys.stdout.write("won\n")
        except DeltaError as error:
            words = str(error)[:100].replace("\n", " ")
            sys.stdout.write(f"{type(error).__name__}: {words}\n")
        meet(folder, name, rivals, f"done-{number}")


if __name__ == "__main__":
    main()
