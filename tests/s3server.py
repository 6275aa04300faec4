"""A real S3 server, moto, in a process of its own."""

import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing, contextmanager

import pytest


@contextmanager
def serving_s3():
    """AWS_* variables of a server with an empty bucket named `bucket`."""
    pytest.importorskip("moto.server")
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    moto = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(
                    urllib.request.Request(f"{url}/bucket", method="PUT")
                ).close()
                break
            except OSError:
                assert time.monotonic() < until
                time.sleep(0.1)
        yield {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s", "AWS_ALLOW_HTTP": "1",
               "AWS_ENDPOINT_URL": url}  # fmt: skip
    finally:
        moto.terminate()
        moto.wait()
