"""Parts of jobs for the tests of engines; workers import this, so it imports little."""

import os
import signal
from pathlib import Path

from embarchive import errors


def square(part: int, parts: int) -> int:
    """What parts of a sum do."""
    return part * part


def bad(part: int, parts: int) -> int:
    """Two parts of five fail."""
    if part == 3:
        raise errors.BadInput("scene a: expected data,\nfound none")
    if part == 4:
        raise ZeroDivisionError("by zero")
    return 1


def dies(folder: str, times: int, part: int, parts: int) -> int:
    """Part 1 is killed as often as said; each try leaves a file."""
    tries = len(list(Path(folder).glob(f"{part}-*")))
    (Path(folder) / f"{part}-{tries}").touch()
    if part == 1 and tries < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return 1
