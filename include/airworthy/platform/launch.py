"""``python -m airworthy.platform.launch PROGRAM``: what the supervisor runs. It becomes the program.

A program that was killed leaves its children behind: workers that hold memory, or the port that its successor needs.
So whatever is left of the last run of this program is ended first.
"""

from __future__ import annotations

import logging
import os
import sys

from airworthy.config import get_settings
from airworthy.platform import processes, programs

log = logging.getLogger("airworthy.platform.launch")


def main() -> None:
    """Clean up after the last run, then replace this process by the program."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    settings, program = get_settings(), programs.get(sys.argv[1])
    if program.name != "postgres":  # PostgreSQL is to survive its holder
        # Again until none is left: a worker without its parent may start a task while it is being ended.
        while left := processes.belonging(settings, program.name):
            log.warning(
                "ending what an earlier %s left behind: %s", program.name, ", ".join(map(processes.words, left))
            )
            processes.end(left, patience_s=3)
    command = program.command(settings)
    log.info("starting %s", program.title)
    os.execve(command[0], command, programs.process_env(settings, program))  # noqa: S606 - our own program, no shell


if __name__ == "__main__":
    main()
