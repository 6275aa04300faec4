/**
 * The manifest's Parquet tables: parts (one row a shard) and models (one row a model), read with
 * every value checked.
 */

import { Damaged, UnknownVersion } from "./errors.js";
import { ALPHABET } from "./grid.js";
import { checkSchema, stampOf } from "./leaves.js";
import { readColumns, readMetadata } from "./parquet.js";
import { brief } from "./strictjson.js";

/** @typedef {import("./grid.js").Box} Box */

/**
 * One row of a part: a shard and what it holds. Datetimes are microseconds since 1970.
 *
 * @typedef {Readonly<{prefix: string, geohash_min: string, geohash_max: string, sha256: string,
 *   length: number, footer_length: number, rows: number, bbox: Box, datetime_min: number | null,
 *   datetime_max: number | null, space_id: string, model_ids: readonly string[],
 *   blocks: string}>} ShardRow
 */

/**
 * A part and what its shards hold together.
 *
 * @typedef {Readonly<{sha256: string, length: number, rows: number,
 *   shards: number, geohash_min: string, geohash_max: string, bbox: Box,
 *   datetime_min: number | null, datetime_max: number | null, shard_bytes: number}>} PartRef
 */

/**
 * One row of the models table.
 *
 * @typedef {Readonly<{model_id: string, length: number, kind: string, region: string | null,
 *   space_id: string, backbone: string | null, backbone_length: number | null,
 *   card_sha256: string | null, card_length: number | null, onnx_sha256: string | null,
 *   onnx_length: number | null, train_tiles: number | null, test_tiles: number | null,
 *   mse: number | null, mse_tile_mean: number | null, mse_pca: number | null,
 *   psnr: number | null, psnr_peak: number | null, index_mae: number | null}>} ModelRow
 */

export const VERSION = 1;
export const SHA = /^[0-9a-f]{64}$/;
export const CELL = new RegExp(`^[${ALPHABET}]{1,12}$`);
const MAX_TABLE_BYTES = 64 << 20;
const MAX_TABLE_ROWS = 1 << 20;
const MAX_UNPACKED = 512 << 20;
export const MAX_LENGTH = 2 ** 40;
// Years 1 to 9999 as microseconds since 1970, the last as the next number that there is.
const FIRST_TIME = -62_135_596_800_000_000;
const LAST_TIME = 253_402_300_800_000_000;
const KIND = /^(?:adapter|full|shared|encoder|backbone)$/;
const PART_SCHEMA = [
  ...["prefix", "geohash_min", "geohash_max", "sha256"].map((name) => `${name} string`),
  ...["length", "footer_length", "rows"].map((name) => `${name} int64`),
  ...["xmin", "ymin", "xmax", "ymax"].map((side) => `bbox.${side} double`),
  "datetime_min timestamp?",
  "datetime_max timestamp?",
  "space_id string",
  "model_ids.list.element string list",
  "blocks string",
];
const MODEL_SCHEMA = [
  "model_id string",
  "length int64",
  "kind string",
  "region string?",
  "space_id string",
  ...["backbone", "card", "onnx"].flatMap((one) => [
    `${one === "backbone" ? one : `${one}_sha256`} string?`,
    `${one}_length int64?`,
  ]),
  ...["train_tiles", "test_tiles"].map((name) => `${name} int64?`),
  ...["mse", "mse_tile_mean", "mse_pca", "psnr", "psnr_peak", "index_mae"].map(
    (name) => `${name} double?`,
  ),
];

/**
 * A part's shards, every value checked, also against the part's reference. Throws Damaged or
 * UnknownVersion.
 *
 * @param {Uint8Array} data
 * @param {PartRef} part
 * @returns {Promise<ShardRow[]>}
 */
