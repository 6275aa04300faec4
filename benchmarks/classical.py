"""The classical codecs of bench_storage, each as strong as it could be made.

JPEG 2000 by OpenJPEG, JPEG XL by libjxl (both of imagecodecs), HEVC by x265 (PyAV), AVIF by libaom
(Pillow). Bands go through a Karhunen-Loeve transform fitted to the training tiles, components
are coded one by one, and how many of them, and how well each, is chosen on what is coded, by one
rate-distortion slope: as an encoder does, never worse than a choice on training tiles.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, product

import av
import imagecodecs
import numpy as np
from coding import Coded, Curve, Klt, Mosaic, fit_klt, lay_out, spend
from numpy.typing import NDArray
from PIL import Image
from sets import Images, Task

# More components than this, or of less of the whole energy, never paid.
MOST_COMPONENTS, LEAST_ENERGY = 8, 3e-4
# Standard deviations of the first component are so many steps of a JPEG 2000 integer.
STEPS = 64
# Ratio of one tried distortion to the next; bytes above which nothing more is tried, as a
# multiple of the largest target: for a tile, and for a picture of all tiles.
FINER, FINER_PICTURE, TILE_ROOM, PICTURE_ROOM = 0.8, 0.93, 5, 1.2
# Contrasts are divided by these: three a step of QP, so that bytes come close to a target, and
# many at its coarsest, which alone is too fine for a few bytes a tile.
CONTRASTS = (2 ** (2 / 18), 2 ** (1 / 18), 1.0)
COARSE = tuple(2 ** (step / 12) for step in range(36, 1, -1))
LEVELS = (3, 4, 5, 6)
X265 = (
    "keyint=1:info=0:log-level=none:aq-mode=0:no-psy-rd=1:psy-rd=0:psy-rdoq=0:rdoq-level=2:"
    "tskip=1:no-wpp=1:pools=none:frame-threads=1:ipratio=1:hash=0:repeat-headers=1:qp="
)
HEADER_UNITS = (32, 33, 34)  # VPS, SPS, PPS
MESSAGES = (39, 40)

Integers = NDArray[np.uint16]


@dataclass(frozen=True)
class Version:
    """One coding of a plane: bytes of its own, bytes that all planes share, and its decode."""

    own: int
    shared: int
    image: Images


# Codings of one plane (height, width), coarse to fine, up to so many bytes.
Coder = Callable[[Images, float], Iterator[Version]]


# ---------------------------------------------------------------- JPEG 2000


@dataclass(frozen=True)
class Jpeg2000:
    """9/7 wavelet, code blocks of 64 x 64, one quality layer cut at a distortion.

    step: recipe units an integer; bits of an integer; resolutions: decompositions + 1;
    whole: the headers count for each plane. Without it only packets do; their zero bytes at the
    end, which are packets of nothing, are left out, and a component that is not coded costs
    nothing where a packet of nothing would cost a byte: both in its favour.
    """

    step: float
    bits: int
    resolutions: int
    whole: bool = False
    finer: float = FINER

    def __call__(self, plane: Images, most: float) -> Iterator[Version]:
        """Versions until one takes more than `most` bytes."""
        values = np.rint(plane / self.step) + 2 ** (self.bits - 1)
        numbers = np.clip(values, 0, 2**self.bits - 1).astype(np.uint16)
        error = float(np.mean(np.square(plane, dtype=np.float64))) / self.step**2
        peak, before = (2**self.bits - 1) ** 2, -1
        while error > 0.2:
            error *= self.finer
            data = self.encode(numbers, 10 * np.log10(peak / error))
            start = data.index(b"\xff\x93") + 2
            packets = len(data[start:-2].rstrip(b"\0"))
            if packets == before:
                continue
            before = packets
            if packets > most:
                return
            shared = start + 2
            image = (imagecodecs.jpeg2k_decode(data) - 2.0 ** (self.bits - 1)) * self.step
            if self.whole:
                yield Version(len(data), 0, image.astype(np.float32))
            else:
                yield Version(packets, shared, image.astype(np.float32))

    def encode(self, numbers: Integers, decibel: float) -> bytes:
        """A codestream of about this PSNR."""
        data: bytes = imagecodecs.jpeg2k_encode(
            numbers, float(decibel), codecformat="j2k", bitspersample=self.bits, reversible=False,
            resolutions=self.resolutions, mct=False, numthreads=1,
        )  # fmt: skip
        return data


def jpeg2000_of(
    planes: Images, resolutions: int, whole: bool = False, finer: float = FINER
) -> Jpeg2000:
    """Integers as fine as the first component asks for, and no wider than all need."""
    step = float(planes[:, 0].std()) / STEPS or 1.0
    largest = float(np.abs(planes).max()) / step
    bits = int(np.clip(np.ceil(np.log2(largest + 1)) + 1, 9, 16))
    return Jpeg2000(step, bits, resolutions, whole, finer)


# ---------------------------------------------------------------- HEVC, AVIF, JPEG XL


def ranged(plane: Images, most: int) -> tuple[NDArray[np.float64], float, float]:
    """A plane as whole numbers 0..most, with the step and the least value."""
    low, high = float(plane.min()), float(plane.max())
    step = (high - low) / most or 1.0
    return np.rint((plane - low) / step), step, low


def hevc(plane: Images, most: float) -> Iterator[Version]:
    """Intra pictures of 10 bits by x265, preset veryslow, no psychovisual tuning, one substream;
    parameter sets are shared, messages left out."""
    height, width = plane.shape
    for qp, contrast in chain(product((51,), COARSE), product(range(51, 14, -1), CONTRASTS)):
        numbers, step, low = ranged(plane, round(1023 / contrast))
        numbers = np.pad(numbers, ((0, -height % 8), (0, -width % 8)), mode="edge")
        packets = _x265(numbers.astype(np.uint16), qp)
        own, shared = unit_bytes(b"".join(packets))
        if own > most:
            return
        decoder = av.CodecContext.create("hevc", "r")
        frames = [one for data in packets for one in decoder.decode(av.Packet(data))]
        image = [*frames, *decoder.decode(None)][0].to_ndarray()[:height, :width]
        yield Version(own, shared, (image * step + low).astype(np.float32))


def _x265(numbers: Integers, qp: int) -> list[bytes]:
    codec = av.CodecContext.create("libx265", "w")
    codec.height, codec.width = numbers.shape
    codec.pix_fmt, codec.time_base = "gray10le", Fraction(1, 25)
    codec.options = {"preset": "veryslow", "tune": "psnr", "x265-params": f"{X265}{qp}"}
    frame = av.VideoFrame.from_ndarray(numbers, format="gray10le")
    frame.pts = 0
    return [bytes(packet) for packet in [*codec.encode(frame), *codec.encode(None)]]


def unit_bytes(stream: bytes) -> tuple[int, int]:
    """Bytes of an HEVC stream's slices, and of its parameter sets, start codes included."""
    own = shared = 0
    for unit in stream.split(b"\0\0\1")[1:]:
        kind = unit[0] >> 1 & 63
        size = 3 + len(unit.rstrip(b"\0"))
        if kind in HEADER_UNITS:
            shared += size
        elif kind not in MESSAGES:
            own += size
    return own, shared


