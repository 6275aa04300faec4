"""JSON of untrusted origin, strictly: one meaning per document, bounded size and depth.

Written canonically (sorted keys, no spaces), so that equal content is equal bytes and
therefore one content name.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NoReturn, TypeVar

from embarchive.errors import Damaged

Made = TypeVar("Made")
MAX_INTEGER = 2**53
MAX_DEPTH = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)


def parse_strict_json(data: bytes, name: str, cap: int) -> Any:
    """The document's value; raises Damaged naming `name`.

    Refused: more than `cap` bytes, anything but UTF-8, duplicate keys, NaN and Infinity,
    integers beyond 2**53 (other readers keep numbers as doubles), floats that overflow,
    nesting beyond 64.
    """
    if len(data) > cap:
        raise Damaged(f"{name}: expected at most {cap} bytes, found {len(data)}")
    _check_depth(data, name)

    def refuse(what: str) -> NoReturn:
        raise Damaged(f"{name}: {what}")

    def integer(text: str) -> int:
        # Digits are counted first: converting a million of them would take minutes.
        if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
            refuse(f"expected integers of at most 2**53, found {text[:24]}")
        return int(text)

    def number(text: str) -> float:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            refuse(f"expected finite numbers, found {text[:24]}")
        return value

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            refuse(f"expected distinct keys, found {twice[:40]!r} twice")
        return found

    try:
        value = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=mapping,
            parse_int=integer,
            parse_float=number,
            parse_constant=lambda text: refuse(f"expected finite numbers, found {text}"),
        )
        if _SURROGATE.search(data):
            canonical_json(value)
        return value
    except UnicodeError:
        raise Damaged(f"{name}: expected UTF-8, found bytes or escapes that are not") from None
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name}: expected JSON, found {str(error)[:120]}") from None


def canonical_json(value: Any) -> bytes:
    """Sorted keys, no spaces, UTF-8, no NaN: equal values give equal bytes."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )
    return text.encode("utf-8")


def _check_depth(data: bytes, name: str) -> None:
    depth = 0
    for mark in _MARKS.finditer(data):
        if mark.group() in b"[{":
            depth += 1
        elif mark.group() in b"]}":
            depth -= 1
        if depth > MAX_DEPTH:
            raise Damaged(f"{name}: expected a depth of at most {MAX_DEPTH}, found more")


# ---------------------------------------------------------------- values


def build(kind: type[Made], values: Any, name: str, patterns: Mapping[str, str]) -> Made:
    """A dataclass from JSON values: keys, types, patterns of texts and signs of numbers
    checked. Raises Damaged."""
    check_keys(values, kind, name)
    check_types(values, kind, name)
    for key, value in values.items():
        pattern = patterns.get(key)
        if isinstance(value, str) and pattern and not re.fullmatch(pattern, value):
            raise Damaged(f"{name}: expected {key} like {pattern}, found {value[:80]!r}")
        if is_number(value) and value < 0:
            raise Damaged(f"{name}: expected {key} of 0 or more, found {value}")
    return kind(**values)


def check_keys(values: Any, kind: Any, name: str) -> None:
    """Raises Damaged unless the value is an object with exactly the dataclass's fields."""
    expected = {f.name for f in fields(kind)}
    if not isinstance(values, dict) or set(values) != expected:
        found = sorted(values) if isinstance(values, dict) else type(values).__name__
        raise Damaged(f"{name}: expected keys {sorted(expected)}, found {str(found)[:200]}")


_TYPES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "str": (str,),
    "dict": (dict,),
    "tuple": (tuple, list),
}


def check_types(values: Mapping[str, Any], kind: Any, name: str) -> None:
    """Raises Damaged unless every value is of its field's type; `dict[str, float]` and the
    like are checked one level down."""
    for f in fields(kind):
        annotation, value = str(f.type), values.get(f.name)
        if value is None and (annotation.endswith("| None") or f.name not in values):
            continue
        if not _is_a(value, re.split(r"[\[ ]", annotation)[0]):
            raise Damaged(f"{name}: expected {f.name} to be {annotation}, found {str(value)[:80]}")
        inner = annotation.removeprefix("dict[str, ").removesuffix("]")
        if inner in _TYPES and isinstance(value, dict):
            odd = [item for item in value.values() if not _is_a(item, inner)]
            if odd:
                raise Damaged(f"{name}: expected {f.name} of {inner}, found {str(odd[0])[:80]}")


def _is_a(value: Any, word: str) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, _TYPES[word]) if word in _TYPES else type(value).__name__ == word


def listed(values: Mapping[str, Any], key: str, name: str) -> list[Any]:
    """The list under a key. Raises Damaged."""
    found = values[key]
    if not isinstance(found, list | tuple):
        raise Damaged(f"{name}: expected {key} to be a list, found {str(found)[:80]}")
    return list(found)


def is_number(value: Any) -> bool:
    """Whether the value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
