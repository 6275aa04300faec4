/**
 * The format objects: pointer, generation, spaces, and where every object lies.
 */

import { BadInput, Damaged, NotAnArchive, UnknownVersion } from "./errors.js";
import { parseParts } from "./partrefs.js";
import { CELL, SHA, VERSION } from "./parts.js";
import {
  brief,
  build,
  canonicalJson,
  checkKeys,
  checkTypes,
  parseStrictJson,
} from "./strictjson.js";

/**
 * @typedef {import("./parts.js").PartRef} PartRef
 * @typedef {import("./strictjson.js").Shape} Shape
 */

/**
 * The one mutable object: which generation is current.
 *
 * @typedef {Readonly<{generation: number, manifest: string, length: number,
 *   commit_id: string}>} Pointer
 */

/** @typedef {Readonly<{sha256: string, length: number, rows: number}>} TableRef */
/** @typedef {import("./pyramid.js").PyramidRef} PyramidRef */

/**
 * What every tile of an archive shares. height, width: pixels of a chip; gsd: metres a pixel;
 * bits: SimHash bits a row (0: none); packed: bytes of a row's embedding as the code of a
 * quantiser, not there for plain int8; indices: name -> (band, band).
 *
 * @typedef {Readonly<{precision: number, gsd: number, height: number, width: number,
 *   bands: readonly string[], units: string, region_prefix: number, shard_prefix: number,
 *   indices: Readonly<Record<string, readonly [string, string]>>, dim: number, bits: number,
 *   codec: string, min_cover: number, min_valid: number, regions: Readonly<Record<string, string>>,
 *   title: string, attribution: string, licence: string, packed?: number}>} Settings
 */

/**
 * An embedding space. encoder: null where vectors were imported, of length 0; scale: one int8 step in
 * embedding units; simhash: empty without bits;
 * backbone, onnx: hashes, null without decoders; peak: range of the training pixels; code: hash of
 * the fidelity layer; quality: what was asked of it; together: hash of the code of dates together;
 * quantiser: hash of what the rows' codes decode with, and scale is then one step of that.
 *
 * @typedef {Readonly<{space_id: string, encoder: string | null, encoder_length: number, dim: number,
 *   metric: string, scale: number, simhash: Readonly<Record<string, any>>,
 *   trained: Readonly<Record<string, any>>, saturation: Readonly<Record<string, number>>,
 *   architecture: Readonly<Record<string, any>>, backbone: string | null,
 *   backbone_length: number, onnx: string | null, onnx_length: number, peak: number,
 *   code?: string, code_length?: number, quality?: string,
 *   together?: string, together_length?: number,
 *   quantiser?: string, quantiser_length?: number}>} Space
 */

/**
 * One state of an archive, complete.
 *
 * @typedef {Readonly<{number: number, parent: string | null, commit_id: string, created: string,
 *   settings: Settings, spaces: readonly Space[], models: TableRef | null,
 *   parts: readonly PartRef[], tiles: number, places: number,
 *   bytes: Readonly<Record<string, number>>, scenes: number, attribution: string,
 *   overview: TableRef | null, pyramid: PyramidRef | null}>} Generation
 */

export const POINTER = "embarchive.json";
export const MAX_POINTER = 1024;
const MAX_GENERATION = 4 << 20;