def avif(plane: Images, most: float) -> Iterator[Version]:
    """Gray pictures of 8 bits by libaom, tuned for PSNR; the boxes before the data are shared."""
    coarse = ((0, contrast) for contrast in COARSE[::6])
    for quality, contrast in chain(coarse, ((quality, 1.0) for quality in range(0, 80, 4))):
        numbers, step, low = ranged(plane, round(255 / contrast))
        data = io.BytesIO()
        Image.fromarray(numbers.astype(np.uint8)).save(
            data, "AVIF", quality=quality, subsampling="4:0:0", speed=4, max_threads=1,
            codec="aom", advanced={"tune": "psnr"},
        )  # fmt: skip
        shared = data.getvalue().index(b"mdat") + 4
        own = len(data.getvalue()) - shared
        if own > most:
            return
        data.seek(0)
        image = np.asarray(Image.open(data).convert("L"))
        yield Version(own, shared, (image * step + low).astype(np.float32))


def jpeg_xl(plane: Images, most: float) -> Iterator[Version]:
    """Gray pictures of 16 bits by libjxl, bare codestream. It codes what the eye sees and stops
    at a distance of 25; less contrast goes further."""
    for contrast in (1 / 16, 1 / 4, 1.0):
        numbers, step, low = ranged(plane, round(65535 * contrast))
        shift = round(32768 * (1 - contrast))
        for distance in (25.0, 18.0, 12.0, 8.0, 5.0, 3.0, 2.0, 1.0):
            data = imagecodecs.jpegxl_encode(
                (numbers + shift).astype(np.uint16), distance=distance, effort=7,
                usecontainer=False, numthreads=1,
            )  # fmt: skip
            if len(data) > most:
                break
            image = imagecodecs.jpegxl_decode(data).astype(np.float64) - shift
            yield Version(len(data), 0, (image * step + low).astype(np.float32))


