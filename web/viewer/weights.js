/**
 * The models of one generation, verified and ready to use.
 */

import { BadInput, Damaged } from "./errors.js";
import { Once } from "./held.js";
import { loadLayer } from "./layer.js";
import { architecture } from "./model.js";
import { Network } from "./network.js";
import { parseModels } from "./parts.js";
import { fetchQuantiser } from "./quantisers.js";
import { loadWeights } from "./tensors.js";

/** @typedef {import("./decode.js").Decoder} Decoder */
/** @typedef {import("./manifest.js").Generation} Generation */
/** @typedef {import("./manifest.js").Space} Space */
/** @typedef {import("./model.js").Architecture} Architecture */
/** @typedef {import("./parts.js").ModelRow} ModelRow */
/**
 * @typedef {{object: (kind: "model" | "manifest-parquet", sha256: string, length: number) =>
 *   Promise<Uint8Array>}} Objects verified bytes: a reader
 */

/** Fetches the models table and weights, each once. */
export class Models {
  #reader;
  #generation;
  #once = new Once();

  /**
   * @param {Objects} reader
   * @param {Pick<Generation, "models" | "settings" | "spaces">} generation
   */
  constructor(reader, generation) {
    this.#reader = reader;
    this.#generation = generation;
  }

  /** One row a model; none in an archive without decoders. @returns {Promise<ModelRow[]>} */
  table() {
    return this.#once.get("table", async () => {
      const ref = this.#generation.models;
      if (!ref) return [];
      return parseModels(await this.#reader.object("manifest-parquet", ref.sha256, ref.length));
    });
  }

  /**
   * The decoder of a model. Throws BadInput for that of rows without one, Damaged when the manifest
   * has no such model.
   *
   * @param {string} modelId
   * @returns {Promise<Decoder>}
   */
  async decoder(modelId) {
    if (!modelId) {
      throw new BadInput(
        "decode: expected rows that have a decoder, found some of a space without one, as where " +
          "vectors were imported",
      );
    }
    return this.#once.get(`decoder ${modelId}`, async () => {
      const row = (await this.table()).find((model) => model.model_id === modelId);
      if (row) return this.#decoder(row);
      throw new Damaged(`model ${modelId}: expected a row in the models table, found none`);
    });
  }

  /**
   * The decoder of a model for embeddings alone, without what is coded beside them; of a region
   * with a network of its own the one that its space shares. Throws as `decoder`.
   *
   * @param {string} modelId
   * @returns {Promise<Decoder>}
   */
  async plainDecoder(modelId) {
    const decoder = await this.decoder(modelId);
    if (decoder.codeScale === null) return { ...decoder, codes: null };
    const row = (await this.table()).find((model) => model.model_id === modelId);
    const space = this.#generation.spaces.find(({ space_id: id }) => id === row?.space_id);
    if (!space?.backbone) {
      throw new BadInput(`decode: expected a shared decoder, space ${row?.space_id} has none`);
    }
    const { backbone, backbone_length: length } = space;
    const network = await this.#once.get(`plain ${backbone}`, async () => {
      const { arch } = decoder.network;
      return new Network(arch, await this.#weights(arch, backbone, length, "backbone"), null);
    });
    return { ...decoder, network, codeScale: null, codes: null };
  }

  /**
   * @param {ModelRow} row
   * @returns {Promise<Decoder>}
   */
  async #decoder(row) {
    const space = this.#generation.spaces.find(({ space_id: id }) => id === row.space_id);
    if (!space) {
      throw new Damaged(`space ${row.space_id}: expected it in the generation, found none`);
    }
    const arch = architecture(space.architecture);
    const backbone = row.kind === "adapter" ? await this.#backbone(arch, row) : null;
    const own = await this.#weights(arch, row.model_id, row.length, row.kind);
    const network = backbone ? new Network(arch, backbone, own) : new Network(arch, own, null);
    const codeScale = row.kind === "full" ? own["encoder.step"][0] : null;
    const codes = await this.#codes(space);
    const quantiser = await this.#quantiser(space);
    return Object.freeze({ network, scale: space.scale, codeScale, codes, quantiser });
  }

  /** @param {Space} space */
  #quantiser(space) {
    return this.#once.get(`quantiser ${space.space_id}`, () =>
      fetchQuantiser(this.#reader, space, this.#generation.settings.packed),
    );
  }

  /** The fidelity codes of a space, null without. @param {Space} space */
  async #codes({ code, code_length: length = 0, together, together_length: more = 0 }) {
    if (code === undefined) return null;
    const tile = await this.#layer(code, length);
    const place = together === undefined ? null : await this.#layer(together, more);
    return Object.freeze({ tile, place });
  }

  /** @param {string} sha256 @param {number} length */
  #layer(sha256, length) {
    return this.#once.get(`layer ${sha256}`, async () => {
      const { bands, height, width } = this.#generation.settings;
      const bytes = await this.#reader.object("model", sha256, length);
      return loadLayer(bytes, { bands: bands.length, height, width });
    });
  }

  /**
   * One for all adapters: networks are told apart by their backbone.
   *
   * @param {Architecture} arch
   * @param {ModelRow} row
   */
  #backbone(arch, { model_id: name, space_id: space, backbone, backbone_length: length }) {
    if (backbone === null || length === null) {
      throw new Damaged(`model ${name}: expected an adapter's backbone, found none`);
    }
    return this.#once.get(`backbone ${backbone} ${space}`, () =>
      this.#weights(arch, backbone, length, "backbone"),
    );
  }

  /**
   * @param {Architecture} arch
   * @param {string} sha256
   * @param {number} length
   * @param {string} kind
   */
  async #weights(arch, sha256, length, kind) {
    return loadWeights(await this.#reader.object("model", sha256, length), arch, kind);
  }
}
