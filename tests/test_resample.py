"""Sampling of one raster against plain loops and exact patterns."""

import numpy as np
import pytest
from fakerasters import FakeBand, around
from hypothesis import given, settings
from hypothesis import strategies as st

from embarchive import grid, resample

NAME = "u33dc0"
CHIPS = grid.ChipGrid(6, 10.0, 16, 16)


def sampled(raster, chips=CHIPS, bands=None):
    """(values (bands, H, W), weight (H, W), digest parts) of the chip of NAME."""
    plan = resample.Plan.of(raster, chips)
    column, row = plan.positions(*chips.pixel_lonlat([NAME], plan.k))
    parts = [[]]
    bands = bands or [FakeBand()] * len(raster.bands)
    window = resample.read_window(plan, bands, plan.spans(column, row), parts)
    return *resample.sample(window, column[0], row[0], plan.k), parts[0]


def noise(height, width, bands=1, seed=0):
    return np.random.default_rng(seed).integers(1, 1000, (bands, height, width)).astype(np.uint16)


@pytest.mark.parametrize(
    ("source", "factor", "k"),
    [(10, 1, 1), (10.2, 1, 1), (9.8, 1, 1), (20, 1, 1), (9, 1, 2), (5.2, 1, 2), (5.1, 2, 1),
     (4, 2, 2), (3.34, 3, 1), (2.5, 4, 1), (2.2, 4, 2), (0.1, 100, 1)],
)  # fmt: skip
def test_a_finer_source_is_averaged_to_within_two(source, factor, k):
    plan = resample.Plan.of(around(NAME, noise(8, 8), source), CHIPS)
    assert (plan.factor, plan.k) == (factor, k)


def test_pixels_that_coincide_are_copied():
    stored = noise(20, 20, 3)
    values, weight, _ = sampled(around(NAME, stored, 10.0))
    assert np.array_equal(values, stored[:, 2:18, 2:18].astype(np.float32))
    assert (weight == 1).all()


def test_recipe_units_are_stored_times_scale_plus_offset():
    stored = noise(20, 20, 2)
    bands = [FakeBand(1e-4, -0.1), FakeBand(2.0, 7.0)]
    values, _, _ = sampled(around(NAME, stored, 10.0), bands=bands)
    exact = stored[:, 2:18, 2:18] * np.array([1e-4, 2.0])[:, None, None]
    assert np.allclose(values, exact + np.array([-0.1, 7.0])[:, None, None], rtol=1e-6)


@pytest.mark.parametrize("f", [2, 3, 5, 7])
def test_whole_ratios_are_plain_block_means(f):
    stored = noise(18 * f, 18 * f)
    values, _, _ = sampled(around(NAME, stored, 10.0 / f))
    means = stored[0].reshape(18, f, 18, f).mean(axis=(1, 3))
    assert np.allclose(values[0], means[1:17, 1:17], rtol=1e-5)


@settings(max_examples=25, deadline=None)
@given(st.floats(2.1, 45), st.floats(-3, 3), st.floats(-3, 3))
def test_a_slope_is_sampled_where_it_lies_at_any_ratio(source, right, down):
    size = 2 * int(np.ceil(110 / source)) + 20
    x, y = np.meshgrid(np.arange(size) + 0.5, np.arange(size) + 0.5)
    east, south = (x + right - size / 2) * source, (y + down - size / 2) * source
    stored = np.stack([east + 5000, south * 2 + 5000]).astype(np.float32)
    values, weight, _ = sampled(around(NAME, stored, source, shift=(right, down)))
    centres = (np.arange(16) - 7.5) * 10
    # positions are rounded to 1/4096 of a block; k points a pixel are symmetric about it
    near = 0.02 + source * resample.Plan.of(around(NAME, stored, source), CHIPS).factor / 4096
    assert np.abs(values[0] - (centres + 5000)).max() < near
    assert np.abs(values[1] - (centres[:, None] * 2 + 5000)).max() < 2 * near
    assert np.allclose(weight, 1, atol=1e-5)


def test_bilinear_weights_are_those_of_a_loop():
    stored = noise(24, 24)
    values, _, _ = sampled(around(NAME, stored, 10.0, shift=(0.25, -0.375)))
    image = stored[0].astype(float)
    for i, j in ((0, 0), (3, 9), (15, 15)):
        # a shift of the raster moves what a pixel sees the other way
        y, x = 4 + i + 0.375, 4 + j - 0.25
        r, c = int(y), int(np.floor(x))
        fy, fx = y - r, x - c
        expected = (
            image[r, c] * (1 - fy) * (1 - fx) + image[r, c + 1] * (1 - fy) * fx
            + image[r + 1, c] * fy * (1 - fx) + image[r + 1, c + 1] * fy * fx
        )  # fmt: skip
        assert values[0, i, j] == pytest.approx(expected, rel=1e-6)


def test_fine_checkers_average_out_instead_of_aliasing():
    x, y = np.meshgrid(np.arange(96), np.arange(96))
    stored = (100 + 100 * ((x + y) % 2))[None].astype(np.uint8)
    for source in (2.5, 3.0, 4.7):
        values, _, _ = sampled(around(NAME, stored, source, shift=(0.3, 0.2)))
        assert np.abs(values - 150).max() < 26, source
    assert np.abs(sampled(around(NAME, stored, 2.5))[0] - 150).max() < 1e-4


