"""What is written is what is read, to the last bit; bytes and errors are those foretold."""

import numpy as np
import pytest
from fields import make_tiles

from embarchive import fidelity, fit_fidelity

TRAIN, TEST = make_tiles(200), make_tiles(70, seed=1)


@pytest.fixture(scope="module")
def code():
    return fit_fidelity.fit(TRAIN, 4.0)


def test_a_reader_sees_what_was_chosen(code):
    values = fidelity.coefficients(code, TEST)
    choice = fidelity.choose(code, values, np.zeros(len(TEST), np.int64))
    streams = fidelity.write(code, choice)
    found = fidelity.read(code, streams)
    longest = found.level.shape[0]
    assert np.array_equal(found.level, choice.level[:longest]) and not choice.level[longest:].any()
    assert np.array_equal(fidelity.picture(code, choice), fidelity.decode(code, streams))


def test_bytes_are_those_foretold(code):
    streams = fidelity.encode(code, TEST)
    size, error = fit_fidelity.sizes(code, TEST)
    assert np.mean([len(stream) for stream in streams]) == pytest.approx(size + 0.35, abs=0.4)
    assert ((fidelity.decode(code, streams) - TEST) ** 2).mean() == pytest.approx(error, rel=1e-5)


def test_a_tile_is_read_alone_as_among_others(code):
    streams = fidelity.encode(code, TEST)
    every = fidelity.decode(code, streams)
    some = fidelity.decode(code, [streams[40], streams[3]])
    assert np.array_equal(some, every[[40, 3]])
    assert np.array_equal(fidelity.decode(code, [*streams[:5], *streams[:5]])[5:], every[:5])


def test_finer_steps_spend_more_and_err_less():
    found = [fit_fidelity.sizes(fit_fidelity.fit(TRAIN, step), TEST) for step in (8.0, 4.0, 2.0)]
    size, error = np.array(found).T
    assert (np.diff(size) > 0).all() and (np.diff(error) < 0).all()


def test_far_outliers_are_written_whole(code):
    odd = TEST.copy()
    odd[0] += 3000
    odd[1, :, ::2] += 800
    found = fidelity.decode(code, fidelity.encode(code, odd))
    assert np.abs(found[0] - odd[0]).mean() < 5 and np.abs(found[1] - odd[1]).mean() < 8


def test_streams_of_a_most_length():
    code = fit_fidelity.fit(TRAIN, 1.0, several=True)
    streams = fidelity.encode(code, TEST, most=20)
    sizes = np.array([len(stream) for stream in streams])
    assert sizes.max() <= 20 and sizes.mean() > 14
    wide = fidelity.encode(code, TEST, most=40)
    error = [((fidelity.decode(code, some) - TEST) ** 2).mean() for some in (streams, wide)]
    assert error[1] < 0.8 * error[0] and len(code.steps) == fit_fidelity.LADDER


def test_any_bytes_decode_to_an_image(code):
    rng = np.random.default_rng(0)
    found = fidelity.decode(code, [b"", b"\xff" * 300, rng.bytes(40)])
    assert found.shape == (3, 3, 24, 20) and np.isfinite(found).all()


def test_no_tiles(code):
    assert fidelity.encode(code, TEST[:0]) == []
    assert fidelity.decode(code, []).shape == (0, 3, 24, 20)


def test_buckets_and_their_numbers():
    sizes = np.arange(fidelity.MOST + 1)
    boxes = fidelity.bucket(sizes)
    assert boxes.max() == fidelity.BUCKETS - 1 and (boxes[:15] == np.arange(15)).all()
    over = boxes - fidelity.EXACT
    rest = sizes - fidelity.EXACT + 1 - (1 << np.maximum(over, 0))
    assert ((rest >= 0) & (rest < 1 << np.maximum(over, 0)))[over > 0].all()
