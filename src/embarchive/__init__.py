"""Satellite scenes as searchable, decodable embeddings in plain files.

archive = embarchive.open_archive("s3://bucket/prefix")
hits = archive.search(like=["u33d8k"], k=50)
images = archive.decode(hits)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from embarchive import errors

if TYPE_CHECKING:
    from embarchive.archive import Archive, open_archive
    from embarchive.feeds import TileDataset
    from embarchive.stack import stack_bands

__version__ = "0.1.0"
__all__ = ["Archive", "TileDataset", "__version__", "errors", "open_archive", "stack_bands"]
_HOMES = {
    "Archive": "archive",
    "open_archive": "archive",
    "TileDataset": "feeds",
    "stack_bands": "stack",
}


def __getattr__(name: str) -> Any:
    # Late, so that `import embarchive` is quick and torch is only needed for TileDataset.
    if name not in _HOMES:
        raise AttributeError(f"module 'embarchive' has no attribute {name!r}")
    try:
        return getattr(import_module(f"embarchive.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "torch":
            raise
    raise errors.MissingExtra(f"{name}: needs torch, install embarchive[encode]")
