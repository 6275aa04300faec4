"""The tables in the README come from the results, and results say where they come from."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from networks import TINY, random_chips, random_weights

from embarchive import model

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


def test_the_gradient_mass_of_mu_is_that_of_finite_differences(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    field = load("bench_receptive_field")
    weights, chip = random_weights(TINY, "encoder"), random_chips(TINY, 1)
    # Steps of zero: nothing is rounded.
    weights["step"][:] = 0
    mass = field.masses(TINY, weights, chip)
    for y, x in ((0, 0), (7, 20), (15, 31)):
        found = np.zeros(TINY.dim)
        for band in range(TINY.bands):
            nudge = np.zeros_like(chip)
            nudge[0, band, y, x] = 1e-2 * weights["std"][band]
            ends = (model.encode_batch(TINY, weights, chip + way * nudge)[0] for way in (1, -1))
            found += abs(np.subtract(*ends)) / 2e-2
        np.testing.assert_allclose(mass[:, y, x], found, rtol=0.05, atol=2e-3 * found.max())


def test_radii_hold_their_share_of_a_mass(monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    radius = load("bench_receptive_field").radius
    point = np.zeros((5, 7))
    point[2, 3] = 1
    assert radius(point, 0.9) == 0
    point[2, 6] = 1
    assert (radius(point, 0.5), radius(point, 0.51)) == (0, 3)
    wide = np.ones((200, 200))
    assert radius(wide, 0.5) == pytest.approx((0.5 * 200**2 / np.pi) ** 0.5, rel=0.01)
