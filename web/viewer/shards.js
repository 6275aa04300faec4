/**
 * What a shard is, and how part of one is read: from a footer and the byte ranges it names.
 */

import { Damaged, UnknownVersion } from "./errors.js";
import { checkSchema, stampOf } from "./leaves.js";
import { readColumns, readMetadata } from "./parquet.js";
import { brief } from "./strictjson.js";

/**
 * @typedef {import("./leaves.js").FileMetaData} FileMetaData
 * @typedef {import("./store.js").Range} Range
 */

/**
 * Rows of an archive as columns; only those asked for are there, and `n`. datetime: microseconds
 * since 1970, NaN for null; bbox: n * 4; embedding: n * dim, and in a file of codes packed: n *
 * bytes instead; bits: n * bits / 8; input_digest: n * 8; mse, index_mae: NaN for null.
 *
 * @typedef {object} Rows
 * @property {number} n
 * @property {string[]} geohash
 * @property {Float64Array} datetime
 * @property {string[]} source
 * @property {string[]} model_id
 * @property {Float32Array} bbox
 * @property {Uint8Array[]} geometry
 * @property {Int8Array} embedding
 * @property {Uint8Array} [packed]
 * @property {Uint8Array} bits
 * @property {(Uint8Array | null)[]} code
 * @property {Uint8Array} input_digest
 * @property {Float32Array} valid_fraction
 * @property {Float32Array} mse
 * @property {Float32Array} index_mae
 */

export const VERSION = 1;
const MAX_ROWS = 32_768;
/** What rows are sorted by, null dates last. */
export const ORDER = Object.freeze(["geohash", "datetime", "source"]);
const MAX_FOOTER = 4 << 20;

/**
 * Names of a shard's columns, in order.
 *
 * @param {number} bits
 * @param {number} [packed] see `parseFooter`
 * @returns {string[]}
 */
export function columnNames(bits, packed) {
  return [...new Set(schema(bits, packed).map((leaf) => leaf.split(/[ .]/)[0]))];
}

/**
 * The metadata in a shard's last bytes, checked against the schema and our own limits. Throws
 * Damaged or UnknownVersion.
 *
 * @param {Uint8Array} tail at least the metadata, its length and the magic
 * @param {number} dim
 * @param {number} bits
 * @param {string} [name]
 * @param {number} [packed] bytes of a row's code, which takes the place of its embedding; 0: none
 * @returns {FileMetaData}
 */
export function parseFooter(tail, dim, bits, name = "shard", packed = 0) {
  if (tail.length < 12 || tail.length > MAX_FOOTER) {
    throw new Damaged(
      `${name}: expected a footer of 12 to ${MAX_FOOTER} bytes, found ${tail.length}`,
    );
  }
  const metadata = readMetadata(tail, name);
  checkVersion(metadata);
  checkSchema(metadata, schema(bits, packed));
  const { rows, groups } = metadata;
  if (rows < 1 || rows > MAX_ROWS || groups.length > MAX_ROWS / 64) {
    throw new Damaged(
      `${name}: expected 1 to ${MAX_ROWS} rows, found ${rows} in ${groups.length} row groups`,
    );
  }
  const limit = MAX_ROWS * (dim * 8 + 4096);
  if (groups.some((group) => group.bytes > limit)) {
    throw new Damaged(`${name}: expected row groups under ${limit} bytes, found a larger one`);
  }
  const at = metadata.leaves.findIndex((leaf) => leaf.path[0] === "embedding");
  if (!packed && groups.some((group) => group.chunks[at].values !== group.rows * dim)) {
    throw new Damaged(`${name}: expected embeddings of ${dim} numbers, found others`);
  }
  return metadata;
}

/** @param {FileMetaData} metadata */
function checkVersion(metadata) {
  const { format, version } = stampOf(metadata);
  if (format === undefined || version === undefined) {
    throw new Damaged(`${metadata.name}: expected an embarchive shard, found another Parquet file`);
  }
  if (format !== "embarchive" || version !== VERSION) {
    const found = `${brief(format)} ${brief(version)}`;
    throw new UnknownVersion(
      `${metadata.name}: expected embarchive shard version ${VERSION}, found ${found}`,
    );
  }
}

/** @param {number} bits @param {number} [packed] */
function schema(bits, packed = 0) {
  return [
    "geohash string",
    "datetime timestamp?",
    ...["xmin", "ymin", "xmax", "ymax"].map((side) => `bbox.${side} float`),
    "geometry binary",
    packed ? `packed fixed(${packed})` : "embedding.list.element int8 list",
    ...(bits ? [`bits fixed(${bits / 8})`] : []),
    "code binary?",
    "model_id string",
    "source string",
    "input_digest fixed(8)",
    "valid_fraction float",
    "mse float?",
    "index_mae float?",
  ];
}

// ---------------------------------------------------------------- reading

/**
 * Byte ranges of the named top-level columns in the row groups, in file order.
 *
 * @param {FileMetaData} metadata
 * @param {readonly number[]} groups
 * @param {readonly string[]} columns
 * @returns {Range[]}
 */
export function columnRanges(metadata, groups, columns) {
  /** @type {Range[]} */
  const ranges = [];
  for (const group of groups) {
    metadata.groups[group].chunks.forEach(({ start, end }, i) => {
      if (columns.includes(metadata.leaves[i].path[0])) ranges.push([start, end]);
    });
  }
  return ranges.sort((a, b) => a[0] - b[0]);
}

/**
 * Least and greatest value of a row group's columns by path ("geohash", "datetime",
 * "bbox.xmin"), where the footer says them.
 *
 * @param {FileMetaData} metadata
 * @param {number} group
 * @returns {Record<string, [any, any]>}
 */
export function groupLimits(metadata, group) {
  /** @type {Record<string, [any, any]>} */
  const found = {};
  metadata.groups[group].chunks.forEach(({ limits }, i) => {
    if (limits) found[metadata.leaves[i].path.join(".")] = limits;
  });
  return found;
}

/**
 * Rows of the row groups, the named columns. Throws Damaged.
 *
 * @param {FileMetaData} metadata
 * @param {readonly number[]} groups
 * @param {readonly string[]} columns
 * @param {(start: number, end: number) => Uint8Array} bytesAt asked only for the ranges that
 *   `columnRanges` names
 * @returns {Promise<Rows>}
 */
export async function readRows(metadata, groups, columns, bytesAt) {
  const found = await readColumns(metadata, groups, columns, bytesAt);
  const n = groups.reduce((sum, group) => sum + metadata.groups[group].rows, 0);
  return /** @type {Rows} */ ({ n, ...found });
}
