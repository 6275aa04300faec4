"""Complexity and fits: known functions are found again, and no region is scored by its own fit."""

import gzip

import numpy as np
import pytest
from networks import textures

from embarchive import sizing
from embarchive.errors import BadInput
from embarchive.sizing import Points, Region

SIZES = (8, 16, 32, 64, 96)


def made(loss, count=10, seed=0):
    """Points of `count` regions at SIZES, complexities .3 to .9, with loss(d, c)."""
    c = np.repeat(np.random.default_rng(seed).uniform(0.3, 0.9, count), len(SIZES))
    d = np.tile(np.array(SIZES, dtype=np.float64), count)
    return Points(d, c, loss(d, c), np.repeat(np.arange(count), len(SIZES)))


def exponential(d, c):
    return 3e-4 + 2e-3 * np.exp(-0.05 * d + 1.5 * c)


def chips_of(kind, n=40, side=32):
    rng = np.random.default_rng(3)
    if kind == "flat":
        return np.full((n, 2, side, side), 0.25, np.float32)
    if kind == "texture":
        # The smoothest of four grains.
        return textures(4 * n, 2, side, seed=0)[0][::4]
    return rng.normal(0, 0.5, (n, 2, side, side)).astype(np.float32)


def measured(kind):
    low, high, mean, std = (np.full(2, value, np.float32) for value in (-1, 1, 0, 0.5))
    return sizing.complexity(chips_of(kind), low, high, mean, std)


# ------------------------------------------------------------ complexity


@pytest.mark.parametrize("measure", sizing.COMPLEXITIES)
def test_noise_is_more_complex_than_texture_and_texture_than_nothing(measure):
    flat, texture, noise = (measured(kind)[measure] for kind in ("flat", "texture", "noise"))
    assert 0 <= flat < 0.8 * texture < 0.8 * noise


def test_the_gzip_ratio_is_bytes_with_over_bytes_without():
    data = np.random.default_rng(0).integers(0, 4, (3, 2, 16, 16), dtype=np.uint8)
    assert sizing.gzip_ratio(data) == len(gzip.compress(data.tobytes(), mtime=0)) / data.size


def test_bytes_reach_from_the_lowest_to_the_highest_of_each_band():
    chips = np.array([[-1.0, 0.0, 1.0, 5.0], [10.0, 20.0, 30.0, 0.0]], np.float32)
    low, high = np.array([-1, 10], np.float32), np.array([1, 30], np.float32)
    found = sizing.as_bytes(chips.reshape(1, 2, 2, 2), low, high)
    assert found.reshape(2, 4).tolist() == [[0, 128, 255, 255], [0, 128, 255, 0]]


def test_components_are_those_of_scikit_learn():
    decomposition = pytest.importorskip("sklearn.decomposition")
    flat = textures(60, 2, 16, seed=1)[0].reshape(60, -1).astype(np.float64)
    linear = decomposition.PCA(0.95, svd_solver="full").fit(flat)
    kernel = decomposition.KernelPCA(kernel="rbf", gamma=1 / flat.shape[1]).fit(flat)
    share = np.cumsum(kernel.eigenvalues_) / kernel.eigenvalues_.sum()
    assert sizing.linear_components(flat) == linear.n_components_
    assert sizing.kernel_components(flat) == np.argmax(share >= 0.95) + 1


# ------------------------------------------------------------ fits


def linear(d, c):
    return 5e-3 - 3e-5 * d + 2e-3 * c


def polynomial(d, c):
    return 5e-3 - 6e-5 * d + 2e-3 * c + 3e-7 * d**2 - 2e-6 * d * c + 1e-3 * c**2


@pytest.mark.parametrize("loss", [linear, polynomial, exponential])
def test_the_function_that_made_the_losses_is_found_again(loss):
    found = sizing.fit(made(loss), loss.__name__)
    elsewhere = made(loss, seed=9)
    predicted = found.predict(elsewhere.size, elsewhere.complexity)
    assert predicted == pytest.approx(elsewhere.loss, rel=1e-3)
    assert sizing.held_out_r2(made(loss), loss.__name__) > 0.9999


def test_the_decay_and_slope_of_an_exponential_are_found():
    found = sizing.fit(made(exponential), "exponential")
    k, m, level, _ = found.numbers
    assert k / found.span == pytest.approx(0.05, rel=1e-3)
    assert m / found.spread == pytest.approx(1.5, rel=1e-3)
    assert level == pytest.approx(3e-4, rel=1e-2)


