"""Many adapters at once: those of one by one, the same twice, whatever trains beside them."""

import numpy as np
import pytest
from networks import ARCHITECTURES, SMALL, random_chips, random_vectors, random_weights

from embarchive import model
from embarchive.indices import IndexTarget
from embarchive.recipe import Recipe

torch = pytest.importorskip("torch")
from onebyone import fit_adapter  # noqa: E402

from embarchive import adapters, train  # noqa: E402

RECIPE = Recipe(adapter_steps=30, seed=7)
# More than a group, fewer tiles than a minibatch and more, and one region alone in its shape.
TILES = (9, 130, 8, 64, 65, 40, 70, 12, 8)


def regions(arch, tiles=TILES):
    """A backbone, and vectors and chips of regions, each brighter than the one before."""
    data = [
        (random_vectors(arch, n, i), random_chips(arch, n, i) * (1 + i / 9) + i)
        for i, n in enumerate(tiles)
    ]
    return random_weights(arch, "backbone"), data


def loss(arch, backbone, own, data):
    z, chips = data
    return np.mean((model.decode_batch(arch, backbone, own, z) - chips) ** 2, dtype=np.float64)


def together(arch, backbone, data, recipe=RECIPE):
    return list(adapters.fit_adapters(arch, backbone, data, recipe))


@pytest.mark.parametrize("arch", [SMALL, ARCHITECTURES[0]])
def test_many_at_once_have_the_losses_of_one_by_one(arch):
    backbone, data = regions(arch)
    assert len(adapters.group_regions(TILES, 1)) > 1
    for own, some in zip(together(arch, backbone, data), data, strict=True):
        alone = loss(arch, backbone, fit_adapter(arch, backbone, *some, RECIPE), some)
        before = loss(arch, backbone, model.neutral_adapter(arch), some)
        assert alone < 0.99 * before
        assert loss(arch, backbone, own, some) == pytest.approx(alone, rel=1e-4)


def index_error(arch, backbone, own, data, target):
    z, chips = data
    w = {name: torch.tensor(value) for name, value in backbone.items()}
    mean, std = w["mean"][:, None, None], w["std"][:, None, None]
    image = torch.tensor(model.decode_batch(arch, backbone, own, z))
    known = torch.tensor(chips)
    return train.index_error(target, w, (image - mean) / std, (known - mean) / std).item()


def test_adapters_that_aim_at_an_index_better_it_and_are_those_of_one_by_one():
    backbone, data = regions(SMALL, (20, 90, 64))
    target = IndexTarget(((2, 0), (0, 1)), 5.0, 1.0)
    found = list(adapters.fit_adapters(SMALL, backbone, data, RECIPE, target))
    plain = together(SMALL, backbone, data)
    for own, other, some in zip(found, plain, data, strict=True):
        one = fit_adapter(SMALL, backbone, *some, RECIPE, target)
        errors = [index_error(SMALL, backbone, way, some, target) for way in (own, one, other)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-4)
        assert errors[0] < errors[2]
        alone = loss(SMALL, backbone, one, some)
        assert loss(SMALL, backbone, own, some) == pytest.approx(alone, rel=1e-4)


def test_a_default_training_stays_as_near_to_one_by_one():
    backbone, data = regions(SMALL, (20, 90))
    for own, some in zip(together(SMALL, backbone, data, Recipe()), data, strict=True):
        alone = loss(SMALL, backbone, fit_adapter(SMALL, backbone, *some, Recipe()), some)
        assert loss(SMALL, backbone, own, some) == pytest.approx(alone, rel=1e-4)


def test_a_fit_goes_on_from_its_start_and_is_pulled_to_it():
    backbone, data = regions(SMALL, (20, 90))
    fitted = together(SMALL, backbone, data)
    short = Recipe(adapter_steps=0)
    for own, again in zip(fitted, adapters.fit_adapters(SMALL, backbone, data, short, start=fitted),
                          strict=True):  # fmt: skip
        assert all(np.array_equal(own[name], again[name]) for name in own)
    neutral = [model.neutral_adapter(SMALL)] * 2
    few = Recipe(adapter_steps=3)
    warm = adapters.fit_adapters(SMALL, backbone, data, few, start=fitted)
    cold = adapters.fit_adapters(SMALL, backbone, data, few, start=neutral)
    for one, other, some in zip(warm, cold, data, strict=True):
        assert loss(SMALL, backbone, one, some) < loss(SMALL, backbone, other, some)


def test_the_same_regions_give_the_same_bytes_and_another_seed_gives_others():
    backbone, data = regions(SMALL)
    first, again = together(SMALL, backbone, data), together(SMALL, backbone, data)
    other = together(SMALL, backbone, data, Recipe(adapter_steps=30, seed=8))
    for own, same, odd in zip(first, again, other, strict=True):
        assert {name: value.shape for name, value in own.items()} == SMALL.shapes("adapter")
        assert all(np.array_equal(own[name], same[name]) for name in own)
        assert not np.array_equal(own["film"], odd["film"])


def test_a_region_is_trained_the_same_whatever_trains_beside_it():
    backbone, data = regions(SMALL)
    whole, rest = together(SMALL, backbone, data), together(SMALL, backbone, data[3:])
    for own, alone, some in zip(whole[3:], rest, data[3:], strict=True):
        expected = loss(SMALL, backbone, alone, some)
        assert loss(SMALL, backbone, own, some) == pytest.approx(expected, rel=1e-4)


def test_no_steps_give_the_adapter_that_changes_nothing():
    backbone, data = regions(SMALL)
    neutral = model.neutral_adapter(SMALL)
    for own in together(SMALL, backbone, data, Recipe(adapter_steps=0)):
        assert all(np.array_equal(own[name], value) for name, value in neutral.items())


def test_no_regions_give_no_adapters():
    assert together(SMALL, random_weights(SMALL, "backbone"), []) == []


def test_groups_hold_every_region_once_and_stay_in_their_bounds():
    tiles, chip = [200, 8, 8, 64, 64, 64, 64, 9, 3000, 10], 32 << 10
    groups = adapters.group_regions(tiles, chip)
    assert [at for group in groups for at in group] == list(range(len(tiles)))
    for group in groups:
        seen = sum(min(adapters.BATCH, tiles[at]) for at in group)
        size = sum(tiles[at] for at in group) * chip
        assert len(group) == 1 or (seen <= adapters.GROUP and size <= adapters.GROUP_ROOM)
    assert range(8, 9) in groups


def test_adapters_come_before_the_last_group_is_done(monkeypatch):
    backbone, data = regions(SMALL)
    begun, fit = [], adapters._fit_group

    def counted(*given):
        begun.append(len(given[-1]))
        return fit(*given)

    monkeypatch.setattr(adapters, "_fit_group", counted)
    monkeypatch.setattr(adapters, "GROUP", 8)
    monkeypatch.setattr(adapters.os, "cpu_count", lambda: 1)
    found = adapters.fit_adapters(SMALL, backbone, data, RECIPE)
    next(found)
    found.close()
    assert 1 <= len(begun) < len(data)
