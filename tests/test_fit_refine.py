"""A trained filter mends tiles that it has not seen; an untrained one changes nothing."""

import numpy as np
from fields import make_tiles

from embarchive import fidelity, fit_fidelity, fit_refine, refine


def test_a_filter_mends_what_it_has_not_seen():
    train, test = make_tiles(300), make_tiles(60, seed=1)
    code = fit_fidelity.fit(train, 16.0)
    coded, held = (fidelity.decode(code, fidelity.encode(code, some)) for some in (train, test))
    shape = refine.choose_shape(3, 24, 20)
    steps: list[tuple[int, int]] = []
    weights = fit_refine.fit(shape, coded, train, 300, 0, lambda *at: steps.append(at))
    assert fit_refine.gain(weights, held, test) < 0.9
    assert steps[-1] == (300, 300)
    assert set(weights) == set(shape.tensors())
    start = fit_refine._begin(shape, coded, train, np.random.default_rng(0))
    assert np.array_equal(refine.refine(start, held), held)
