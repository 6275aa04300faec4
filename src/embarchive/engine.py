"""The parts of a job in processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from embarchive.errors import EmbarchiveError

Result = TypeVar("Result")


def run(task: Callable[[int, int], Result], parts: int, workers: int) -> Iterator[Result]:
    """Call `task(i, parts)` for each part and yield the results as they come.

    The task and its results must pickle. Raises the first error; a worker that was killed is
    one clear line, and a rerun does what is missing.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        waiting = [pool.submit(task, part, parts) for part in range(parts)]
        try:
            for done in as_completed(waiting):
                yield done.result()
        except BrokenProcessPool:
            raise EmbarchiveError("build: a worker process was killed; run again") from None
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
