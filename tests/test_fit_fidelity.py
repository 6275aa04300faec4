"""Fitting lowers the cost, and copes with tiles that hold next to nothing."""

import numpy as np
from fields import make_tiles

from embarchive import contexts, fidelity, fit_fidelity
from embarchive.rangecoder import TOTAL


def test_fitted_tables_beat_those_of_the_form_alone():
    train, test = make_tiles(300), make_tiles(100, seed=1)
    form, _ = fit_fidelity._begin(train, 4.0, False)
    fitted = fit_fidelity.fit(train, 4.0)
    size, error = fit_fidelity.sizes(form, test)
    better, same = fit_fidelity.sizes(fitted, test)
    assert better < 0.97 * size and same < 1.1 * error


def test_the_same_tiles_give_the_same_code():
    train = make_tiles(60)
    one, two = (fit_fidelity.fit(train, 3.0) for _ in range(2))
    for name in ("order", "expected", "tables", "end_tables", "centres", "basis"):
        assert np.array_equal(getattr(one, name), getattr(two, name)), name


def test_flat_tiles_take_next_to_nothing():
    flat = np.full((40, 2, 16, 16), 7, np.float32)
    code = fit_fidelity.fit(flat, 1.0)
    streams = fidelity.encode(code, flat)
    assert max(map(len, streams)) <= 1
    assert np.abs(fidelity.decode(code, streams) - 7).max() < 0.5


def test_tables_are_whole_and_expected_magnitudes_positive():
    code = fit_fidelity.fit(make_tiles(50), 2.0, several=True)
    for table in (code.tables, code.end_tables, code.step_table):
        assert (np.diff(table) >= 1).all() and (table[:, -1] == TOTAL).all()
    assert code.expected.min() >= 1 and code.expected.max() <= contexts.MOST_EXPECTED
    assert (np.diff(code.expected[:, 0]) < 0).all()
    assert 0.4 * code.expected[4, 0] < code.expected[8, 0] < 0.7 * code.expected[4, 0]
