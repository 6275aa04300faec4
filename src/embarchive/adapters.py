"""Adapters of many regions, trained as one program.

Their numbers are stacked (regions, numbers of an adapter) and move together: one pass through the
shared decoder for the minibatches of all regions of a group, one step of Adam. Each region
sees the minibatches, the rate and the pull that it would see alone. Deterministic for a seed and
a list of regions on one machine type.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from embarchive import model
from embarchive.frozen import Frozen, errors, freeze, inputs, sizes, targets
from embarchive.indices import NO_TARGET, IndexTarget
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe

Adapter = dict[str, Array]
Data = tuple[Array, Array]

RATE = 3e-3
# Tiles of a region that one step sees, drawn with repetition.
BATCH = 64
# Tiles that a group's steps see at most, and bytes of its chips; a group has one region at least.
GROUP, GROUP_ROOM = 256, 16 << 20
# Tiles that go through the decoder at once: more fall out of the processor's cache. Always a
# multiple of EVEN: few shapes occur, each of which is compiled once.
AT_ONCE, EVEN = 64, 8


@dataclass(frozen=True)
class Group:
    """Regions that train together: tiles of all of them one after the other.

    z (tiles, dim), x (tiles, spots, numbers): `inputs` and `targets` of the decoder;
    count (regions,): tiles of each; owner (tiles,): the region of each.
    """

    z: Tensor
    x: Tensor
    count: Tensor
    owner: Tensor


def fit_adapters(
    arch: Architecture,
    backbone: model.Weights,
    data: Sequence[Data],
    recipe: Recipe,
    target: IndexTarget = NO_TARGET,
    start: Sequence[model.Weights] | None = None,
) -> Generator[Adapter, None, None]:
    """Adapters of regions, in their order, as groups of them are done.

    data: of each region stored vectors float32 (n, dim) and their chips float32 (n, bands, height,
    width), recipe units, n > 0; start: the adapters that they begin at and are pulled to, by
    default the neutral one. Groups train in as many threads as there are processors.
    Close it when it is not read to its end.
    """
    net = freeze(arch, backbone, target)
    fit = partial(_fit_group, net, backbone, recipe)
    groups = group_regions([len(z) for z, _ in data], 4 * arch.bands * arch.height * arch.width)
    first = [model.neutral_adapter(arch)] * len(data) if start is None else start
    wanted = [(data[group.start : group.stop], first[group.start : group.stop]) for group in groups]
    threads = max(1, min(len(groups), os.cpu_count() or 1))
    # Threads of one operation would wait for each other; these never do.
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    try:
        for found in pool.map(fit, wanted):
            yield from found
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def group_regions(tiles: Sequence[int], chip: int) -> list[range]:
    """Runs of regions of so many tiles of `chip` bytes whose minibatches fit in GROUP and whose
    chips in GROUP_ROOM; a region that does not is a run of its own."""
    found: list[range] = []
    start = seen = size = 0
    for at, count in enumerate(tiles):
        seen, size = seen + min(BATCH, count), size + count * chip
        if at > start and (seen > GROUP or size > GROUP_ROOM):
            found.append(range(start, at))
            start, seen, size = at, min(BATCH, count), count * chip
    return [*found, range(start, len(tiles))] if tiles else []


def _fit_group(
    net: Frozen,
    backbone: model.Weights,
    recipe: Recipe,
    work: tuple[Sequence[Data], Sequence[model.Weights]],
) -> list[Adapter]:
    data, start = work
    group = _load(net, backbone, data)
    begin = torch.stack([_flat(net.arch, adapter) for adapter in start])
    stacked = begin.clone().requires_grad_()
    optimiser = torch.optim.Adam([stacked], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, max(1, recipe.adapter_steps))
    draw = _draws(group, recipe.seed)
    # Shrinks towards the start, which a region of few tiles cannot better much.
    pull = 2 * _pass(net, group, stacked.detach(), _first(group))[0] / group.count
    for _ in range(recipe.adapter_steps):
        slope = _pass(net, group, stacked.detach(), draw())[1]
        slope += pull[:, None] * (stacked.detach() - begin)
        stacked.grad = slope * (1 / (slope.norm(dim=1, keepdim=True) + 1e-6)).clamp(max=1)
        optimiser.step()
        schedule.step()
    return [_named(net.arch, row) for row in stacked.detach()]


def _load(net: Frozen, backbone: model.Weights, data: Sequence[Data]) -> Group:
    count = torch.tensor([len(z) for z, _ in data])
    return Group(
        torch.cat([inputs(net, backbone, z) for z, _ in data]),
        torch.cat([targets(net, backbone, chips) for _, chips in data]),
        count,
        torch.repeat_interleave(torch.arange(len(data)), count),
    )


def _draws(group: Group, seed: int) -> Callable[[], Tensor]:
    """Gives, call by call, how often (tiles,) each tile is in its region's next minibatch."""
    sources = [torch.Generator().manual_seed(seed) for _ in group.count]
    ends = group.count.cumsum(0).tolist()

    def draw() -> Tensor:
        picks = [
            torch.randint(0, n, (min(BATCH, n),), generator=source) + (end - n)
            for n, end, source in zip(group.count.tolist(), ends, sources, strict=True)
        ]
        return torch.bincount(torch.cat(picks), minlength=len(group.z))

    return draw


def _first(group: Group) -> Tensor:
    """The first tiles of every region, once each, as `_draws` gives them."""
    place = torch.arange(len(group.owner)) - (group.count.cumsum(0) - group.count)[group.owner]
    return (place < BATCH).long()


def _pass(net: Frozen, group: Group, stacked: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
    """Mean squared errors (regions,) and their slopes (regions, numbers) over a minibatch.

    A tile that was drawn twice goes through the decoder once and counts twice.
    """
    chosen = times.nonzero()[:, 0]
    share = group.x[0].numel() * group.count.clamp(max=BATCH)
    error, slope = torch.zeros(len(stacked)), torch.zeros_like(stacked)
    for some in torch.split(chosen, _at_once(len(chosen))):
        # The last tile again, for nothing, so that shapes are few.
        part = torch.cat([some, some[-1:].expand(-len(some) % EVEN)])
        owner = group.owner[part]
        weight = times[part] / share[owner]
        weight[len(some) :] = 0
        found, slopes = errors(net, stacked[owner], group.z[part], group.x[part], weight)
        error.index_add_(0, owner, found * weight)
        slope.index_add_(0, owner, slopes)
    return error, slope


def _at_once(tiles: int) -> int:
    """Tiles a pass when `tiles` go through in equal passes of AT_ONCE at most."""
    passes = -(-tiles // AT_ONCE)
    return -(-tiles // passes // EVEN) * EVEN


def _flat(arch: Architecture, adapter: model.Weights) -> Tensor:
    return torch.from_numpy(np.concatenate([adapter[name] for name in sizes(arch)]))


def _named(arch: Architecture, row: Tensor) -> Adapter:
    parts = torch.split(row, list(sizes(arch).values()))
    return {name: part.numpy().copy() for name, part in zip(sizes(arch), parts, strict=True)}
