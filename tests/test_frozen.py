"""The decoder with fixed weights gives what automatic differentiation of the decoder gives."""

import numpy as np
import pytest
from networks import ARCHITECTURES, SMALL, TINY, random_chips, random_vectors, random_weights

from embarchive import model
from embarchive.indices import IndexTarget

torch = pytest.importorskip("torch")
from embarchive import frozen, train  # noqa: E402

N = 5


# Both kinds of floor; the second leaves about half of the pixels of random chips out.
TARGETS = [IndexTarget(((0, 1), (1, 0)), 3.0, 0.02), IndexTarget(((1, 0),), 50.0, 1.0)]


def differentiated(arch, backbone, adapters, z, chips, weight, target=None):
    """Errors (n,) and slopes (n, numbers), a tile at a time, by torch.autograd."""
    fixed = {name: torch.tensor(value) for name, value in backbone.items()}
    found = []
    for own, code, chip, share in zip(adapters, z, chips, weight, strict=True):
        params = {k: torch.tensor(v, requires_grad=True) for k, v in own.items()}
        x = (torch.tensor(chip) - fixed["mean"][:, None, None]) / fixed["std"][:, None, None]
        image = train.decode(arch, fixed, params, torch.tensor(code)[None])[0]
        error = (image - x).square().sum()
        whole = error
        if target:
            gap = train.index_error(target, fixed, image[None], x[None])
            whole = error + target.weight * gap * x.numel()
        slopes = torch.autograd.grad(whole * float(share), params.values())
        found.append((error.item(), torch.cat(slopes).numpy()))
    return np.array([error for error, _ in found]), np.stack([slope for _, slope in found])


@pytest.mark.parametrize("arch", [TINY, SMALL, *ARCHITECTURES])
def test_errors_and_slopes_are_those_of_automatic_differentiation(arch):
    backbone = random_weights(arch, "backbone")
    adapters = [random_weights(arch, "adapter", seed) for seed in range(N)]
    z, chips = random_vectors(arch, N), random_chips(arch, N)
    weight = np.linspace(0.5, 2, N, dtype=np.float32)
    net = frozen.freeze(arch, backbone)
    rows = torch.tensor(np.stack([np.concatenate(list(own.values())) for own in adapters]))
    got, slopes = frozen.errors(
        net,
        rows,
        frozen.inputs(net, backbone, z),
        frozen.targets(net, backbone, chips),
        torch.tensor(weight),
    )
    error, expected = differentiated(arch, backbone, adapters, z, chips, weight)
    np.testing.assert_allclose(got.numpy(), error, rtol=1e-5)
    np.testing.assert_allclose(slopes.numpy(), expected, rtol=1e-3, atol=1e-5 * abs(expected).max())


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("arch", [SMALL, ARCHITECTURES[0]])
def test_slopes_of_indices_are_those_of_automatic_differentiation(arch, target):
    backbone = random_weights(arch, "backbone")
    adapters = [random_weights(arch, "adapter", seed) for seed in range(N)]
    z, chips = random_vectors(arch, N), random_chips(arch, N) + 1
    weight = np.linspace(0.5, 2, N, dtype=np.float32)
    rows = torch.tensor(np.stack([np.concatenate(list(own.values())) for own in adapters]))
    found = []
    for aim in (target, IndexTarget()):
        net = frozen.freeze(arch, backbone, aim)
        x, codes = frozen.targets(net, backbone, chips), frozen.inputs(net, backbone, z)
        found.append(frozen.errors(net, rows, codes, x, torch.tensor(weight)))
    _, expected = differentiated(arch, backbone, adapters, z, chips, weight, target)
    scale = abs(expected).max()
    assert torch.equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1].numpy(), expected, rtol=1e-3, atol=1e-5 * scale)
    assert abs(found[1][1].numpy() - expected).max() > 1e-2 * scale


def test_the_row_of_an_adapter_has_the_numbers_of_its_tensors_in_their_order():
    neutral = model.neutral_adapter(SMALL)
    assert list(frozen.sizes(SMALL).items()) == [(k, v.size) for k, v in neutral.items()]


def test_a_pass_leaves_what_it_was_given_as_it_was():
    backbone = random_weights(SMALL, "backbone")
    net = frozen.freeze(SMALL, backbone, TARGETS[0])
    z = frozen.inputs(net, backbone, random_vectors(SMALL, N))
    x = frozen.targets(net, backbone, random_chips(SMALL, N))
    rows, weight = torch.ones(N, sum(frozen.sizes(SMALL).values())), torch.ones(N)
    before = [some.clone() for some in (rows, z, x, weight)]
    first, second = (frozen.errors(net, rows, z, x, weight) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(before, (rows, z, x, weight), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
