"""STAC documents checked by pystac and by the schemas of their extensions, without a network."""

import json
from pathlib import Path

from jsonschema.validators import Draft7Validator
from pystac.validation.local_validator import get_local_schema_cache
from referencing import Registry, Resource

HOME = Path(__file__).parent / "schemas" / "stac"
CORE = {
    "Collection": "https://schemas.stacspec.org/v1.0.0/collection-spec/json-schema/collection.json",
    "Feature": "https://schemas.stacspec.org/v1.0.0/item-spec/json-schema/item.json",
}
EXTENSIONS = {
    value["$id"].rstrip("#"): value
    for value in (json.loads(path.read_text()) for path in HOME.glob("*.json"))
}
KNOWN = {**get_local_schema_cache(), **EXTENSIONS}
REGISTRY = Registry().with_resources(
    (name, Resource.from_contents(value)) for name, value in KNOWN.items()
)


def faults(document):
    """What the schemas of STAC 1.0.0 and of every extension that is declared find wrong."""
    names = [CORE[document["type"]], *document["stac_extensions"]]
    return [
        f"{name}: {error.json_path}: {error.message[:200]}"
        for name in names
        for error in Draft7Validator(KNOWN[name], registry=REGISTRY).iter_errors(document)
    ]
