"""The decoder of least cost: what a byte a tile has to bring, and what is said of it."""

import json
import math

import pytest

from embarchive import choice
from embarchive.choice import Candidate, choose

SHARED = Candidate("shared", 1.0, 0)


@pytest.mark.parametrize(("left", "kind"), [(0.9, "adapter"), (0.91, "shared")])
def test_five_bytes_a_tile_have_to_bring_nearly_ten_percent(left, kind):
    found = choose([SHARED, Candidate("adapter", left, 500)], tiles=100, test_tiles=20)
    assert math.exp(-choice.RATE * 5) == pytest.approx(0.905, abs=1e-3)
    assert found.chosen == kind
    assert found.reason.startswith(f"{kind}: ")


def test_the_same_weights_pay_where_more_tiles_share_them():
    tried = [SHARED, Candidate("adapter", 0.99, 1600)]
    assert choose(tried, tiles=2000, test_tiles=50).chosen == "shared"
    assert choose(tried, tiles=4000, test_tiles=50).chosen == "adapter"


def test_a_whole_network_is_weighed_against_the_adapter_too():
    adapter, tiles = Candidate("adapter", 0.8, 1_000), 1_000
    for left, kind in ((0.2, "adapter"), (0.17, "full")):
        full = Candidate("full", left, 74_000)
        assert choose([SHARED, adapter, full], tiles, 50).chosen == kind


def test_a_decoder_that_is_worse_is_never_chosen_and_ties_go_to_the_cheapest():
    assert choose([SHARED, Candidate("adapter", 1.0, 0)], 9, 9).chosen == "shared"
    found = choose([SHARED, Candidate("adapter", 1.1, 0)], 9, 9)
    assert found.chosen == "shared"
    assert "adapter has 10.0 % more error" in found.reason


def test_few_held_out_tiles_give_the_shared_network_and_say_so():
    found = choose([SHARED, Candidate("adapter", 0.1, 10)], tiles=30, test_tiles=7)
    assert found.chosen == "shared"
    assert found.reason == "shared: 7 held-out tiles, fewer than 8, cannot tell what would pay"
    assert choose([SHARED], 30, 20).reason.endswith("too few tiles to fit a decoder of its own to")


def test_the_reason_names_every_error_and_price():
    tried = [SHARED, Candidate("adapter", 0.9, 400), Candidate("full", None, 60_000)]
    found = choose(tried, tiles=100, test_tiles=20)
    assert found.reason == (
        "adapter: beside the shared network adapter has 10.0 % less error for 4.0 bytes a tile, to "
        "pay from 7.7 %, full not fitted for 600.0 bytes a tile, to pay from 100.0 %"
    )
    assert json.loads(json.dumps(found.to_json()))["candidates"][2] == {
        "kind": "full", "mse": None, "bytes": 60_000,
    }  # fmt: skip


def test_what_only_a_perfect_picture_would_pay_is_hopeless():
    least = -math.log(choice.LEAST_LEFT) / choice.RATE
    assert not choice.hopeless(int(least * 100) - 1, 100)
    assert choice.hopeless(int(least * 100) + 1, 100)
    assert choice.hopeless(1000, 0)
