"""What an archive is, in plain JSON values: the document of `embarchive info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embarchive import levels, manifest

if TYPE_CHECKING:
    from embarchive.archive import Archive


def info(archive: Archive) -> dict[str, Any]:
    """The archive in plain JSON values."""
    held, s = archive.head.generation, archive.settings
    dates = [d for p in archive.parts for d in (p.datetime_min, p.datetime_max) if d]
    sizes = {key: int(held.bytes.get(key, 0)) for key in ("shards", "models", "overview")}
    tables = [part.length for part in archive.parts]
    tables += [held.models.length] if held.models else []
    sizes["manifest"] = archive.head.pointer.length + sum(tables)
    regions = set(archive.models()["region"].drop_null().to_pylist())
    return {
        "generation": held.number,
        "tiles": held.tiles,
        "places": held.places,
        "shards": sum(part.shards for part in archive.parts),
        "regions": len(regions),
        "decoders": archive.weights.kinds(),
        "embedding_dim": s.dim,
        "bits": s.bits,
        "packed": s.packed,
        "bounds": list(archive.bounds),
        "datetime": [min(dates).isoformat(), max(dates).isoformat()] if dates else None,
        "bytes": {**sizes, "total": sum(sizes.values())},
        "codec": s.codec,
        "pyramid": levels.describe(held.pyramid),
        "saturation": {space.space_id: space.saturation for space in archive.spaces},
        "bands": archive.bands,
        "spaces": [_space(space) for space in archive.spaces],
        "gsd": s.gsd,
        "chip": [s.height, s.width],
        "units": s.units,
        "title": s.title,
        "attribution": s.attribution,
        "licence": s.licence,
    }


def _space(space: manifest.Space) -> dict[str, Any]:
    return {
        "space_id": space.space_id,
        "encoder": space.encoder,
        "dim": space.dim,
        "metric": space.metric,
        "scale": space.scale,
        "trained": space.trained,
        "saturation": space.saturation,
        "quality": space.quality or None,
        "quantised": space.quantiser is not None,
    }
