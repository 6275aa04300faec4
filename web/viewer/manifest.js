/**
 * The format objects: pointer, generation, spaces, and where every object lies.
 */

/** @typedef {import("./parts.js").PartRef} PartRef */

/**
 * The one mutable object: which generation is current.
 *
 * @typedef {Readonly<{generation: number, manifest: string, length: number,
 *   commit_id: string}>} Pointer
 */

/** @typedef {Readonly<{sha256: string, length: number, rows: number}>} TableRef */

/**
 * What every tile of an archive shares. height, width: pixels of a chip; gsd: metres a pixel;
 * bits: SimHash bits a row (0: none); indices: name -> (band, band).
 *
 * @typedef {Readonly<{precision: number, gsd: number, height: number, width: number,
 *   bands: readonly string[], units: string, region_prefix: number, shard_prefix: number,
 *   indices: Readonly<Record<string, readonly [string, string]>>, dim: number, bits: number,
 *   codec: string, min_cover: number, min_valid: number, regions: Readonly<Record<string, string>>,
 *   title: string, attribution: string, licence: string}>} Settings
 */

/**
 * An embedding space. scale: one int8 step in embedding units; simhash: empty without bits;
 * backbone, onnx: hashes, null without decoders; peak: range of the training pixels.
 *
 * @typedef {Readonly<{space_id: string, encoder: string, encoder_length: number, dim: number,
 *   metric: string, scale: number, simhash: Readonly<Record<string, any>>,
 *   trained: Readonly<Record<string, any>>, saturation: Readonly<Record<string, number>>,
 *   architecture: Readonly<Record<string, any>>, backbone: string | null,
 *   backbone_length: number, onnx: string | null, onnx_length: number, peak: number}>} Space
 */

/**
 * One state of an archive, complete.
 *
 * @typedef {Readonly<{number: number, parent: string | null, commit_id: string, created: string,
 *   settings: Settings, spaces: readonly Space[], models: TableRef | null,
 *   parts: readonly PartRef[], tiles: number, places: number,
 *   bytes: Readonly<Record<string, number>>, scenes: number, attribution: string,
 *   overview: TableRef | null, pyramid: TableRef | null}>} Generation
 */

export const POINTER = "embarchive.json";
export const MAX_POINTER = 1024;
export const MAX_GENERATION = 4 << 20;

/**
 * Where an object lies, derived from its hash (and a shard's prefix). Throws Damaged.
 *
 * @param {"manifest-json" | "manifest-parquet" | "shard" | "model" | "model-card" | "model-onnx"
 *   | "blocks"} kind
 * @param {string} sha
 * @param {string} [prefix]
 * @returns {string}
 */
export function objectPath(kind, sha, prefix = "") {
  throw new Error(`not written yet ${kind} ${sha} ${prefix}`);
}

/**
 * Throws NotAnArchive, UnknownVersion or Damaged.
 *
 * @param {Uint8Array} data
 * @param {string} [name]
 * @returns {Pointer}
 */
export function parsePointer(data, name = POINTER) {
  throw new Error(`not written yet ${data} ${name}`);
}

/**
 * Throws UnknownVersion or Damaged.
 *
 * @param {Uint8Array} data
 * @param {string} [name]
 * @returns {Generation}
 */
export function parseGeneration(data, name = "generation") {
  throw new Error(`not written yet ${data} ${name}`);
}

/**
 * Throws Damaged unless the pointer says of the generation what it says of itself.
 *
 * @param {Pointer} pointer
 * @param {Generation} generation
 * @param {string} [name]
 */
export function checkPair(pointer, generation, name = POINTER) {
  throw new Error(`not written yet ${pointer} ${generation} ${name}`);
}