# ---------------------------------------------------------------- of one picture, of tiles


@dataclass(frozen=True)
class Unit:
    """A plane's codings that none beats; the first is to leave it out."""

    curve: Curve
    images: tuple[Images, ...]
    shared: int


def code_unit(
    plane: Images, coder: Coder, most: float, mosaic: Mosaic | None, least: float = 0.0
) -> Unit:
    """A plane (height, width), or with a mosaic one of each tile (n, height, width); to `most`
    bytes or `least` squared error."""
    picture = plane if mosaic is None else mosaic.lay(plane)
    rates, errors = [0.0], [float(np.square(plane, dtype=np.float64).sum())]
    images, shared = [np.zeros((1,) * plane.ndim, np.float32)], 0
    for version in coder(picture, most):
        image = version.image if mosaic is None else mosaic.cut(version.image)
        rates.append(version.own)
        errors.append(float(np.square(plane - image, dtype=np.float64).sum()))
        images.append(image)
        shared = max(shared, version.shared)
        if errors[-1] < least:
            break
    curve = Curve(np.array(rates), np.array(errors))
    kept = curve.efficient()
    return Unit(
        Curve(curve.rate[kept], curve.error[kept]), tuple(images[at] for at in kept), shared
    )


def components(task: Task) -> tuple[Klt, Images]:
    """The transform of the training tiles, and the test tiles' components."""
    klt = fit_klt(task.train.images)
    planes = klt.forward(task.test.images)
    energy = np.square(planes, dtype=np.float64).mean(axis=(0, 2, 3))
    count = int((energy > LEAST_ENERGY * energy.sum()).sum())
    return klt, planes[:, : min(count, MOST_COMPONENTS)]


def as_picture(
    name: str, task: Task, targets: Sequence[int], coders: Sequence[Coder]
) -> list[Coded]:
    """All test tiles as one picture a component; of several coders the best at each target."""
    klt, planes = components(task)
    mosaic, count = lay_out(task.test), len(task.test)
    most = PICTURE_ROOM * max(targets) * count
    best: dict[int, tuple[float, Coded]] = {}
    for coder in coders:
        units: list[Unit] = []
        for plane in planes.swapaxes(0, 1):
            # The first component had all bytes to itself: at one slope none gets far below it.
            least = units[0].curve.error.min() / 2 if units else 0.0
            units.append(code_unit(plane, coder, most, mosaic, least))
        for target in targets:
            chosen = spend([unit.curve for unit in units], target * count)
            pairs = list(zip(units, chosen, strict=True))
            error = sum(unit.curve.error[at] for unit, at in pairs)
            if target in best and best[target][0] <= error:
                continue
            images = np.stack(
                [np.broadcast_to(unit.images[at], planes[:, 0].shape) for unit, at in pairs], axis=1
            )
            used = sum(at > 0 for at in chosen)
            shared = sum(unit.shared for unit, at in pairs if at)
            spent = sum(unit.curve.rate[at] for unit, at in pairs) / count
            model = klt.bytes(used) + shared
            coded = Coded(name, target, "slope", float(spent), model, klt.inverse(images))
            best[target] = (float(error), coded)
    return [coded for _, coded in best.values()]


