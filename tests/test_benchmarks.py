"""The tables in the README come from the results, and results say where they come from."""

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(name, BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_result_says_commit_command_machine_and_date(tmp_path):
    path = load("report").save("speed", [{"n": 1, "seconds": 0.5}], tmp_path)
    document = json.loads(path.read_text())
    assert set(document) == {"name", "commit", "command", "machine", "date", "rows"}
    assert document["rows"] == [{"n": 1, "seconds": 0.5}]


def test_rows_with_different_keys_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same keys"):
        load("report").save("speed", [{"n": 1}, {"m": 1}], tmp_path)


def test_only_the_tables_with_a_result_are_written_anew(tmp_path):
    load("report").save("speed", [{"n": 12345, "seconds": 0.12345, "ok": True}], tmp_path)
    text = "a\n<!-- table speed -->\nold\n<!-- end speed -->\n<!-- table x -->\nb\n<!-- end x -->\n"
    filled = load("tables").fill(text, tmp_path)
    assert "| 12,345 | 0.123 | yes |" in filled
    assert "old" not in filled
    assert filled.endswith("<!-- table x -->\nb\n<!-- end x -->\n")
    assert load("tables").fill(filled, tmp_path) == filled


def test_the_readme_is_up_to_date_with_the_results():
    assert load("tables").main(["--check"]) == 0
