"""The models of one generation, verified and ready to use."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import manifest, model, tensors
from embarchive.codes import Codes
from embarchive.decode import Decoder
from embarchive.errors import BadInput, Damaged
from embarchive.layer import Layer, load_layer
from embarchive.quantisers import Quantiser
from embarchive.reader import Reader
from embarchive.recipe import Settings


def load_codes(
    space: manifest.Space, settings: Settings, fetch: Callable[[str, int], bytes]
) -> Codes | None:
    """The fidelity codes of a space, None without; fetch: verified bytes by hash and length. Raises
    Damaged."""
    if space.code is None:
        return None

    def load(sha256: str, length: int) -> Layer:
        data = fetch(sha256, length)
        return load_layer(data, len(settings.bands), settings.height, settings.width)

    place = load(space.together, space.together_length) if space.together else None
    return Codes(load(space.code, space.code_length), place)


class Models:
    """Fetches the models table and weights, each once."""

    def __init__(self, reader: Reader, generation: manifest.Generation) -> None:
        self._reader, self._generation = reader, generation
        self._table: pa.Table | None = None
        self._decoders: dict[str, Decoder] = {}
        self._codes: dict[str, Codes] = {}

    def table(self) -> pa.Table:
        """One row a model; none in an archive without decoders."""
        ref = self._generation.models
        if self._table is None and ref is None:
            self._table = manifest.models_table([])
        elif self._table is None and ref is not None:
            data = self._reader.object("manifest-parquet", ref.sha256, ref.length)
            self._table = manifest.parse_models(data)
        return self._table

    def kinds(self) -> dict[str, int]:
        """Regions of the newest space by the kind of their newest decoder."""
        spaces, rows = self._generation.spaces, self.table().to_pylist()
        here = spaces[-1].space_id if spaces else None
        newest = {row["region"]: row["kind"] for row in rows if row["space_id"] == here}
        return dict(sorted(Counter(newest.values()).items()))

    def decoder(self, model_id: str) -> Decoder:
        """The decoder of a model_id. Raises BadInput for that of rows without one, Damaged when the
        manifest has no such model."""
        if not model_id:
            raise BadInput(
                "decode: expected rows that have a decoder, found some of a space without one, as "
                "where vectors were imported"
            )
        if model_id not in self._decoders:
            self._decoders[model_id] = self._load_decoder(model_id)
        return self._decoders[model_id]

    def plain_decoder(self, model_id: str) -> Decoder:
        """The decoder of a model_id for embeddings alone, without what is coded beside them; of a
        region with a network of its own the one that its space shares. Raises as `decoder`."""
        decoder = self.decoder(model_id)
        if decoder.code_scale is None:
            return replace(decoder, codes=None)
        space = self._space(self._row(model_id)["space_id"])
        if space.backbone is None:
            raise BadInput(f"decode: expected a shared decoder, space {space.space_id} has none")
        data = self._reader.object("model", space.backbone, space.backbone_length)
        backbone = tensors.load_weights(data, decoder.architecture, "backbone")
        return replace(decoder, backbone=backbone, code_scale=None, codes=None)

    def encoder(
        self, space: manifest.Space
    ) -> tuple[model.Architecture, Mapping[str, NDArray[np.float32]]]:
        """Architecture and weights of a space's encoder. Raises BadInput where it has none."""
        if space.encoder is None:
            raise BadInput(
                "like: expected a place or a vector, found an image: space "
                f"{space.space_id} has no encoder, its vectors were imported"
            )
        architecture = model.Architecture.from_json(space.architecture)
        data = self._reader.object("model", space.encoder, space.encoder_length)
        return architecture, tensors.load_weights(data, architecture, "encoder")

    def _load_decoder(self, model_id: str) -> Decoder:
        row = self._row(model_id)
        space = self._space(row["space_id"])
        architecture = model.Architecture.from_json(space.architecture)

        def load(sha256: str, length: int, kind: str) -> dict[str, NDArray[np.float32]]:
            data = self._reader.object("model", sha256, length)
            return tensors.load_weights(data, architecture, kind)

        own = load(model_id, row["length"], row["kind"])
        if row["kind"] != "adapter":
            code_scale = float(own["encoder.step"][0]) if row["kind"] == "full" else None
            return Decoder(architecture, own, None, space.scale, code_scale, *self._codes_of(space))
        backbone = load(row["backbone"], row["backbone_length"], "backbone")
        return Decoder(architecture, backbone, own, space.scale, None, *self._codes_of(space))

    def _codes_of(self, space: manifest.Space) -> tuple[Codes | None, Quantiser | None]:
        return self._code(space), self._reader.quantiser(space.space_id)

    def _code(self, space: manifest.Space) -> Codes | None:
        if space.code is None:
            return None
        if space.code not in self._codes:
            fetch = partial(self._reader.object, "model")
            found = load_codes(space, self._generation.settings, fetch)
            assert found is not None
            self._codes[space.code] = found
        return self._codes[space.code]

    def _row(self, model_id: str) -> dict[str, Any]:
        for row in self.table().to_pylist():
            if row["model_id"] == model_id:
                return dict(row)
        raise Damaged(f"model {model_id}: expected a row in the models table, found none")

    def _space(self, space_id: str) -> manifest.Space:
        for space in self._generation.spaces:
            if space.space_id == space_id:
                return space
        raise Damaged(f"space {space_id}: expected it in the generation, found none")
