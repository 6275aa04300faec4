"""Architectures, shapes of tensors, and decoded pixels: of the demo's models, of random networks.

Weights are float64 here, so that pixels rounded to 6 digits do not depend on the order in which
a machine adds.
"""

import math

import numpy as np

import embarchive
from embarchive.model import Architecture, decode_batch
from embarchive.rows import embeddings
from embarchive.serve import demo_root

KINDS = ("encoder", "backbone", "adapter", "shared", "full")
# bands height width dim style basis channels blocks stride, and whether with an adapter:
# odd sizes; few channels; one patch a chip and one of everything; as many bands as there can be.
NETWORKS = [
    ((5, 48, 32, 23, 5, 11, 12, 3, 8), True),
    ((3, 32, 112, 40, 8, 20, 6, 1, 16), False),
    ((1, 16, 16, 2, 1, 1, 1, 1, 16), True),
    ((64, 128, 128, 9, 2, 4, 9, 1, 8), True),
]
REFUSED = [
    {"bands": 65},
    {"bands": 0},
    {"bands": 4.5},
    {"bands": True},
    {"bands": "4"},
    {"height": 24},
    {"width": 144},
    {"dim": 1025},
    {"style": 64},
    {"style": 0},
    {"basis": 257},
    {"channels": 0},
    {"blocks": 17},
    {"stride": 4},
    {"extra": 1},
]


def make():
    return {
        "shapes": [
            {
                "architecture": Architecture(*sizes).to_json(),
                **{kind: Architecture(*sizes).shapes(kind) for kind in KINDS},
            }
            for sizes, _ in NETWORKS
        ],
        "refused": REFUSED,
        "random": [random_network(*network) for network in NETWORKS],
        "demo": demo(),
    }


def random_network(sizes, adapted):
    """Pixels of three vectors through a network whose weights both languages can make."""
    arch = Architecture(*sizes)
    backbone = random_weights(arch, "backbone", 1)
    adapter = random_weights(arch, "adapter", 2) if adapted else None
    z = 3 * random_numbers(3, 3 * arch.dim).reshape(3, arch.dim)
    pixels = decode_batch(arch, backbone, adapter, z)
    step = 97 if pixels.size < 100_000 else 9973
    return {"architecture": arch.to_json(), "adapted": adapted, **some_of(pixels, step)}


def demo():
    """Pixels of two rows of every region of the archive inside the package."""
    archive = embarchive.open_archive(demo_root())
    rows = archive.select(columns=["model_id", "embedding"])
    names = np.array(rows["model_id"].cast("string").to_pylist())
    vectors = embeddings(rows)
    found = []
    for row in archive.models().to_pylist():
        decoder = archive.weights.decoder(row["model_id"])
        chosen = np.flatnonzero(names == row["model_id"])[[0, -1]]
        q = vectors[chosen]
        parts = (wide(decoder.backbone), wide(decoder.adapter))
        pixels = decode_batch(decoder.architecture, *parts, q * np.float32(decoder.scale))
        keys = ("model_id", "length", "backbone", "backbone_length", "kind")
        kept = {key: row[key] for key in keys}
        found.append({**kept, "embedding": q.tolist(), **some_of(pixels, 97)})
    space = archive.space()
    return {"architecture": space.architecture, "scale": space.scale, "models": found}


def some_of(pixels, step):
    """Every so many pixels, and the spread of all."""
    return {
        "std": round(float(pixels.std()), 6),
        "step": step,
        "pixels": [round(float(value), 6) for value in pixels.ravel()[::step]],
    }


def wide(weights):
    """Weights as float64."""
    return {name: value.astype(np.float64) for name, value in weights.items()}


def random_numbers(seed, n):
    """n numbers, multiples of 1/128 from -1 to 1, by Knuth's congruence of 32 bits."""
    found, state = np.empty(n), seed
    for i in range(n):
        state = (state * 1664525 + 1013904223) % 2**32
        found[i] = (state >> 24) / 128 - 1
    return found


def random_weights(arch, kind, seed):
    """Weights that keep numbers near one, float64; scales are positive."""
    found = {}
    for number, (name, shape) in enumerate(arch.shapes(kind).items()):
        values = random_numbers(1000 * seed + number, math.prod(shape))
        spread = 2.0 ** round(math.log2(1.2 / math.sqrt(math.prod(shape[1:]))))
        positive = name in ("std", "z_scale", "gain")
        found[name] = (1 + values / 2 if positive else values * spread).reshape(shape)
    return found
