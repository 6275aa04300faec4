"""References to manifest parts, as a generation's JSON has them: in columns. Pure: values."""

from __future__ import annotations

import re
from dataclasses import asdict, fields
from datetime import UTC, datetime
from typing import Any

from embarchive.errors import Damaged
from embarchive.parts import CELL, SHA, PartRef
from embarchive.strictjson import build, check_keys, is_number, listed

_PATTERNS = {"sha256": SHA, "geohash_min": CELL, "geohash_max": CELL}


def part_columns(parts: tuple[PartRef, ...]) -> dict[str, list[Any]]:
    """A list a field, with a value a part; of `bbox` four numbers a part, one after the other;
    datetimes as ISO 8601 in UTC, or None."""
    rows = [_spelled(part) for part in parts]
    columns = {f.name: [row[f.name] for row in rows] for f in fields(PartRef)}
    return {**columns, "bbox": [side for box in columns["bbox"] for side in box]}


def parse_parts(values: Any, name: str) -> tuple[PartRef, ...]:
    """The references that columns hold, or the objects of older archives. Raises Damaged."""
    older = isinstance(values, list)
    rows = [_older(row, name) for row in values] if older else _rows(values, name)
    return tuple(_part(row, name) for row in rows)


def _spelled(part: PartRef) -> dict[str, Any]:
    values = asdict(part)
    for key in ("datetime_min", "datetime_max"):
        if values[key] is not None:
            values[key] = values[key].astimezone(UTC).isoformat().replace("+00:00", "Z")
    return values


def _older(values: Any, name: str) -> dict[str, Any]:
    """Older archives have an object a part, with what its shards' prefixes have in common."""
    if not isinstance(values, dict) or "prefix" not in values:
        raise Damaged(f"{name}: expected an object with its prefix, found {str(values)[:80]}")
    prefix = values["prefix"]
    if not isinstance(prefix, str) or not re.fullmatch(f"(?:{CELL})?", prefix):
        raise Damaged(f"{name}: expected prefix like {CELL}, found {str(prefix)[:80]!r}")
    return {key: value for key, value in values.items() if key != "prefix"}


def _rows(columns: Any, name: str) -> list[dict[str, Any]]:
    check_keys(columns, PartRef, name)
    lists = {key: listed(columns, key, name) for key in columns}
    sides = lists["bbox"]
    lists["bbox"] = [sides[at : at + 4] for at in range(0, len(sides), 4)]
    count = len(lists["sha256"])
    for key, values in lists.items():
        if len(values) != count:
            raise Damaged(f"{name}: expected {key} of {count} parts, found {len(values)}")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def _part(values: dict[str, Any], name: str) -> PartRef:
    check_keys(values, PartRef, name)
    box = listed(values, "bbox", name)
    if len(box) != 4 or not all(is_number(side) and abs(side) <= 180 for side in box):
        raise Damaged(f"{name}: expected bbox west south east north, found {str(box)[:80]}")
    moments = {key: _moment(values[key], f"{name} {key}") for key in values if "datetime" in key}
    values = {**values, "bbox": tuple(float(side) for side in box), **moments}
    return build(PartRef, values, name, _PATTERNS)


def _moment(text: Any, name: str) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        in_utc = moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError):
        raise Damaged(f"{name}: expected ISO 8601, found {str(text)[:40]!r}") from None
    except OverflowError:
        raise Damaged(f"{name}: expected years 1 to 9999 in UTC, found {text!r}") from None
    if in_utc is None:
        raise Damaged(f"{name}: expected a time with its offset, found {text!r}")
    return in_utc