export async function parsePart(data, part) {
  const name = `part ${part.sha256.slice(0, 12)}`;
  const columns = await parseTable(data, "part", PART_SCHEMA, name);
  checkPart(columns, name);
  const shards = /** @type {ShardRow[]} */ (rowsOf(columns));
  const totals = partRef(shards, part.sha256, part.length);
  const odd = Object.entries(totals).find(
    ([key, value]) => !same(value, part[/** @type {keyof PartRef} */ (key)]),
  );
  if (odd)
    throw new Damaged(`${name}: expected the totals of its reference, found another ${odd[0]}`);
  return shards;
}

/**
 * The models table, every value checked. Throws Damaged or UnknownVersion.
 *
 * @param {Uint8Array} data
 * @returns {Promise<ModelRow[]>}
 */
export async function parseModels(data) {
  const name = "models table";
  const columns = await parseTable(data, "models", MODEL_SCHEMA, name);
  for (const column of ["model_id", "backbone", "card_sha256", "onnx_sha256"]) {
    checkText(columns[column], name, column, SHA);
  }
  checkText(columns.kind, name, "kind", KIND);
  for (const column of ["length", "backbone_length", "card_length", "onnx_length"]) {
    checkNumbers(columns[column], name, column, 1, MAX_LENGTH, true);
  }
  return /** @type {ModelRow[]} */ (rowsOf(columns));
}

/**
 * What a part's shards hold together.
 *
 * @param {readonly ShardRow[]} shards
 * @param {string} sha256
 * @param {number} length
 * @returns {PartRef}
 */
export function partRef(shards, sha256, length) {
  const least = (/** @type {any[]} */ values) =>
    values.reduce((a, b) => (b < a ? b : a), values[0]) ?? null;
  const most = (/** @type {any[]} */ values) =>
    values.reduce((a, b) => (b > a ? b : a), values[0]) ?? null;
  const all = (/** @type {keyof ShardRow} */ key) =>
    shards.map((shard) => /** @type {any} */ (shard[key])).filter((value) => value !== null);
  const sum = (/** @type {keyof ShardRow} */ key) =>
    all(key).reduce((total, value) => total + value, 0);
  const sides = [0, 1, 2, 3].map((side) =>
    (side < 2 ? least : most)(shards.map(({ bbox }) => bbox[side])),
  );
  return Object.freeze({
    sha256,
    length,
    rows: sum("rows"),
    shards: shards.length,
    geohash_min: least(all("geohash_min")),
    geohash_max: most(all("geohash_max")),
    bbox: /** @type {Box} */ (sides),
    datetime_min: least(all("datetime_min")),
    datetime_max: most(all("datetime_max")),
    shard_bytes: sum("length"),
  });
}

/**
 * @param {unknown} a
 * @param {unknown} b
 */
function same(a, b) {
  return JSON.stringify(a) === JSON.stringify(b);
}

// ---------------------------------------------------------------- tables

/** @typedef {Record<string, any>} Columns one array a column, as `readColumns` gives them */

/**
 * All columns of a table, its size, stamp and schema checked.
 *
 * @param {Uint8Array} data
 * @param {string} kind
 * @param {readonly string[]} schema
 * @param {string} name
 * @returns {Promise<Columns>}
 */
export async function parseTable(data, kind, schema, name) {
  if (data.length > MAX_TABLE_BYTES) {
    throw new Damaged(`${name}: expected at most ${MAX_TABLE_BYTES} bytes, found ${data.length}`);
  }
  const metadata = readMetadata(data, name);
  checkStamp(metadata, kind);
  const unpacked = metadata.groups.reduce((sum, group) => sum + group.bytes, 0);
  if (metadata.rows > MAX_TABLE_ROWS || unpacked > MAX_UNPACKED) {
    throw new Damaged(
      `${name}: expected at most ${MAX_TABLE_ROWS} rows and ${MAX_UNPACKED} bytes, ` +
        `found ${metadata.rows} and ${unpacked}`,
    );
  }
  checkSchema(metadata, schema);
  const names = [...new Set(metadata.leaves.map((leaf) => leaf.path[0]))];
  const groups = metadata.groups.map((_, group) => group);
  return readColumns(metadata, groups, names, (start, end) => data.subarray(start, end));
}

