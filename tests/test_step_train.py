"""Regions of a plan train together, in bounded memory; a run that was killed goes on."""

import numpy as np
import pytest
from test_jobs import quiet, write_scene

from embarchive import jobs, step_train
from embarchive.fit_regions import Area
from embarchive.gather import Sample
from embarchive.recipe import Recipe

RECIPE = Recipe(
    precision=6, gsd=60.0, region_prefix=5, dim=16, bits=64, steps=5, adapter_steps=3, batch=8
)


def chips(name):
    """A region with training and test chips of 1,024 bytes, as many as its name says and 1."""
    count = int(name)
    sample = Sample(np.zeros(count + 1, "U1"), np.zeros((count + 1, 1, 16, 16), np.float32),
                    np.ones((count + 1, 16, 16), bool), True)  # fmt: skip
    mask = np.arange(count + 1) < count
    return Area(name, sample.only(mask), sample.only(~mask), count + 1)


def planned(tmp_path):
    """An archive's plan with its shared networks trained, and its number of regions."""
    scene = write_scene(tmp_path / "field_20230601.tif", 1)
    out = str(tmp_path / "archive")
    made = jobs.plan([str(scene)], out, RECIPE, parts=1)
    jobs.train(out, plan=None, part=None, backbone=True, progress=quiet)
    return out, made["regions"]


def trained(out, monkeypatch, stop=None):
    """Regions trained and written by a run that dies at the write of number `stop`."""
    fitted, written = [], []
    fit, write = step_train.fit_regions.fit_adapters, step_train.fit_regions.write_region

    def fit_seen(base, settings, recipe, some):
        fitted.extend(some)
        return fit(base, settings, recipe, some)

    def write_seen(*given):
        if len(written) == stop:
            raise KeyboardInterrupt
        written.append(given[1].region)
        return write(*given)

    with monkeypatch.context() as patch:
        patch.setattr(step_train.fit_regions, "fit_adapters", fit_seen)
        patch.setattr(step_train.fit_regions, "write_region", write_seen)
        if stop is None:
            jobs.train(out, plan=None, part=None, backbone=False, progress=quiet)
        else:
            with pytest.raises(KeyboardInterrupt):
                jobs.train(out, plan=None, part=None, backbone=False, progress=quiet)
    return len(fitted), written


def test_a_run_that_died_leaves_its_records_and_the_next_one_trains_only_the_others(
    tmp_path, monkeypatch
):
    out, count = planned(tmp_path)
    assert count >= 6
    _, first = trained(out, monkeypatch, stop=3)
    fitted, second = trained(out, monkeypatch)
    assert len(first) == 3
    assert fitted == len(second) == count - 3
    assert len({*first, *second}) == count
    assert trained(out, monkeypatch) == (0, [])


def test_regions_are_read_as_many_at_once_as_fit(monkeypatch):
    monkeypatch.setattr(step_train, "CHUNK_ROOM", 10 << 10)
    counts = [3, 3, 1, 1, 50, 2, 9, 0]
    found = list(step_train.chunks([str(n) for n in counts], chips))
    assert [area.region for chunk in found for area in chunk] == [str(n) for n in counts]
    assert [[area.region for area in chunk] for chunk in found] == [
        ["3", "3", "1"], ["1"], ["50"], ["2"], ["9"], ["0"],
    ]  # fmt: skip


def test_regions_are_counted_one_by_one_on_the_way(tmp_path):
    out, count = planned(tmp_path)
    said = []
    jobs.train(out, plan=None, part=None, backbone=False, progress=lambda *now: said.append(now))
    assert [now for now in said if now[0] == "regions"] == [
        ("regions", done + 1, count) for done in range(count)
    ]
