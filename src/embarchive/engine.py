"""The parts of a job, one after the other, in processes of this machine, or on a Ray cluster.

What a part writes is named by its content and recorded last, so that a part may run twice, and one
whose worker was lost is simply run again.
"""

from __future__ import annotations

import io
import logging
import math
import multiprocessing
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, TextIO

from embarchive.errors import BadInput, EmbarchiveError, MissingExtra
from embarchive.progress import Report

ENGINES = ("serial", "process", "ray")
# Times that a part whose worker was lost is run again.
RETRIES = 3
# Ray's own floor is 75 MiB; parts hand over a number each.
OBJECT_STORE = 80 << 20
# Seconds for a cluster to take a connection.
KNOCK = 10.0
_log = logging.getLogger("embarchive")

Task = Callable[[int, int], int]
"""Does part i of N and says how much it did; it pickles, and may be done twice."""
Outcome = tuple[int, int | Exception]
"""A part, and what its task gave or raised."""


@dataclass(frozen=True)
class Engine:
    """Where parts run: serial, process or ray.

    workers: parts at once, None for as many as there are cores; address: of a Ray cluster, None
    for one on this machine that lives as long as the job; gpus: that Ray sets aside for each
    worker, which may be a share of one. Raises BadInput for what a kind does not have.
    """

    kind: str = "serial"
    workers: int | None = None
    address: str | None = None
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.kind == "serial" and self.workers not in (None, 1):
            raise BadInput(f"build: --engine serial has 1 worker, found --workers {self.workers}")
        if self.kind != "ray" and (self.address or self.gpus):
            what = "--ray-address" if self.address else "--gpus-per-worker"
            raise BadInput(f"build: {what} needs --engine ray, found --engine {self.kind}")


@dataclass(frozen=True)
class Pool:
    """An engine that is up. spread: whether its workers may be on other machines."""

    workers: int
    spread: bool
    each: Callable[[Task, int], Iterator[Outcome]]

    def run(self, task: Task, parts: int, stage: str, progress: Report) -> int:
        """Do all parts, and return the sum of what they did. Logs one line a failed part, and then
        raises what the first of them raised."""
        total, failed = 0, dict[int, Exception]()
        for done, (part, outcome) in enumerate(self.each(task, parts)):
            if isinstance(outcome, Exception):
                failed[part] = outcome
            else:
                total += outcome
            progress(stage, done + 1, parts)
        for part, error in sorted(failed.items()):
            _log.error("%s: part %d/%d failed: %s", stage, part, parts, _line(error))
        if failed:
            raise failed[min(failed)]
        return total


@contextmanager
def opened(engine: Engine) -> Iterator[Pool]:
    """The engine, ready to work, until the block ends.

    Raises BadInput for what the cluster does not have, MissingExtra without Ray.
    """
    if engine.kind == "ray":
        with _cluster(engine) as pool:
            yield pool
    elif engine.kind == "process":
        workers = engine.workers or os.cpu_count() or 1
        yield Pool(workers, False, lambda task, parts: _processes(task, parts, workers))
    else:
        yield Pool(1, False, _serial)


def _line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, EmbarchiveError) else f"{type(error).__name__}: {text}"


def _lost() -> EmbarchiveError:
    return EmbarchiveError(
        f"build: a worker was lost {RETRIES + 1} times (killed, or out of memory); run again"
    )


def _serial(task: Task, parts: int) -> Iterator[Outcome]:
    for part in range(parts):
        try:
            yield part, task(part, parts)
        except Exception as error:
            yield part, error


def _processes(task: Task, parts: int, workers: int) -> Iterator[Outcome]:
    """A killed worker takes its whole pool along: what is left goes to a new one."""
    left = set(range(parts))
    for _ in range(RETRIES + 1):
        for part, outcome in _one_pool(task, parts, sorted(left), workers):
            if not isinstance(outcome, BrokenProcessPool):
                left.remove(part)
                yield part, outcome
        if not left:
            return
    for part in sorted(left):
        yield part, _lost()


