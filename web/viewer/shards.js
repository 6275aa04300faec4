/**
 * What a shard is, and how part of one is read: from a footer and the byte ranges it names.
 */

/** @typedef {import("./parquet.js").FileMetaData} FileMetaData */
/** @typedef {import("./store.js").Range} Range */

/**
 * Rows of an archive as columns; only those asked for are there, and `n`. datetime: microseconds
 * since 1970, NaN for null; bbox: n * 4; embedding: n * dim; bits: n * bits / 8; input_digest:
 * n * 8; mse, index_mae: NaN for null.
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
 * @property {Uint8Array} bits
 * @property {(Uint8Array | null)[]} code
 * @property {Uint8Array} input_digest
 * @property {Float32Array} valid_fraction
 * @property {Float32Array} mse
 * @property {Float32Array} index_mae
 */

export const MAX_ROWS = 32_768;
/** What rows are sorted by, null dates last. */
export const ORDER = Object.freeze(["geohash", "datetime", "source"]);

/**
 * Names of a shard's columns, in order.
 *
 * @param {number} bits
 * @returns {string[]}
 */
export function columnNames(bits) {
  const last = ["code", "model_id", "source", "input_digest", "valid_fraction", "mse", "index_mae"];
  const first = ["geohash", "datetime", "bbox", "geometry", "embedding"];
  return [...first, ...(bits ? ["bits"] : []), ...last];
}

/**
 * The metadata in a shard's last bytes, checked against the schema and our own limits. Throws
 * Damaged or UnknownVersion.
 *
 * @param {Uint8Array} tail at least the metadata, its length and the magic
 * @param {number} dim
 * @param {number} bits
 * @param {string} [name]
 * @returns {FileMetaData}
 */
export function parseFooter(tail, dim, bits, name = "shard") {
  throw new Error(`not written yet ${tail} ${dim} ${bits} ${name}`);
}

/**
 * Byte ranges of the named top-level columns in the row groups, in file order.
 *
 * @param {FileMetaData} metadata
 * @param {readonly number[]} groups
 * @param {readonly string[]} columns
 * @returns {Range[]}
 */
export function columnRanges(metadata, groups, columns) {
  throw new Error(`not written yet ${metadata} ${groups} ${columns}`);
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
  throw new Error(`not written yet ${metadata} ${group}`);
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
  throw new Error(`not written yet ${metadata} ${groups} ${columns} ${bytesAt}`);
}
