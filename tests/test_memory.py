"""Arrays that a job has freed are no longer its memory."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
import numpy as np
from embarchive.memory import give_back

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024

np.ones(30 << 20, np.uint8)  # its end moves glibc's threshold
before = resident()
large = [np.ones(10 << 20, np.uint8) for _ in range(20)]
small = [np.ones(100_000, np.uint8)]
del large
if sys.argv[1] == "trim":
    give_back()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc")
def test_what_is_freed_below_something_small_is_given_back():
    grown = int(subprocess.check_output([sys.executable, "-c", SCRIPT, "trim"]))
    assert grown < 20