def _one_pool(task: Task, parts: int, wanted: Sequence[int], workers: int) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        waiting = {}
        try:
            for part in wanted:
                waiting[pool.submit(task, part, parts)] = part
        except BrokenProcessPool:
            pass  # so early that not all are handed in; those that are say the same
        try:
            for done in as_completed(waiting):
                error = done.exception()
                if error is not None and not isinstance(error, Exception):
                    raise error
                yield waiting[done], done.result() if error is None else error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _die_with_parent() -> None:
    """A worker whose job was killed would otherwise wait for its next part for ever."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _cluster(engine: Engine) -> Iterator[Pool]:
    try:
        import ray
    except ImportError:
        raise MissingExtra("build: --engine ray needs Ray, install embarchive[cluster]") from None
    # Ray would report usage to its makers.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if engine.address is None:
        quiet |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
        # Not the cluster that RAY_ADDRESS may name.
        quiet |= {"num_cpus": engine.workers or os.cpu_count() or 1, "address": "local"}
    else:
        _knock(engine.address)
        quiet["address"] = engine.address
    try:
        ray.init(**quiet)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        where = engine.address or "this machine"
        hint = " (a cluster with a token wants it in RAY_AUTH_TOKEN)" if engine.address else ""
        said = f"ray: expected a cluster at {where}, found none: {_line(error)}{hint}"
        raise BadInput(said) from None
    aside = _WithoutRay(sys.stdout)
    with redirect_stdout(aside):
        try:
            known: Callable[[], Any] = ray.nodes
            nodes = [node["Resources"] for node in known() if node["Alive"]]
            workers = fitting_workers(nodes, engine)
            yield Pool(workers, True, lambda task, parts: _rays(task, parts, workers, engine.gpus))
        finally:
            aside.ours = False
            ray.shutdown()


class _WithoutRay(io.TextIOBase):
    """Standard output without what Ray prints there: its nodes' logs, when one of them is lost."""

    def __init__(self, out: TextIO) -> None:
        self._out, self.ours = out, True

    def write(self, text: str) -> int:
        if self.ours and not threading.current_thread().name.startswith("ray_"):
            return self._out.write(text)
        _log.debug("%s", text.rstrip())
        return len(text)

    def flush(self) -> None:
        self._out.flush()


def _knock(address: str) -> None:
    """Whether anybody is there: Ray itself tries for minutes. Raises BadInput."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=KNOCK).close()
    except (OSError, OverflowError, ValueError) as error:
        said = f"ray: expected a cluster at {address}, found none: {_line(error)}"
        raise BadInput(said) from None


def fitting_workers(nodes: Sequence[Mapping[str, float]], engine: Engine) -> int:
    """Workers at once on nodes with these resources, by Ray's names (CPU, GPU), one core each.

    Raises BadInput where they are fewer than asked for, or none: Ray itself would wait for ever.
    """
    cores = sum(int(node.get("CPU", 0)) for node in nodes)
    gpus = sum(node.get("GPU", 0.0) for node in nodes)
    fit = sum(_fit(node, engine.gpus) for node in nodes)
    wanted = engine.workers or 1
    if fit < wanted:
        each = f"1 CPU and {engine.gpus:g} GPU" if engine.gpus else "1 CPU"
        raise BadInput(
            f"ray: expected room for {wanted} workers of {each} each, found {fit}: the cluster "
            f"has {len(nodes)} nodes, {cores} CPU, {gpus:g} GPU"
        )
    return engine.workers or fit


def _fit(node: Mapping[str, float], gpus: float) -> int:
    cores = int(node.get("CPU", 0))
    if not gpus:
        return cores
    have = node.get("GPU", 0.0)
    # A share of a GPU lies on one of them.
    most = int(have) * math.floor(1 / gpus + 1e-9) if gpus < 1 else math.floor(have / gpus + 1e-9)
    return min(cores, most)


def _rays(task: Task, parts: int, workers: int, gpus: float) -> Iterator[Outcome]:
    """At most `workers` parts at once, on whatever cluster."""
    import ray
    from ray.exceptions import LocalRayletDiedError, RayError, RayTaskError, WorkerCrashedError

    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_settled)
    left = iter(range(parts))
    running: dict[Any, int] = {}
    while True:
        for part in left:
            running[remote.remote(task, part, parts)] = part
            if len(running) >= workers:
                break
        if not running:
            return
        for done in ray.wait(list(running), num_returns=1)[0]:
            part = running.pop(done)
            try:
                yield part, ray.get(done)
            except WorkerCrashedError:
                yield part, _lost()
            except LocalRayletDiedError:
                # No other part can run either.
                said = (
                    "ray: the node that the job started from was lost (its raylet died); run again"
                )
                raise EmbarchiveError(said) from None
            except RayTaskError as error:
                yield part, EmbarchiveError(f"ray: {_line(error.cause)}")
            except RayError as error:
                yield part, EmbarchiveError(f"ray: {_line(error)}")


def _settled(task: Task, part: int, parts: int) -> int | Exception:
    """What the task gave or raised: errors come back as they are, not in Ray's wrapping."""
    try:
        return task(part, parts)
    except Exception as error:
        return error
