"""A tiny fidelity code: its file, streams of it and of random bytes with what they say, pictures
with and without a filter, and files that are none."""

import base64
import json
from dataclasses import replace
from datetime import datetime

import numpy as np
from safetensors.numpy import load

from embarchive import fidelity, refine, transform
from embarchive.codes import PLACE, TILE, Codes
from embarchive.contexts import CLASSES, UNIT
from embarchive.errors import EmbarchiveError
from embarchive.fidelity import BUCKETS, CENTRES, Code
from embarchive.filters import to_micros
from embarchive.layer import Layer, dump_layer, load_layer
from embarchive.rangecoder import cumulative
from embarchive.tensors import pack
from golden.model import random_numbers, some_of, wide

BANDS, HEIGHT, WIDTH = 3, 12, 10
CHIP = (BANDS, 16, 16)
POSITIONS = 150
DAYS = (
    "2023-06-01T00:00:00+00:00",
    "2023-06-09T10:30:00.250000+00:00",
    "2023-07-01T00:00:00+00:00",
)
# What a hostile writer would change: metadata, tensors that go or come, other types of the same
# width, other shapes of the same length, single numbers.
EDITS = [
    {},
    {"about": {"most": "0"}},
    {"about": {"most": "-1"}},
    {"about": {"most": "1048577"}},
    {"about": {"most": None}},
    {"about": {"kind": "adapter"}},
    {"about": {"version": "2"}},
    {"about": {"version": None}},
    {"about": {"basis": "air"}},
    {"about": {"dates": None}},
    {"about": {"dates": "2023-06-01T00:00:00+00:00"}},
    {"about": {"dates": "2023-06-01T00:00:00+00:00 2023-06-09T00:00:00+00:00"}},
    {"about": {"basis": "embedding"}},
    {"about": {"height": "11"}},
    {"about": {"height": "x"}},
    {"about": {"height": "14"}},
    {"about": {"height": "18"}},
    {"about": {"height": "0"}},
    {"about": {"width": "130"}},
    {"about": {"width": None}},
    {"drop": "order"},
    {"drop": "filter.noise"},
    {"add": "more"},
    {"add": "filter.more"},
    {"type": ["order", "<f4"]},
    {"type": ["tables", "<i2"]},
    {"type": ["basis", "<u2"]},
    {"shape": ["tables", [CLASSES * 10, 7]]},
    {"shape": ["step_table", [4]]},
    {"shape": ["basis", [3, 2]]},
    {"set": ["steps", 0, float("nan")]},
    {"set": ["steps", 1, 0.0]},
    {"set": ["steps", 1, 7.5]},
    {"set": ["mean", 0, float("inf")]},
    {"set": ["order", 0, -1]},
    {"set": ["order", 0, 2 * HEIGHT * WIDTH]},
    {"set": ["order", 0, 239]},
    {"set": ["expected", 7, 0]},
    {"set": ["expected", 7, (1 << 24) + 1]},
    {"set": ["expected", 7, 1 << 24]},
    {"set": ["ends", 0, -1]},
    {"set": ["ends", 1, 0]},
    {"set": ["ends", -1, POSITIONS - 1]},
    {"set": ["tables", 0, 1]},
    {"set": ["tables", 69, 32767]},
    {"set": ["tables", 5, 0]},
    {"set": ["end_tables", 1, 0]},
    {"set": ["step_table", 3, 1]},
    {"set": ["centres", 0, -128]},
    {"set": ["filter.std", 0, 0.0]},
    {"set": ["filter.in", 0, float("inf")]},
]


def make():
    code = tiny()
    filtered = Layer(code, "embedding", 0, mending(BANDS, HEIGHT, WIDTH, 16))
    data = dump_layer(filtered, "float16")
    return {
        "cosines": [checked(size) for size in range(2, 130, 2)],
        "chip": CHIP,
        "code": text(dump_layer(Layer(code, "pixels"), "float32")),
        "streams": [said(code, stream) for stream in streams(code)],
        "filtered": {"code": text(data), **mended(load_layer(data, *CHIP))},
        "widths": refine.WIDTHS,
        "filters": [
            filter_alone(*shape) for shape in ((1, 2, 2, 8), (5, 14, 16, 24), (2, 8, 6, 64))
        ],
        "together": together(code),
        "edits": [edited(data, edit) for edit in EDITS],
    }


def checked(size):
    """What shows that every number of a matrix of cosines is right."""
    whole = transform.whole_cosines(size).astype(np.int64).ravel()
    return [size, int((whole * (1 + np.arange(size * size) % 1009)).sum())]


