"""Fixtures of all tests."""

import os
from pathlib import Path

import browser as chromium
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


@pytest.fixture(scope="session")
def browser():
    """One Chromium for all tests that want it; they are left out only on request."""
    if chromium.WITHOUT:
        pytest.skip("EMBARCHIVE_NO_BROWSER=1")
    with chromium.launched() as one:
        yield one


@pytest.fixture
def page(browser):
    """A tab of its own; `page.seen` has its requests, its console, errors and violations."""
    with chromium.opened(browser) as tab:
        yield tab


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests in a browser go to one worker, so that one browser is enough."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("browser"))
