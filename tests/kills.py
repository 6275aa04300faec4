"""Runs that die: a job in a process of its own, killed at a random moment, over and over."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np


def killed_once(code: str, root: object, seconds: float) -> bool:
    """Whether a run was killed: code of a process that is told `root` and prints a line when it is
    about to work, `seconds` after that."""
    line = [sys.executable, "-c", code, str(root)]
    child = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    child.stdout.close()
    assert child.wait() in (0, -signal.SIGKILL)
    return child.returncode != 0


def killed_runs(job: str, least: float, most: float, times: int = 3) -> Iterator[None]:
    """Once after each kill. job: a call of `jobs` without its last arguments, such as
    "build(['a.tif'], 'A', Recipe()"; least, most: seconds that a run lives.

    EMBARCHIVE_TORTURE: 20 times; EMBARCHIVE_SEED: other moments.
    """
    code = (
        "from embarchive import jobs\nfrom embarchive.recipe import Recipe\n"
        f"jobs.{job}, workers=1, progress=lambda stage, done, total: None)"
    )
    rng = np.random.default_rng(int(os.environ.get("EMBARCHIVE_SEED", "0")))
    for _ in range(20 if os.environ.get("EMBARCHIVE_TORTURE") else times):
        child = subprocess.Popen([sys.executable, "-c", code])
        time.sleep(float(rng.uniform(least, most)))
        child.send_signal(signal.SIGKILL)
        # A run that had ended was done; any other was killed, and did not fail by itself.
        assert child.wait() in (0, -signal.SIGKILL)
        yield