def test_what_is_not_valid_has_no_weight_and_no_influence():
    stored = np.full((1, 20, 20), 500, dtype=np.float32)
    stored[0, :, :10] = np.nan
    valid = np.isfinite(stored)
    values, weight, _ = sampled(around(NAME, stored, 10.0, shift=(0.25, 0), valid=valid))
    assert np.allclose(values[0][weight >= 0.5], 500)
    # the last valid column is a quarter of a pixel off
    assert np.allclose(weight[0], [0] * 8 + [0.75] + [1] * 7)


def test_blocks_count_by_their_valid_share():
    stored = np.full((1, 80, 80), 400, dtype=np.uint16)
    stored[0, :, 1::4] = 0
    values, weight, _ = sampled(around(NAME, stored, 2.5))
    assert np.allclose(weight, 0.75) and np.allclose(values, 400)


def test_a_sample_counts_when_all_bands_of_its_raster_are_valid():
    stored = np.full((2, 20, 20), 400, dtype=np.uint16)
    stored[1, 5] = 0
    _, weight, _ = sampled(around(NAME, stored, 10.0))
    assert (weight[3] == 0).all() and (np.delete(weight, 3, axis=0) == 1).all()


def test_infinite_values_are_not_data_even_when_the_reader_says_so():
    stored = np.full((1, 20, 20), 5.0)
    stored[0, 4, 4] = np.inf
    values, weight, _ = sampled(around(NAME, stored, 10.0, valid=np.ones((1, 20, 20), bool)))
    assert weight[2, 2] == 0 and np.isfinite(values).all()


def test_beyond_the_edge_is_nothing_and_half_a_pixel_inside_is_data():
    stored = np.full((1, 10, 10), 300, dtype=np.uint16)
    values, weight, _ = sampled(around(NAME, stored, 10.0))
    expected = np.zeros((16, 16))
    expected[3:13, 3:13] = 1
    assert np.array_equal(weight, expected) and (values[0, 3:13, 3:13] == 300).all()
    # two pixels of 40 m: known up to 20 m from the middle, fading to nothing at 60 m
    _, weight, _ = sampled(around(NAME, np.full((1, 2, 2), 300, np.uint16), 40.0))
    axis = np.clip((60 - np.abs(np.arange(16) - 7.5) * 10) / 40, 0, 1)
    assert np.allclose(weight, axis[:, None] * axis, atol=1e-3)


def test_a_raster_elsewhere_is_not_read():
    raster = around("9q8yyk", noise(20, 20), 10.0)
    values, weight, parts = sampled(raster)
    assert not raster.reads and not weight.any() and not values.any() and not parts


def test_points_that_do_not_project_are_outside():
    raster = around(NAME, noise(20, 20), 10.0)
    plain = raster.project_axes

    def torn(lon, lat):
        column, row = (axis.copy() for axis in plain(lon, lat))
        column[:, :, :4], row[:, :2] = np.nan, np.inf
        return column, row

    raster.project_axes = torn
    _, weight, _ = sampled(raster)
    assert not weight[:2].any() and not weight[:, :4].any() and (weight[2:, 4:] == 1).all()


def test_a_large_window_is_read_in_strips_with_the_same_result(monkeypatch):
    raster = around(NAME, noise(1700, 1700), 0.1)
    whole = sampled(raster)
    assert len(raster.reads) == 1
    monkeypatch.setattr(resample, "READ_BYTES", 1_000_000)
    strips = sampled(raster)
    assert len(raster.reads) > 5
    assert np.array_equal(whole[0], strips[0]) and np.array_equal(whole[1], strips[1])
    assert whole[2] == strips[2]


def test_the_digest_sees_every_sample_under_the_chip_and_no_other():
    stored = noise(300, 300)
    first = sampled(around(NAME, stored, 1.0))[2]
    # the chip is the middle 160 x 160; bilinear reads a block of 10 beyond it
    cases = ((70, 70, 1), (150, 150, 1), (229, 229, 1), (50, 150, 0), (250, 10, 0), (150, 255, 0))
    for row, column, matters in cases:
        changed = stored.copy()
        changed[0, row, column] += 1
        assert (sampled(around(NAME, changed, 1.0))[2] != first) == matters
    hidden = around(NAME, stored, 1.0, valid=np.ones((1, 300, 300), bool))
    assert sampled(hidden)[2] == first
    hidden.valid[0, 150, 150] = False
    assert sampled(hidden)[2] != first


def test_the_last_bit_of_a_projection_changes_nothing():
    stored = noise(20, 20)
    first = sampled(around(NAME, stored, 10.0))
    raster = around(NAME, stored, 10.0)
    plain = raster.project_axes
    raster.project_axes = lambda lon, lat: [axis - 1e-9 for axis in plain(lon, lat)]
    again = sampled(raster)
    assert np.array_equal(first[0], again[0]) and first[2] == again[2]