def tiny():
    """A code whose numbers are made, not fitted: the same on every machine."""
    drawn = random_numbers(11, 2 * HEIGHT * WIDTH)
    near = np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)).ravel()
    place = np.concatenate([near, near + 2]) + drawn
    order = np.argsort(place, kind="stable")[:POSITIONS]
    expected = (UNIT * 24 / (1 + place[order]) ** 2).astype(np.int64)
    ends = np.array([0, 1, 2, 5, 12, 30, 70, POSITIONS])
    return Code(
        height=HEIGHT,
        width=WIDTH,
        mean=np.array([0.5, -1.25, 1 / 3]),
        basis=np.array([[9459, 9459, 9459], [11585, 0, -11585]]),
        steps=np.array([0.3, 1.0, 4.7]),
        order=order,
        expected=1 + np.stack([expected, expected // 3, expected // 14]),
        tables=cumulative(forms()),
        end_tables=np.repeat(cumulative(1.0 + np.arange(8)[None] ** 2), 3, axis=0),
        step_table=cumulative(np.ones((1, 3))),
        ends=ends,
        centres=(np.arange(CLASSES * CENTRES) * 37 % 41 - 20).reshape(CLASSES, CENTRES),
    )


def forms():
    """Falling counts of the symbols of each class, in whole numbers."""
    bucket = (1 + np.arange(2 * BUCKETS - 1)) // 2
    wide = 1 + np.arange(CLASSES)[:, None]
    return np.maximum(1.0, 4000 * wide**2 // (wide + 12 * bucket) ** 2)


def streams(code):
    """Of pictures, at every step; empty; of random bytes."""
    n = 6
    waves = np.sin(np.arange(n * BANDS * HEIGHT * WIDTH).reshape(n, BANDS, HEIGHT, WIDTH) / 7)
    noise = random_numbers(5, waves.size).reshape(waves.shape)
    images = (9 * np.round(waves * 64) / 64 + 3 * noise).astype(np.float32)
    values = fidelity.coefficients(code, images)
    found = fidelity.write(code, fidelity.choose(code, values, np.arange(n) % 3))
    drawn = ((random_numbers(6, 1200) + 1) * 128).astype(np.uint8).tobytes()
    found += [b"", b"\xff" * 60, b"\0\0\1"]
    return found + [drawn[at : at + at // 8] for at in range(9, 700, 82)]


def said(code, stream):
    choice = fidelity.read(code, [stream])
    count = int(code.ends[choice.end[0]])
    image = fidelity.decode(code, [stream])
    return {
        "stream": text(stream),
        "step": int(choice.step[0]),
        "level": choice.level[:count, 0].tolist(),
        "kind": choice.kind[:count, 0].tolist(),
        "image": text(image.astype("<f4").tobytes()),
    }


def mending(bands, height, width, channels):
    """Weights of a filter that keep numbers near one."""
    found = {}
    shapes = refine.Shape(bands, height, width, channels).tensors()
    for number, (name, shape) in enumerate(sorted(shapes.items())):
        values = random_numbers(300 + number, int(np.prod(shape))).reshape(shape)
        values = values / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else values / 2
        found[name] = (values + 1 if name == "std" else values).astype(np.float32)
    return found


def mended(layer):
    """Chips on what embeddings decode to; the filter in float64, see `golden.model`."""
    layer = replace(layer, filter=wide(layer.filter))
    chips = 4 * random_numbers(8, 3 * int(np.prod(CHIP))).astype(np.float32).reshape(3, *CHIP)
    some = streams(layer.code)[:3]
    pixels = layer.apply(chips, some)
    return {"streams": [text(stream) for stream in some], **some_of(pixels, 7)}


def together(code):
    """Tiles of one band whose places are coded with three dates, which are the code's channels."""
    own = code.order < HEIGHT * WIDTH
    ends = np.append(code.ends[:-1], own.sum())
    one = replace(
        code, mean=code.mean[:1], basis=np.array([[16384]]), order=code.order[own],
        expected=code.expected[:, own], ends=ends,
    )  # fmt: skip
    made = Codes(Layer(one, "embedding"), Layer(code, "embedding", dates=DAYS))
    some = streams(code)
    texts = [PLACE + some[0], TILE + some[1], PLACE + some[0], PLACE + some[2], TILE]
    when = [DAYS[2], None, DAYS[0], DAYS[1], DAYS[1]]
    chips = 4 * random_numbers(8, 5 * 16 * 16).astype(np.float32).reshape(5, 1, 16, 16)
    return {
        "tile": text(dump_layer(made.tile, "float32")),
        "place": text(dump_layer(made.place, "float32")),
        "texts": [text(one) for one in texts],
        "when": [day and to_micros(datetime.fromisoformat(day)) for day in when],
        "chips": text(made.apply(chips, texts, when).astype("<f4").tobytes()),
    }


def filter_alone(bands, height, width, channels):
    """A filter of another shape: its pictures of three made ones."""
    images = random_numbers(8, 3 * bands * height * width).astype(np.float32)
    weights = {
        name: value.astype(np.float64)
        for name, value in mending(bands, height, width, channels).items()
    }
    found = refine.refine(weights, images.astype(np.float64).reshape(3, bands, height, width))
    return {
        "shape": {"bands": bands, "height": height, "width": width, "channels": channels},
        **some_of(found, 11),
    }


def edited(data, edit):
    """An edit, and what reading the edited file ends with."""
    try:
        load_layer(apply(data, edit), *CHIP)
        error = None
    except EmbarchiveError as found:
        error = type(found).__name__
    return {"edit": json.loads(json.dumps(edit), parse_constant=str), "error": error}


def apply(data, edit):
    """The file with an edit."""
    size = int.from_bytes(data[:8], "little")
    about = json.loads(data[8 : 8 + size])["__metadata__"] | edit.get("about", {})
    found = {name: value.copy() for name, value in load(data).items()}
    found.pop(edit.get("drop"), None)
    if "add" in edit:
        found[edit["add"]] = np.zeros(3, np.float32)
    if "type" in edit:
        name, kind = edit["type"]
        found[name] = found[name].view(kind)
    if "shape" in edit:
        name, shape = edit["shape"]
        found[name] = found[name].reshape(shape)
    if "set" in edit:
        name, place, value = edit["set"]
        found[name].reshape(-1)[place] = value
    return pack(list(found.items()), {k: v for k, v in about.items() if v is not None})


def text(data):
    return base64.b64encode(data).decode()
