"""Fixtures of all tests."""

import os
from pathlib import Path

import pytest

# Two test processes on two cores: more threads would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def real_data():
    """The folder of real imagery, from EMBARCHIVE_DATA or ../shared/data beside the checkout."""
    beside = Path(__file__).parent.parent.parent / "shared" / "data"
    folder = Path(os.environ.get("EMBARCHIVE_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real imagery: EMBARCHIVE_DATA is not set and {folder} is not there")
    return folder