def test_with_noise_the_form_that_made_the_losses_comes_out_best():
    points = made(exponential)
    noise = np.random.default_rng(1).normal(0, 0.05, len(points.loss))
    noisy = Points(points.size, points.complexity, points.loss * (1 + noise), points.region)
    score = {form: sizing.held_out_r2(noisy, form) for form in sizing.FORMS}
    assert max(score, key=score.get) == "exponential"
    assert 0.9 < score["exponential"] < 1 and score["linear"] < 0.9


def test_a_region_is_foretold_by_the_others_alone(monkeypatch):
    points, seen, plain = made(linear, count=5), [], sizing.fit
    monkeypatch.setattr(sizing, "fit", lambda some, form: seen.append(some) or plain(some, form))
    sizing.held_out_r2(points, "linear")
    assert [set(range(5)) - set(some.region) for some in seen] == [{i} for i in range(5)]


def test_losses_that_have_nothing_to_do_with_complexity_score_nothing_held_out():
    rng = np.random.default_rng(2)
    chance = np.repeat(rng.normal(1, 0.3, 12), len(SIZES))
    points = made(lambda d, c: chance, count=12)
    same = sizing.fit(points, "polynomial").predict(points.size, points.complexity)
    assert sizing.r2(points.loss, same) > 0
    assert sizing.held_out_r2(points, "polynomial") < 0


def test_equal_losses_and_equal_complexities_are_no_reason_to_fail():
    points = made(lambda d, c: np.full(len(d), 0.5))
    alike = Points(
        points.size, np.ones_like(points.size), exponential(points.size, 0.5), points.region
    )
    for form in sizing.FORMS:
        assert sizing.held_out_r2(points, form) == 0
        assert np.isfinite(sizing.held_out_r2(alike, form))


def test_an_unknown_form_is_refused():
    with pytest.raises(BadInput, match="linear, polynomial, exponential, found 'cubic'"):
        sizing.fit(made(linear), "cubic")


# ------------------------------------------------------------ the choice


def regions(count=8):
    """Regions whose losses follow their gzip ratio; other complexities are chance."""
    rng = np.random.default_rng(4)
    found = []
    for i, c in enumerate(rng.uniform(0.3, 0.9, count)):
        level = {"gzip": c, "pca": rng.uniform(5, 20), "kernel_pca": rng.uniform(5, 20)}
        errors = exponential(np.array(SIZES, dtype=np.float64), c)
        found.append(Region(f"r{i}", 40, level, 0.01, tuple(errors)))
    return found


def test_the_smallest_size_whose_predicted_error_meets_the_bound_is_chosen():
    found = sizing.judge(SIZES, regions(), 1.1e-3, relative=False)
    assert (found["best"]["complexity"], found["best"]["form"]) == ("gzip", "exponential")
    assert len(found["fits"]) == 9 and found["reason"] is None
    at = [row["size"] for row in found["curve"]].index(found["chosen"])
    assert found["curve"][at]["error"] <= 1.1e-3 < found["curve"][at - 1]["error"]
    known = np.mean([exponential(float(found["chosen"]), r.complexity["gzip"]) for r in regions()])
    assert found["curve"][at]["error"] == pytest.approx(known, rel=1e-2)


def test_the_curve_has_the_measured_mean_where_a_network_was_trained():
    curve = sizing.judge(SIZES, regions(), None, relative=False)["curve"]
    assert tuple(row["size"] for row in curve if row["measured"] is not None) == SIZES
    assert all(row["error"] == pytest.approx(row["measured"], rel=0.01) for row in curve[:1])


def test_relative_errors_are_shares_of_the_tile_mean_s():
    plain, share = (sizing.judge(SIZES, regions(), None, relative=r)["curve"] for r in (0, 1))
    expected = [row["error"] / 0.01 for row in plain]
    assert [row["error"] for row in share] == pytest.approx(expected)


def test_a_bound_that_no_size_meets_is_said_plainly():
    found = sizing.judge(SIZES, regions(), 1e-5, relative=False)
    assert found["chosen"] is None
    assert found["reason"].startswith("no size from 8 to 96 meets 1e-05; the least predicted")


def test_fits_that_foretell_nothing_choose_nothing():
    alike = dict.fromkeys(sizing.COMPLEXITIES, 1.0)
    losses = np.random.default_rng(5).uniform(1, 2, 8)
    odd = [Region(f"r{i}", 40, alike, 9.0, (loss,) * 5) for i, loss in enumerate(losses)]
    found = sizing.judge(SIZES, odd, 10.0, relative=False)
    assert found["best"]["r2"] <= 0 and found["chosen"] is None
    assert found["reason"].startswith("no fit foretells")


def test_three_regions_are_too_few():
    with pytest.raises(BadInput, match="at least 4 regions, found 3"):
        sizing.judge(SIZES, regions(3), None, relative=False)
