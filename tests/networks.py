"""Networks with random weights, and chips whose only difference is their texture."""

import numpy as np

from embarchive.model import Architecture, choose_architecture

ARCHITECTURES = [
    choose_architecture(5, 48, 32, 24),
    choose_architecture(4, 64, 64, 64),
    choose_architecture(3, 128, 96, 64),
    Architecture(2, 16, 32, 7, 3, 5, 6, 3, 8),
]
TINY = Architecture(2, 16, 32, 7, 3, 5, 6, 1, 8)
SMALL = Architecture(3, 32, 32, 24, 6, 12, 8, 1, 8)


def random_weights(arch, kind, seed=0):
    """float32 weights of any kind, of sizes that keep numbers near one; std is positive."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, shape in arch.shapes(kind).items():
        spread = 0.7 / np.sqrt(max(1, np.prod(shape[1:])))
        found[name] = rng.normal(0, spread, shape).astype(np.float32)
        if name.split(".")[-1] in ("std", "z_scale", "gain"):
            found[name] = rng.uniform(0.5, 2, shape).astype(np.float32)
    return found


def random_vectors(arch, n, seed=1):
    return np.random.default_rng(seed).normal(size=(n, arch.dim)).astype(np.float32)


def random_chips(arch, n, seed=1):
    shape = (n, arch.bands, arch.height, arch.width)
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def textures(n, bands, side, seed):
    """Chips float32 (n, bands, side, side) and their class: four grains, smooth to rough,
    with levels and contrasts that have nothing to do with the class."""
    rng, label = np.random.default_rng(seed), np.arange(n) % 4
    radius = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    keep = np.exp(-((radius / np.array([0.03, 0.07, 0.15, 0.4])[label, None, None]) ** 2) / 2)
    keep[:, 0, 0] = 0
    grain = np.fft.ifft2(np.fft.fft2(rng.normal(size=(n, side, side))) * keep).real
    grain *= 0.2 * np.exp(rng.normal(0, 0.5, (n, 1, 1))) / grain.std(axis=(1, 2), keepdims=True)
    level = rng.normal(0, 0.3, (n, bands, 1, 1))
    chips = level + grain[:, None] * np.linspace(0.6, 1.4, bands)[:, None, None]
    return chips.astype(np.float32), label


def edges(n, side, seed):
    """Chips float32 (n, 2, side, side): one straight soft edge each, anywhere, any way."""
    rng = np.random.default_rng(seed)
    angle, offset = rng.uniform(0, 2 * np.pi, (n, 1, 1)), rng.uniform(-5, 5, (n, 1, 1))
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    edge = np.tanh(np.cos(angle) * x + np.sin(angle) * y - offset)
    return np.stack([edge, -0.5 * edge], axis=1).astype(np.float32)