def by_tile(name: str, task: Task, targets: Sequence[int], coder: Coder) -> list[Coded]:
    """Each test tile on its own, by one slope for all of them, and each within the target."""
    klt, planes = components(task)
    most = TILE_ROOM * max(targets)
    units = [[code_unit(plane, coder, most, None) for plane in tile] for tile in planes]
    flat = [unit.curve for tile in units for unit in tile]
    found = []
    for target in targets:
        slope = np.array(spend(flat, target * len(units))).reshape(len(units), -1)
        equal = np.array([spend([unit.curve for unit in tile], target) for tile in units])
        for rate, chosen in (("slope", slope), ("equal", equal)):
            if not chosen.any():
                continue
            images = np.zeros_like(planes)
            spent = 0.0
            for i, tile in enumerate(units):
                for k, unit in enumerate(tile):
                    images[i, k] = unit.images[chosen[i, k]]
                    spent += unit.curve.rate[chosen[i, k]]
            used = int((chosen > 0).any(axis=0).sum())
            shared = max((unit.shared for tile in units for unit in tile), default=0)
            model = klt.bytes(used) + shared * used
            found.append(Coded(name, target, rate, spent / len(units), model, klt.inverse(images)))
    return found


# ---------------------------------------------------------------- the methods


def jpeg2000_tiles(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + JPEG 2000, a codestream a tile, headers shared."""
    _, planes = components(task)
    return by_tile("JPEG 2000, tiles, shared headers", task, targets, _tile_coder(planes, False))


def jpeg2000_whole_tiles(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + JPEG 2000, a codestream a tile and component with all its headers."""
    _, planes = components(task)
    return by_tile("JPEG 2000, tiles, all headers", task, targets, _tile_coder(planes, True))


def jpeg2000_scene(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + JPEG 2000 of the scene, a codestream a component, headers stripped."""
    _, planes = components(task)
    coders = [jpeg2000_of(planes, one, finer=FINER_PICTURE) for one in LEVELS]
    return as_picture("JPEG 2000, scene, headers stripped", task, targets, coders)


def hevc_scene(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + HEVC intra of the scene."""
    return as_picture("HEVC intra, scene", task, targets, [hevc])


def avif_scene(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + AVIF of the scene."""
    return as_picture("AVIF, scene", task, targets, [avif])


def jpeg_xl_scene(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + JPEG XL of the scene."""
    return as_picture("JPEG XL, scene", task, targets, [jpeg_xl])


def jpeg_xl_tiles(task: Task, targets: Sequence[int]) -> list[Coded]:
    """KLT + JPEG XL, a file a tile and component."""
    return by_tile("JPEG XL, tiles", task, targets, jpeg_xl)


def _tile_coder(planes: Images, whole: bool) -> Jpeg2000:
    """The number of resolutions that is best at 32 bytes for some of the tiles."""
    some = planes[:: max(1, len(planes) // 32)]
    deepest = int(np.log2(min(planes.shape[2:]))) + 1
    found = []
    for resolutions in [one for one in LEVELS if one <= deepest]:
        coder = jpeg2000_of(planes, resolutions, whole)
        curves = [code_unit(plane, coder, 200, None).curve for tile in some for plane in tile]
        chosen = spend(curves, 32 * len(some))
        error = sum(curve.error[at] for curve, at in zip(curves, chosen, strict=True))
        found.append((float(error), coder))
    return min(found, key=lambda one: one[0])[1]
