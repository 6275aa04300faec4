"""The watch on errors: what it finds, what it lets pass, and what it says of regions."""

import numpy as np
import pytest

from embarchive import drift


def errors(count, level, seed=0):
    """Errors of tiles as they are: some many times larger than most, `level` in the mean."""
    found = np.random.default_rng(seed).lognormal(0, 1, count)
    return found * level / np.exp(0.5)


def by_hand(values, level):
    """The sums, batch by batch."""
    total, sums = 0.0, []
    for start in range(0, len(values), 8):
        some = values[start : start + 8]
        total = max(0.0, total + (np.log(np.mean(some) / level) - 0.2) * len(some) / 8)
        sums.append(total)
    return sums


def test_the_sums_are_those_of_page():
    found = errors(101, 2.0)
    assert drift.cumulative(found, 1.3) == pytest.approx(by_hand(found, 1.3), abs=1e-12)
    assert drift.watch(found, 1.3, 1e9).highest == max(drift.cumulative(found, 1.3))


def test_errors_at_their_level_are_no_drift():
    alarms = [drift.watch(errors(200, 0.01, seed), 0.01, 3.0).alarm for seed in range(200)]
    assert sum(alarm is not None for alarm in alarms) <= 2


def test_errors_three_times_the_level_are_found_within_a_hundred_tiles():
    for seed in range(50):
        before, after = errors(40, 1.0, seed), errors(100, 3.0, 1000 + seed)
        alarm = drift.watch(np.concatenate([before, after]), 1.0, 3.0).alarm
        assert alarm is not None
        assert alarm > 8


def test_one_odd_tile_is_no_drift():
    found = np.ones(80)
    found[17] = 100.0
    assert drift.watch(found, 1.0, 3.0).alarm is None


def test_no_tiles_are_no_drift():
    seen = drift.watch(np.zeros(0), 1.0, 3.0)
    assert (seen.tiles, seen.alarm, seen.highest) == (0, None, 0.0)


def record(region, ratio, **more):
    values = {"region": region, "tiles": 9, "ratio": ratio, "alarm": None, "before": None}
    return {**values, "after": None, "clipped": 0.0, "encoder": False, "model": None, **more}


def test_a_summary_counts_regions_and_names_the_worst_first():
    found = drift.summary(
        [
            record("a", 1.0),
            record("b", 2.0, alarm=16, model={"model_id": "x"}),
            record("c", 5.0, alarm=8, encoder=True),
            record("d", None, tiles=0),
        ]
    )
    assert (found["watched"], found["drifted"], found["refitted"], found["reencode"]) == (
        3,
        2,
        1,
        1,
    )
    assert [row["region"] for row in found["worst"]] == ["c", "b"]
    assert drift.summary([record("d", None, tiles=0)]) is None


def test_the_encoder_is_at_fault_where_no_decoder_helps_or_numbers_are_cut_off():
    assert drift.beyond_decoders(True, 2.1, 1.0, 0.0)
    assert not drift.beyond_decoders(True, 1.9, 1.0, 0.0)
    assert not drift.beyond_decoders(False, 2.1, 1.0, 0.0)
    assert drift.beyond_decoders(False, 1.0, 1.0, 0.02)
