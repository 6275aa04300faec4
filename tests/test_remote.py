import time

import pytest

from embarchive.errors import BadInput, Damaged, Missing, StoreUnreachable
from embarchive.remote import Fault, RemoteStore, plain_url


class Scripted(RemoteStore):
    """Answers from a list: bytes, or an error to raise; the last one for ever."""

    def __init__(self, *answers, deadline=0.5):
        super().__init__("test://store", deadline)
        self.answers = list(answers)

    def _read(self, path, span, length, limit):
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return self._collect(path, iter([answer]), length, limit), "tag"


def test_what_passes_is_tried_again_and_counted():
    answers = (Damaged("x: short"), Fault("HTTP 503", 503), Fault("a time-out"), b"here")
    store = Scripted(*answers, deadline=4)
    assert store.get("a") == b"here"
    assert (store.requests, store.bytes_read) == (4, 4)


@pytest.mark.parametrize("status", [301, 400, 403, 416, 501])
def test_what_stays_is_not_tried_again(status):
    store = Scripted(Fault(f"HTTP {status}", status), b"here")
    with pytest.raises(StoreUnreachable, match=rf"test://store/a: .* found HTTP {status}"):
        store.get("a")
    assert store.requests == 1


def test_attempts_end_in_the_first_half_of_the_deadline():
    began = time.monotonic()
    with pytest.raises(StoreUnreachable, match=r"within 0\.5 s, found HTTP 503"):
        Scripted(Fault("HTTP 503", 503)).get("a")
    assert time.monotonic() - began < 0.4


def test_damage_that_stays_is_damage_after_three_attempts():
    store = Scripted(b"short")
    with pytest.raises(Damaged, match="expected a body of 9 bytes, found 5"):
        store.get("a", length=9)
    assert store.requests == 3


def test_a_missing_object_is_missing_at_once():
    store = Scripted(FileNotFoundError())
    with pytest.raises(Missing, match="test://store/a"):
        store.get("a")
    assert store.requests == 1 and store.read_pointer() is None


def test_ranges_come_in_the_order_asked():
    class Echo(Scripted):
        def _read(self, path, span, length, limit):
            time.sleep(0.01 * (3 - span[0]))
            return bytes(range(*span)), ""

    assert Echo().get_ranges("a", [(2, 4), (0, 1), (1, 3)]) == [b"\2\3", b"\0", b"\1\2"]


def test_a_url_is_kept_without_its_final_slash():
    assert plain_url("https://host:81/a/b/")[0] == "https://host:81/a/b"
    with pytest.raises(BadInput):
        plain_url("https://me@host/a")
