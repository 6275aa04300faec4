"""Parts of a job: on every engine the same archive, whatever is killed; and what each refuses."""

import json
import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from tasks import bad, dies, square
from test_jobs import RECIPE, quiet, write_scene

from embarchive import errors, jobs, verify
from embarchive.engine import OBJECT_STORE, Engine, _WithoutRay, fitting_workers, opened
from embarchive.recipe import Recipe
from embarchive.staging import read_plan
from embarchive.step_plan import shard_names
from embarchive.store import open_store

needs_ray = pytest.mark.skipif(
    find_spec("ray") is None, reason="needs ray, which the extra cluster installs"
)
ENGINES = ["process", pytest.param("ray", marks=needs_ray)]
# Twelve shards and twelve regions.
SMALL = replace(RECIPE, precision=6, gsd=60.0, region_prefix=5, shard_prefix=5)
HERE = Path(__file__).parent


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers find the tasks of the tests."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(HERE), *sys.path]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ENGINES)
def test_workers_do_all_parts_and_again_those_whose_worker_was_killed(
    kind: str, importable: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[str, int, int]] = []
    with opened(Engine(kind, 2)) as pool:
        assert pool.workers == 2
        assert pool.run(square, 5, "squares", lambda *now: told.append(now)) == 30
        assert pool.run(partial(dies, str(tmp_path), 1), 4, "parts", quiet) == 4
        with pytest.raises(errors.BadInput, match="expected data"):
            pool.run(bad, 5, "parts", quiet)
    assert told == [("squares", done, 5) for done in range(1, 6)]
    assert (tmp_path / "1-1").exists()
    lines = [record.getMessage() for record in caplog.records if record.name == "embarchive"]
    assert lines == [
        "parts: part 3/5 failed: scene a: expected data, found none",
        "parts: part 4/5 failed: ZeroDivisionError: by zero",
    ]


def test_a_part_that_kills_every_worker_is_one_line(importable: None, tmp_path: Path) -> None:
    with opened(Engine("process", 1)) as pool, pytest.raises(errors.EmbarchiveError) as caught:
        pool.run(partial(dies, str(tmp_path), 9), 2, "parts", quiet)
    assert "a worker was lost 4 times" in str(caught.value)
    assert len(list(tmp_path.glob("1-*"))) == 4


def test_one_process_does_the_other_parts_before_it_fails() -> None:
    with opened(Engine()) as pool:
        done = [part for part, outcome in pool.each(bad, 5) if outcome == 1]
        assert pool.run(square, 3, "squares", quiet) == 5
    assert done == [0, 1, 2]


@pytest.mark.parametrize(
    ("nodes", "engine", "fit"),
    [
        ([{"CPU": 4.0}], Engine("ray"), 4),
        ([{"CPU": 4.0}, {"memory": 1e9}, {"CPU": 2.0}], Engine("ray", 6), 6),
        ([{"CPU": 4.0, "GPU": 1.0}], Engine("ray", gpus=0.5), 2),
        ([{"CPU": 8.0, "GPU": 2.0}], Engine("ray", gpus=0.1), 8),
        ([{"CPU": 8.0, "GPU": 2.0}], Engine("ray", gpus=0.6), 2),
        ([{"CPU": 8.0, "GPU": 4.0}, {"CPU": 1.0, "GPU": 4.0}], Engine("ray", gpus=2), 3),
    ],
)
def test_workers_are_those_that_fit(
    nodes: list[dict[str, float]], engine: Engine, fit: int
) -> None:
    assert fitting_workers(nodes, engine) == fit


@pytest.mark.parametrize(
    ("nodes", "engine"),
    [
        ([{"CPU": 4.0}], Engine("ray", 5)),
        ([{"CPU": 4.0}], Engine("ray", gpus=0.5)),
        ([{"CPU": 4.0, "GPU": 1.0}], Engine("ray", 2, gpus=0.6)),
        # A worker's two GPUs are of one machine.
        ([{"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}], Engine("ray", gpus=2)),
        ([], Engine("ray")),
    ],
)
def test_more_than_fits_is_one_line(nodes: list[dict[str, float]], engine: Engine) -> None:
    with pytest.raises(errors.BadInput, match=r"^ray: expected room for .* found \d: .* GPU$"):
        fitting_workers(nodes, engine)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Engine("serial", 2), "serial has 1 worker, found --workers 2"),
        (lambda: Engine("process", 2, "auto"), "--ray-address needs --engine ray"),
        (lambda: Engine(gpus=1), "--gpus-per-worker needs --engine ray, found --engine serial"),
    ],
)
def test_an_engine_refuses_what_it_does_not_have(make: Callable[[], Engine], said: str) -> None:
    with pytest.raises(errors.BadInput, match=said):
        make()


