import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embarchive.errors import BadInput
from embarchive.storage import Counters, check_path, check_ranges


@given(st.text(max_size=30))
def test_a_path_that_passes_has_only_plain_names(text):
    try:
        parts = check_path(text)
    except BadInput:
        return
    assert "/".join(parts) == text
    assert not {"", ".", ".."} & set(parts)
    assert all(letter.isascii() and (letter.isalnum() or letter in "._=-/") for letter in text)


def test_paths_of_an_archive_pass():
    assert check_path("embeddings/gh=u33/ab.parquet") == ["embeddings", "gh=u33", "ab.parquet"]


@pytest.mark.parametrize("span", [(-1, 5), (5, 5), (6, 5)])
def test_a_range_that_is_none_is_refused(span):
    with pytest.raises(BadInput, match="0 <= start < end"):
        check_ranges("x", [(0, 1), span])


def test_counts_from_many_threads_add_up():
    counters = Counters()

    def count():
        for _ in range(2000):
            counters.add(1, 3)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (counters.requests, counters.bytes_read) == (8000, 24_000)
