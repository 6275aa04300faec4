"""Fixtures of all tests."""

import os
from pathlib import Path

import browser as chromium
import pytest
import s3server

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


@pytest.fixture(scope="session")
def moto():
    """AWS_* variables of one moto server; tests take prefixes of their own in its `bucket`."""
    with s3server.serving_s3() as env:
        yield env


@pytest.fixture(params=["moto", "weed"])
def s3(request):
    """AWS_* variables of each server in turn."""
    server = request.getfixturevalue(request.param)
    return server if request.param == "moto" else server.environment()


@pytest.fixture(scope="session")
def weed(tmp_path_factory):
    """One SeaweedFS server; tests take prefixes of their own in its buckets."""
    with s3server.serving_weed(tmp_path_factory.mktemp("weed")) as one:
        yield one