def test_without_ray_one_line_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    engine = Engine("ray")
    with pytest.raises(errors.MissingExtra, match=r"install embarchive\[cluster\]$"):
        jobs.build(["a.tif"], str(tmp_path / "A"), SMALL, engine=engine, progress=quiet)
    assert not (tmp_path / "A").exists()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("scenes")
    return [str(write_scene(folder / f"field_2023060{day}.tif", day)) for day in (1, 2)]


@pytest.fixture(scope="module")
def serial(scenes: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("serial") / "archive"
    jobs.build(scenes, str(out), SMALL, progress=quiet)
    return out


def content(archive: Path) -> set[str]:
    """The objects of an archive but for the generation, whose commit id is random, and what a write
    that was killed leaves."""
    found = {path.relative_to(archive).as_posix() for path in archive.rglob("*") if path.is_file()}
    odd = re.compile(r"manifests/\w+\.json|(.*/)?\.tmp-\w+")
    return {name for name in found if not odd.fullmatch(name)}


def command(scenes: list[str], out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "embarchive.cli", "build", *scenes, "--out", str(out), *more]


@needs_ray
def test_a_gpu_that_is_not_there_is_one_line_before_anything_starts(
    scenes: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "archive"
    line = command(scenes, out, "--engine", "ray", "--workers", "1", "--gpus-per-worker", "64")
    done = subprocess.run(line, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2
    assert "expected room for 1 workers of 1 CPU and 64 GPU each, found 0" in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()


@needs_ray
@pytest.mark.parametrize("address", ["ray://127.0.0.1:1", "127.0.0.1:1", "127.0.0.1:none"])
def test_a_cluster_that_is_not_there_is_one_line_at_once(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(errors.BadInput, match=f"^ray: expected a cluster at {address}, found none"):
        opened(Engine("ray", address=address)).__enter__()
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("kind", ENGINES)
def test_a_killed_build_of_two_workers_goes_on_and_gives_the_archive_of_one(
    kind: str, scenes: list[str], serial: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "archive", tmp_path / "recipe.toml"
    recipe.write_text(toml(SMALL), encoding="utf-8")
    line = command(
        scenes, out, "--recipe", str(recipe), "--engine", kind, "--workers", "2", "--json"
    )
    with subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        try:
            for _ in waiting(200):
                if child.poll() is not None or list(out.glob("staging/*/encode/*.json")):
                    break
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL
    kept = settled(out)
    shards = len(shard_names(read_plan(open_store(out), None)[1]))
    assert 0 < len(kept) < shards == 12
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=True)
    assert json.loads(done.stdout)["encoded"] == shards - len(kept)
    assert "encode parts 4/4" in done.stderr
    assert {path: path.stat().st_mtime_ns for path in out.glob("embeddings/*/*")}.items() >= (
        kept.items()
    )
    assert content(out) == content(serial)
    assert verify.verify(open_store(out))["ok"]


def test_what_ray_prints_goes_to_the_log_and_what_others_print_does_not(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "embarchive")
    aside = _WithoutRay(sys.stdout)
    with redirect_stdout(aside):
        print("ours")
        ray = threading.Thread(target=print, args=("pages of logs",), name="ray_listen")
        ray.start()
        ray.join()
        aside.ours = False
        print("more pages")
    assert capsys.readouterr().out == "ours\n"
    assert [text for text in caplog.messages if text] == ["pages of logs", "more pages"]


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A Ray cluster of a head without cores and two nodes with one each, all on this machine."""
    if not os.environ.get("EMBARCHIVE_TORTURE"):
        pytest.skip("slow: `make torture` runs it")
    from ray.cluster_utils import Cluster

    each = {"object_store_memory": OBJECT_STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **each})
    try:
        yield cluster, [cluster.add_node(num_cpus=1, **each) for _ in range(2)]
    finally:
        cluster.shutdown()


@needs_ray
@pytest.mark.filterwarnings("ignore")
def test_a_build_goes_on_when_a_node_of_the_cluster_is_lost(
    two_nodes: Any, scenes: list[str], serial: Path, tmp_path: Path
) -> None:
    cluster, nodes = two_nodes
    line, out = small(scenes, tmp_path, "--ray-address", cluster.address)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        wait_for_a_shard(child, out)
        kept = recorded(out)
        os.kill(nodes[0].all_processes["raylet"][0].process.pid, signal.SIGKILL)
        said, told = child.communicate(timeout=200)
    assert child.returncode == 0, told
    assert 0 < len(kept) < 12 and 12 - len(kept) <= json.loads(said)["encoded"] <= 12
    after = {path: path.stat().st_mtime_ns for path in out.glob("embeddings/*/*")}
    assert after.items() >= kept.items()
    assert content(out) == content(serial) and verify.verify(open_store(out))["ok"]


@needs_ray
def test_a_build_whose_own_raylet_is_killed_is_one_line_and_goes_on_when_run_again(
    scenes: list[str], serial: Path, tmp_path: Path
) -> None:
    if not os.environ.get("EMBARCHIVE_TORTURE"):
        pytest.skip("slow: `make torture` runs it")
    line, out = small(scenes, tmp_path)
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        wait_for_a_shard(child, out)
        [raylet] = raylets(child.pid)
        os.kill(raylet, signal.SIGKILL)
        said, told = child.communicate(timeout=200)
    assert (child.returncode, said) == (2, "")
    lines = [one for one in told.splitlines() if not re.match(r"[a-z ]+ \d+/\d+$", one)]
    assert lines == [
        "embarchive: ray: the node that the job started from was lost (its raylet died); run again"
    ]
    kept = settled(out)
    assert 0 < len(kept) < 12 and not (out / "embarchive.json").exists()
    done = subprocess.run(line, capture_output=True, text=True, timeout=200, check=True)
    assert json.loads(done.stdout)["encoded"] == 12 - len(kept)
    assert content(out) == content(serial)


def small(scenes: list[str], folder: Path, *more: str) -> tuple[list[str], Path]:
    """The command line of a build on Ray with two workers, and where it writes."""
    out, recipe = folder / "archive", folder / "recipe.toml"
    recipe.write_text(toml(SMALL), encoding="utf-8")
    ray = ["--engine", "ray", "--workers", "2", *more]
    return command(scenes, out, "--recipe", str(recipe), "--json", *ray), out


def wait_for_a_shard(child: subprocess.Popen[Any], out: Path) -> None:
    for _ in waiting(200):
        if list(out.glob("staging/*/encode/*.json")):
            break
        assert child.poll() is None, child.stderr and child.stderr.read()


def raylets(driver: int) -> list[int]:
    """The raylets that a process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            line, stat = (entry / "cmdline").read_bytes(), (entry / "stat").read_text()
        except OSError:
            continue
        parent = int(stat.rpartition(")")[2].split()[1])
        if line.split(b"\0")[0].endswith(b"raylet/raylet") and parent == driver:
            found.append(int(entry.name))
    return found


def settled(out: Path) -> dict[Path, int]:
    """Shards of finished records, with their times, once no orphan writes any more."""
    before = None
    for _ in waiting(60, 2.0):
        found = sorted(out.glob("staging/*/encode/*.json"))
        if found == before:
            break
        before = found
    return recorded(out)


def recorded(out: Path) -> dict[Path, int]:
    """Shards of finished records, with their times."""
    found = sorted(out.glob("staging/*/encode/*.json"))
    names = [shard["sha256"] for path in found for shard in json.loads(path.read_text())["shards"]]
    paths = [path for name in names for path in out.glob(f"embeddings/*/{name}.parquet")]
    return {path: path.stat().st_mtime_ns for path in paths}


def waiting(most: float, every: float = 0.01) -> Iterator[None]:
    """Again and again, until the test has waited too long."""
    began = time.monotonic()
    while time.monotonic() - began < most:
        yield
        time.sleep(every)
    raise AssertionError(f"nothing happened for {most} s")


def toml(recipe: Recipe) -> str:
    """The recipe as its file: what is not the default."""
    tables: dict[str, dict[str, Any]] = {
        "archive": {key: getattr(recipe, key) for key in ("precision", "gsd", "region_prefix")}
        | {"shard_prefix": recipe.shard_prefix},
        "model": {
            key: getattr(recipe, key) for key in "dim bits steps adapter_steps batch".split()
        },
    }
    return "".join(
        f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in rows.items())
        for name, rows in tables.items()
    )