/** @type {Readonly<Record<string, [folder: string, ending: string]>>} */
const PLACES = {
  "manifest-json": ["manifests/", ".json"],
  "manifest-parquet": ["manifests/", ".parquet"],
  shard: ["embeddings/gh=", ".parquet"],
  model: ["models/", ".safetensors"],
  "model-card": ["models/", ".json"],
  "model-onnx": ["models/", ".onnx"],
  blocks: ["blocks/", ""],
  overview: ["overview/", ".parquet"],
  pyramid: ["pyramid/", ".parquet"],
};
const POINTER_SHAPE = { generation: "int", manifest: "str", length: "int", commit_id: "str" };
const TABLE_SHAPE = { sha256: "str", length: "int", rows: "int" };
const PYRAMID_SHAPE = { ...TABLE_SHAPE, footer_length: "int", level: "int", blocks: "str" };
const SPACE_SHAPE = {
  space_id: "str",
  encoder: "str?",
  encoder_length: "int",
  dim: "int",
  metric: "str",
  scale: "float",
  simhash: "dict",
  trained: "dict",
  saturation: "dict of float",
  architecture: "dict",
  backbone: "str?",
  backbone_length: "int",
  onnx: "str?",
  onnx_length: "int",
  peak: "float",
};
// What a space has only with a fidelity layer, with a code of dates together, and with packed
// embeddings, all or none of each.
const LAYER_SHAPES = [
  { code: "str", code_length: "int", quality: "str" },
  { together: "str", together_length: "int" },
  { quantiser: "str", quantiser_length: "int" },
];
const SETTINGS_SHAPE = {
  precision: "int",
  gsd: "float",
  height: "int",
  width: "int",
  bands: "list",
  units: "str",
  region_prefix: "int",
  shard_prefix: "int",
  indices: "dict of list",
  dim: "int",
  bits: "int",
  codec: "str",
  min_cover: "float",
  min_valid: "float",
  regions: "dict of str",
  title: "str",
  attribution: "str",
  licence: "str",
};
const GENERATION_SHAPE = {
  number: "int",
  parent: "str?",
  commit_id: "str",
  created: "str",
  settings: "dict",
  spaces: "list",
  models: "dict?",
  tiles: "int",
  places: "int",
  bytes: "dict of int",
  scenes: "int",
  attribution: "str",
  overview: "dict?",
  pyramid: "dict?",
};
// Settings steer allocations: above 0, and at most this.
const LIMITS = {
  precision: 12,
  height: 4096,
  width: 4096,
  region_prefix: 12,
  shard_prefix: 12,
  dim: 4096,
  gsd: 1e7,
};
const PATTERNS = {
  manifest: SHA,
  parent: SHA,
  sha256: SHA,
  blocks: SHA,
  encoder: SHA,
  commit_id: /^[0-9a-f]{32}$/,
  space_id: /^[0-9A-Za-z._-]{1,64}$/,
  metric: /^l2$/,
  backbone: SHA,
  onnx: SHA,
  code: SHA,
  together: SHA,
  quantiser: SHA,
};

/**
 * Where an object lies, derived from its hash (and a shard's prefix). Throws Damaged.
 *
 * @param {string} kind one of PLACES
 * @param {string} sha
 * @param {string} [prefix]
 * @returns {string}
 */
export function objectPath(kind, sha, prefix = "") {
  if (!Object.hasOwn(PLACES, kind)) {
    throw new BadInput(`object kind: expected one of ${Object.keys(PLACES)}, found ${brief(kind)}`);
  }
  if (typeof sha !== "string" || !SHA.test(sha)) {
    throw new Damaged(`${kind}: expected a sha256 of 64 hex digits, found ${brief(sha)}`);
  }
  if (kind === "shard" && !CELL.test(prefix)) {
    throw new Damaged(
      `shard ${sha.slice(0, 12)}: expected a geohash prefix, found ${brief(prefix)}`,
    );
  }
  const [folder, ending] = PLACES[kind];
  return kind === "shard" ? `${folder}${prefix}/${sha}${ending}` : `${folder}${sha}${ending}`;
}

/**
 * Throws NotAnArchive, UnknownVersion or Damaged.
 *
 * @param {Uint8Array} data
 * @param {string} [name]
 * @returns {Pointer}
 */
export function parsePointer(data, name = POINTER) {
  const values = pointerDocument(data, name);
  const pointer = build(POINTER_SHAPE, values, name, PATTERNS);
  // No hash covers the pointer: with one spelling only, a flipped bit changes a value.
  const only = canonicalJson({ format: "embarchive", version: VERSION, ...pointer });
  if (only !== new TextDecoder("utf-8", { ignoreBOM: true }).decode(data)) {
    throw new Damaged(`${name}: expected canonical JSON, found another spelling`);
  }
  return pointer;
}

/**
 * @param {Uint8Array} data
 * @param {string} name
 */
function pointerDocument(data, name) {
  try {
    return readDocument(data, name, MAX_POINTER);
  } catch (error) {
    throw error instanceof Damaged ? new NotAnArchive(error.message) : error;
  }
}

/**
 * Throws Damaged unless the pointer says of the generation what it says of itself.
 *
 * @param {Pointer} pointer
 * @param {Generation} generation
 * @param {string} [name]
 */
export function checkPair(pointer, generation, name = POINTER) {
  const pairs = [
    ["generation", generation.number, pointer.generation],
    ["commit_id", generation.commit_id, pointer.commit_id],
  ];
  for (const [key, expected, found] of pairs) {
    if (found !== expected)
      throw new Damaged(`${name}: expected ${key} ${expected}, found ${found}`);
  }
}

