"""Streams come back as they went in, take what their entropy is, and any bytes can be read."""

import numpy as np
import pytest

from embarchive.rangecoder import TOTAL, Decoder, Encoder, cumulative, uniform


def draw(streams, symbols, seed):
    """Skewed tables, which table each symbol takes, symbols drawn from them, and lengths."""
    rng = np.random.default_rng(seed)
    tables = cumulative(rng.random((5, 30)) ** 8)
    kind = rng.integers(0, 5, (symbols, streams))
    at = rng.integers(0, TOTAL, (symbols, streams))
    symbol = (tables[kind][..., 1:-1] <= at[..., None]).sum(axis=-1)
    return tables, kind, symbol, np.sort(rng.integers(0, symbols + 1, streams))[::-1]


def write(tables, kind, symbol, lengths):
    coder = Encoder(len(lengths))
    for place in range(len(symbol)):
        rows = slice(0, int((lengths > place).sum()))
        own, each = tables[kind[place, rows]], np.arange(rows.stop)
        start = own[each, symbol[place, rows]]
        coder.put(rows, start, own[each, symbol[place, rows] + 1] - start)
    return coder.finish()


@pytest.mark.parametrize("seed", range(5))
def test_symbols_come_back_in_about_their_entropy(seed):
    tables, kind, symbol, lengths = draw(60, 200, seed)
    streams = write(tables, kind, symbol, lengths)
    coder, right = Decoder(streams), True
    for place in range(int(lengths.max())):
        rows = slice(0, int((lengths > place).sum()))
        right &= bool((coder.get(rows, tables[kind[place, rows]]) == symbol[place, rows]).all())
    assert right
    share = np.diff(tables)[kind, symbol] / TOTAL
    coded = np.arange(200)[:, None] < lengths
    ideal = -(np.log2(share) * coded).sum(axis=0) / 8
    spent = np.array([len(stream) for stream in streams]) - ideal
    assert spent.max() <= 1.5 and spent.mean() < 0.6


def test_no_symbols_take_no_bytes():
    assert Encoder(3).finish() == [b"", b"", b""]


def test_a_carry_runs_through_the_digits():
    # The last of 2 ** 15 numbers, over and over, comes as near to a carry as can be.
    coder = Encoder(1)
    last, one = np.array([TOTAL - 1]), np.array([1])
    for _ in range(40):
        coder.put(slice(0, 1), last, one)
    coder.put(slice(0, 1), np.array([TOTAL // 2]), np.array([TOTAL // 2]))
    reader = Decoder(coder.finish())
    table = np.array([[0, TOTAL - 1, TOTAL]])
    assert [int(reader.get(slice(0, 1), table)[0]) for _ in range(40)] == [1] * 40


def test_numbers_of_which_all_are_as_likely():
    coder = Encoder(1)
    for value in (5, 4095):
        table = uniform(12)[0]
        coder.put(slice(0, 1), table[[value]], table[[value + 1]] - table[[value]])
    stream = coder.finish()
    assert len(stream[0]) <= 4
    reader = Decoder(stream)
    assert [int(reader.get(slice(0, 1), uniform(12))[0]) for _ in range(2)] == [5, 4095]


def test_any_bytes_are_some_symbols():
    rng = np.random.default_rng(0)
    reader = Decoder([b"", b"\xff" * 9, rng.bytes(50)])
    table = cumulative(np.ones((1, 7)))
    for _ in range(100):
        found = reader.get(slice(0, 3), table)
        assert ((found >= 0) & (found < 7)).all()


def test_bytes_that_no_writer_wrote_stay_within_32_bits():
    rng = np.random.default_rng(1)
    reader = Decoder([b"\xff" * 4000, *(rng.bytes(4000) for _ in range(20))])
    table = cumulative(np.ones((1, 69)))
    for _ in range(3000):
        reader.get(slice(0, 21), table)
        assert (reader._value < reader._range).all() and (reader._value >= 0).all()


def test_tables_sum_to_the_total_and_leave_nothing_out():
    tables = cumulative(np.array([[0.0, 0.0, 1e9], [1.0, 1.0, 1.0]]))
    assert (np.diff(tables) >= 1).all() and (tables[:, -1] == TOTAL).all()
