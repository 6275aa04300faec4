"""Saves what a benchmark measured: the numbers with the commit, the command and the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def save(name: str, rows: Sequence[Mapping[str, Any]], results: Path = HERE / "results") -> Path:
    """Write results/NAME.json: {name, commit, command, machine, date, rows}, every row with
    the same keys. Gives the path."""
    if len({tuple(row) for row in rows}) > 1:
        raise ValueError(f"{name}: expected rows with the same keys, found {[*map(list, rows)]}")
    document = {
        "name": name,
        "commit": _commit(),
        "command": " ".join(["python", os.path.relpath(sys.argv[0], HERE.parent), *sys.argv[1:]]),
        "machine": _machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "rows": [dict(row) for row in rows],
    }
    path = results / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    return path


def _commit() -> str:
    """The commit, with a + when the checkout differs from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        return head + (
            "+"
            if _git("status", "--porcelain", "--", ":/src", ":/web", ":/benchmarks/*.py")
            else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _machine() -> str:
    """Kind of processor, cores this process may use, memory, system and Python."""
    model = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
            break
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()}, Python {platform.python_version()}"
    return f"{model}, {cores} cores, {memory:.0f} GiB, {system}"


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
