"""The fidelity codes of a space: of single tiles, and of all dates of a place together.

Where a place has every date of a list, its rows share one stream, which stands in the row of the
first date after a mark; the other rows have none of their own. In a space with such codes the
streams of single tiles begin with a mark too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from embarchive import fidelity
from embarchive.errors import Damaged
from embarchive.layer import Layer, rest_of
from embarchive.model import Array

TILE, PLACE = b"\0", b"\1"
# Share of a tile that has to be data and not cloud.
CLEAR = 0.8
# Region decoders whose rows may share a stream: others have vectors of their own in the column.
DECODERS = ("adapter", "shared")


@dataclass(frozen=True)
class Shared:
    """The stream that a tile shares with the other dates of its place, and which date it is."""

    stream: bytes
    slot: int


@dataclass(frozen=True)
class Codes:
    """tile: the code of single tiles; place: of dates together, None without."""

    tile: Layer
    place: Layer | None = None

    def block(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a chip that the codes are of."""
        return self.tile.block(height, width)

    def write(self, chips: Array, decoded: Array, shared: Sequence[Shared | None]) -> list[bytes]:
        """What each of chips float32 (n, bands, height, width) decodes from, see `apply`;
        decoded: likewise, of their embeddings."""
        if self.place is None:
            return self.tile.write(chips, decoded)
        alone = [i for i, one in enumerate(shared) if one is None]
        found = [b"" if one is None else PLACE + one.stream for one in shared]
        for i, stream in zip(alone, self.tile.write(chips[alone], decoded[alone]), strict=True):
            found[i] = TILE + stream
        return found

    def apply(self, decoded: Array, texts: Sequence[bytes], when: Sequence[str | None]) -> Array:
        """Chips with what the texts say, of what their embeddings decode to; when: ISO dates.
        Raises Damaged."""
        if self.place is None:
            return self.tile.apply(decoded, texts)
        alone = [i for i, text in enumerate(texts) if text[:1] == TILE]
        together = [i for i, text in enumerate(texts) if text[:1] == PLACE]
        if len(alone) + len(together) < len(texts):
            raise Damaged("code column: expected a mark of a tile or a place, found another")
        found = decoded.copy()
        if alone:
            found[alone] = self.tile.apply(decoded[alone], [texts[i][1:] for i in alone])
        if together:
            dates = self._dates([when[i] for i in together])
            block = (slice(None), *self.block(*decoded.shape[2:]))
            streams, below = [texts[i][1:] for i in together], decoded[together][(..., *block[1:])]
            for i, one in zip(together, pictures(self.place, streams, dates, below), strict=True):
                found[i][block] = one
        return found

    def _dates(self, when: Sequence[str | None]) -> list[int]:
        """Numbers of dates among those of a place. Raises Damaged."""
        assert self.place is not None
        known = self.place.dates
        for day in when:
            if day not in known:
                raise Damaged(f"code column: expected a date of {', '.join(known)}, found {day}")
        return [known.index(str(day)) for day in when]


def share(place: Layer, stacks: Array, decoded: Array) -> list[bytes]:
    """A stream for each place of stacks float32 (n, dates, bands, height, width), whole chips, and
    of what their embeddings decode to."""
    block = (..., *place.block(*stacks.shape[3:]))
    rest = rest_of(place.basis, stacks[block], decoded[block])
    n, dates, bands, height, width = rest.shape
    return fidelity.encode(place.code, rest.reshape(n, dates * bands, height, width))


def pictures(place: Layer, streams: Sequence[bytes], dates: Sequence[int], decoded: Array) -> Array:
    """Blocks float32 (n, bands, height, width) of tiles by the streams of their places and the
    numbers of their dates; decoded: blocks that their embeddings decode to."""
    bands = decoded.shape[1]
    found = np.empty_like(decoded)
    distinct = {stream: at for at, stream in enumerate(dict.fromkeys(streams))}
    coded = fidelity.decode(place.code, list(distinct))
    for row, (stream, date) in enumerate(zip(streams, dates, strict=True)):
        found[row] = coded[distinct[stream], date * bands : (date + 1) * bands]
    return place.shown(found, decoded)


def stored(texts: Sequence[bytes], shared: Sequence[Shared | None]) -> list[bytes]:
    """What stands in the rows: the stream of a place only in that of its first date."""
    return [
        b"" if one is not None and one.slot else text
        for text, one in zip(texts, shared, strict=True)
    ]


def complete(
    geohash: Sequence[str], date: Sequence[int], clear: Sequence[float], dates: int
) -> NDArray[np.intp]:
    """Rows (places, dates) of the places that have every date 0..dates-1 at least CLEAR, of each
    the clearest row, the first among equals."""
    found: dict[str, dict[int, int]] = {}
    for row, (name, day, share) in enumerate(zip(geohash, date, clear, strict=True)):
        if not 0 <= day < dates or share < CLEAR:
            continue
        held = found.setdefault(name, {})
        if day not in held or share > clear[held[day]]:
            held[day] = row
    whole = [[held[day] for day in range(dates)] for held in found.values() if len(held) == dates]
    return np.array(whole, np.intp).reshape(len(whole), dates)


def orphans(
    geohash: Sequence[str], texts: Sequence[bytes | None], keep: Sequence[bool]
) -> list[str]:
    """Places that would keep rows without a stream of their own and lose the one they share."""
    rows = list(zip(geohash, texts, keep, strict=True))
    lost = {name for name, text, kept in rows if not kept and (text or b"")[:1] == PLACE}
    return sorted({name for name, text, kept in rows if kept and text == b"" and name in lost})


def slots(when: Sequence[datetime | None], dates: Sequence[str]) -> dict[int, int]:
    """Which of ISO dates each scene is of, by its number; -1 for none of them."""
    days = [None if day is None else day.isoformat() for day in when]
    return {i: dates.index(day) if day in dates else -1 for i, day in enumerate(days)}
