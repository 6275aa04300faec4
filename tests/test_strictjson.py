import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive.errors import Damaged
from embarchive.strictjson import canonical_json, parse_strict_json

TEXT = st.text(st.characters(codec="utf-8"))
SCALAR = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT
SCALAR |= st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(SCALAR, lambda v: st.lists(v) | st.dictionaries(TEXT, v), max_leaves=20)


@given(VALUES)
def test_what_is_written_is_read_back(value):
    data = canonical_json(value)
    assert parse_strict_json(data, "x", 1 << 20) == value
    assert canonical_json(json.loads(data)) == data


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b'{"a":1,"a":2}', "'a' twice"),
        (b"[NaN]", "finite numbers, found NaN"),
        (b"[-Infinity]", "finite numbers"),
        (b"[1e999]", "finite numbers, found 1e999"),
        (b"[9007199254740993]", r"at most 2\*\*53"),
        (b"[" + b"9" * 5000 + b"]", r"at most 2\*\*53"),
        (b"\xff{}", "UTF-8"),
        (b'["\\ud800"]', "UTF-8"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b"{", "expected JSON"),
        (b"{} {}", "expected JSON"),
        (b"", "expected JSON"),
        (b"[" * 65 + b"]" * 65, "depth of at most 64"),
        (b'{"a":' * 100_000, "depth of at most 64"),
    ],
)
def test_what_has_no_single_meaning_is_refused(text, said):
    with pytest.raises(Damaged, match=said):
        parse_strict_json(text, "thing", 1 << 20)


def test_brackets_in_texts_are_no_depth():
    text = '["' + "[{" * 100 + '\\"["]'
    assert parse_strict_json(text.encode(), "x", 1 << 10) == json.loads(text)


def test_size_is_checked_before_anything_is_parsed():
    with pytest.raises(Damaged, match="thing: expected at most 10 bytes, found 11"):
        parse_strict_json(b"[1,2,3,4,5]", "thing", 10)


@given(st.binary(max_size=200))
def test_no_bytes_make_it_fail_otherwise(data):
    with suppress(Damaged):
        parse_strict_json(data, "x", 1 << 10)