/**
 * @param {import("./leaves.js").FileMetaData} metadata
 * @param {string} expected
 */
function checkStamp(metadata, expected) {
  const { format, kind, version } = stampOf(metadata);
  if (format === undefined || kind === undefined || version === undefined) {
    throw new Damaged(`${metadata.name}: expected an embarchive table, found another Parquet file`);
  }
  if (format !== "embarchive" || kind !== expected) {
    const found = `${brief(format)} ${brief(kind)}`;
    throw new Damaged(`${metadata.name}: expected embarchive ${expected}, found ${found}`);
  }
  if (version !== VERSION) {
    throw new UnknownVersion(
      `${metadata.name}: expected version ${VERSION}, found ${brief(version)}`,
    );
  }
}

/**
 * @param {Columns} columns
 * @returns {Readonly<Record<string, any>>[]} null where a number is none; bbox as four numbers
 */
export function rowsOf({ bbox, ...columns }) {
  const [first] = Object.values(columns);
  return Array.from(first, (_, i) => {
    const pairs = Object.entries(columns).map(([name, values]) => [
      name,
      Number.isNaN(values[i]) ? null : values[i],
    ]);
    if (bbox) pairs.push(["bbox", Object.freeze([...bbox.subarray(i * 4, i * 4 + 4)])]);
    return Object.freeze(Object.fromEntries(pairs));
  });
}

/**
 * @param {Columns} columns
 * @param {string} name
 */
function checkPart(columns, name) {
  for (const column of ["sha256", "blocks"]) checkText(columns[column], name, column, SHA);
  for (const column of ["prefix", "geohash_min", "geohash_max"]) {
    checkText(columns[column], name, column, CELL);
  }
  checkNumbers(columns.length, name, "length", 12, MAX_LENGTH);
  checkNumbers(columns.footer_length, name, "footer_length", 8, MAX_LENGTH);
  checkNumbers(columns.rows, name, "rows", 1, 2 ** 32);
  if (
    columns.footer_length.some(
      (/** @type {number} */ footer, /** @type {number} */ i) => footer > columns.length[i],
    )
  ) {
    throw new Damaged(`${name}: expected footers within their shards, found a longer one`);
  }
  ["xmin", "ymin", "xmax", "ymax"].forEach((side, at) => {
    const values = columns.bbox.filter(
      (/** @type {number} */ _, /** @type {number} */ i) => i % 4 === at,
    );
    checkNumbers(values, name, `bbox.${side}`, at % 2 ? -90 : -180, at % 2 ? 90 : 180);
  });
  for (const column of ["datetime_min", "datetime_max"]) {
    checkNumbers(columns[column], name, column, FIRST_TIME, LAST_TIME, true);
  }
  const width = columns.prefix[0]?.length;
  const under = (/** @type {string} */ prefix, /** @type {number} */ i) =>
    prefix.length === width &&
    columns.geohash_min[i].startsWith(prefix) &&
    columns.geohash_max[i].startsWith(prefix);
  if (!columns.prefix.every(under)) {
    throw new Damaged(`${name}: expected geohashes under their prefix, found others`);
  }
}

/**
 * @param {readonly (string | null)[]} values
 * @param {string} name
 * @param {string} column
 * @param {RegExp} pattern
 */
export function checkText(values, name, column, pattern) {
  const odd = values.find((value) => value !== null && !pattern.test(value));
  if (odd === undefined || odd === null) return;
  throw new Damaged(`${name}: expected ${column} to be ${pattern.source}, found ${brief(odd)}`);
}

/**
 * @param {Float64Array} values NaN for none
 * @param {string} name
 * @param {string} column
 * @param {number} low
 * @param {number} high
 * @param {boolean} [nullable]
 */
export function checkNumbers(values, name, column, low, high, nullable = false) {
  const odd = values.find(
    (value) => !(value >= low && value <= high) && !(nullable && Number.isNaN(value)),
  );
  if (odd === undefined) return;
  throw new Damaged(`${name}: expected ${column} in ${low} to ${high}, found ${odd}`);
}
