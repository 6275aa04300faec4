"""The transform keeps squared error, and comes back whole, the same however sums are taken."""

import numpy as np
import pytest

from embarchive import transform


def images(n=6, bands=3, height=30, width=20, seed=0):
    rng = np.random.default_rng(seed)
    rough = rng.normal(0, 1, (n, bands, height // 5, width // 5))
    return (rough.repeat(5, 2).repeat(5, 3) * [[[[9]], [[4]], [[1]]]] + 50).astype(np.float32)


def test_cosines_are_orthonormal():
    for size in (2, 30, 62):
        found = transform.cosines(size)
        assert np.abs(found @ found.T - np.eye(size)).max() < 1e-12


def test_there_and_back_is_as_exact_as_a_step_allows():
    x = images()
    mean, basis = transform.principal(x)
    coefficients = transform.forward(x, mean, basis)
    assert (coefficients**2).sum() == pytest.approx(
        ((x - mean[:, None, None]) ** 2).sum(), rel=1e-3
    )
    step = 0.05
    units = np.rint(coefficients / step * transform.STEP_UNITS)
    found = transform.inverse(units, step, mean, basis)
    assert np.abs(found - x).max() < 0.1 * step


def test_the_way_back_is_the_same_in_any_order_of_sums():
    """Whole numbers: reversing every axis that is summed over changes no bit."""
    x = images(4)
    mean, basis = transform.principal(x)
    units = np.rint(transform.forward(x, mean, basis) * 500)
    found = transform.inverse(units, 0.01, mean, basis)
    h, w = x.shape[2:]
    space = [transform.whole_cosines(size).astype(np.int64) for size in (h, w)]
    rows = np.einsum("ufh,nkuv->nkhv", space[0][:, None], units.astype(np.int64))
    rows = (rows + (1 << 11)) >> 12
    whole = np.einsum("nkhv,vw->nkhw", rows[..., ::-1], space[1][::-1])
    whole = (whole + (1 << 15)) >> 16
    flat = np.einsum("kc,nkhw->nchw", basis[::-1], whole[:, ::-1])
    unit = 0.01 / (transform.STEP_UNITS * 2**18)
    assert np.array_equal(flat * unit + mean[:, None, None], found)


def test_the_strongest_component_is_first():
    x = images()
    mean, basis = transform.principal(x)
    strength = (transform.forward(x, mean, basis) ** 2).sum(axis=(0, 2, 3))
    assert (np.diff(strength) <= 0).all() and basis.dtype == np.int64