/**
 * Throws UnknownVersion or Damaged.
 *
 * @param {Uint8Array} data
 * @param {string} [name]
 * @returns {Generation}
 */
export function parseGeneration(data, name = "generation") {
  const values = readDocument(data, name, MAX_GENERATION);
  const { parts, ...others } = values;
  /** @type {Generation} */
  const plain = build(GENERATION_SHAPE, others, name, PATTERNS);
  const table = (/** @type {"models" | "overview" | "pyramid"} */ key, shape = TABLE_SHAPE) =>
    plain[key] && build(shape, plain[key], `${name} ${key}`, PATTERNS);
  const generation = Object.freeze({
    ...plain,
    settings: readSettings(plain.settings, `${name}: settings`),
    spaces: Object.freeze(plain.spaces.map((one) => readSpace(one, `${name} space`))),
    parts: parseParts(parts, `${name} parts`),
    models: table("models"),
    overview: table("overview"),
    pyramid: /** @type {PyramidRef | null} */ (table("pyramid", PYRAMID_SHAPE)),
  });
  const rows = generation.parts.reduce((sum, part) => sum + part.rows, 0);
  if (rows !== generation.tiles) {
    throw new Damaged(`${name}: expected ${generation.tiles} tiles in its parts, found ${rows}`);
  }
  const packed = generation.settings.packed !== undefined;
  if (generation.spaces.some(({ quantiser }) => (quantiser !== undefined) !== packed)) {
    throw new Damaged(`${name}: expected ${packed ? "a" : "no"} quantiser in every space`);
  }
  return generation;
}

/**
 * @param {Uint8Array} data
 * @param {string} name
 * @param {number} cap
 * @returns {Record<string, any>}
 */
function readDocument(data, name, cap) {
  const document = parseStrictJson(data, name, cap);
  if (typeof document !== "object" || document?.format !== "embarchive") {
    throw new Damaged(`${name}: expected "format": "embarchive", found another JSON document`);
  }
  const { format: _format, version, ...values } = document;
  if (version !== VERSION) {
    throw new UnknownVersion(`${name}: expected version ${VERSION}, found ${brief(version)}`);
  }
  return values;
}

/**
 * @param {any} values
 * @param {string} name
 * @returns {Space}
 */
function readSpace(values, name) {
  const has = (/** @type {string} */ key) => Object.hasOwn(Object(values), key);
  const layers = LAYER_SHAPES.filter((some) => Object.keys(some).some(has));
  const space = build(Object.assign({}, SPACE_SHAPE, ...layers), values, name, PATTERNS);
  if (space.together && !space.code) {
    throw new Damaged(`${name}: expected a code beside together, found none`);
  }
  if (space.encoder === null && space.encoder_length) {
    throw new Damaged(`${name}: expected no encoder_length without an encoder, found one`);
  }
  return space;
}

/**
 * Settings with the types of their fields; they steer allocations, so also their sizes.
 *
 * @param {any} values
 * @param {string} name
 * @returns {Settings}
 */
function readSettings(values, name) {
  /** @type {Shape} */
  const own = Object.hasOwn(Object(values), "packed") ? { packed: "int" } : {};
  const shape = { ...SETTINGS_SHAPE, ...own };
  checkKeys(shape, values, name);
  checkTypes(shape, values, name);
  const texts = (/** @type {any[]} */ list) => list.every((item) => typeof item === "string");
  const pairs = Object.values(values.indices);
  if (!texts(values.bands) || !pairs.every((pair) => pair.length === 2 && texts(pair))) {
    throw new Damaged(`${name}: expected names of bands, found ${brief([values.bands, pairs])}`);
  }
  for (const [key, most] of Object.entries(LIMITS)) {
    if (!(values[key] > 0 && values[key] <= most)) {
      throw new Damaged(`${name}: expected ${key} in 0 to ${most}, found ${values[key]}`);
    }
  }
  if (values.bits < 0 || values.bits > 4096 || values.bits % 8) {
    throw new Damaged(`${name}: expected bits in eights, found ${values.bits}`);
  }
  if (values.packed !== undefined && !(values.packed > 0 && values.packed <= 4096)) {
    throw new Damaged(`${name}: expected packed in 1 to 4096, found ${values.packed}`);
  }
  return Object.freeze({ ...values, bands: Object.freeze([...values.bands]) });
}
