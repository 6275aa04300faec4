"""Golden files: what Python computes, as JSON that the page's modules are held to.

Each module here has `make()`, whose value is the JSON file of the same name beside it. `python
tests/golden` writes them all; `tests/test_golden.py` fails when one is stale, and
`web/tests/<module>.test.js` reads it.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def topics() -> list[str]:
    """Names of the golden files."""
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def text(topic: str) -> str:
    """A golden file as it should be."""
    value: Any = importlib.import_module(f"golden.{topic}").make()
    return json.dumps(value, allow_nan=False) + "\n"


def write() -> None:
    """Write the files named on the command line, or all."""
    for topic in sys.argv[1:] or topics():
        (HERE / f"{topic}.json").write_text(text(topic))
        print(f"tests/golden/{topic}.json")
