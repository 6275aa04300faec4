/**
 * Parquet over bytes that are already here: a file's metadata, and columns as arrays.
 */

/**
 * @typedef {object} Leaf a column as the file stores it
 * @property {string[]} path
 * @property {string} type "string binary fixed(16) int8 int64 timestamp float double", with " list"
 *   when repeated and "?" when nullable
 * @typedef {Readonly<{start: number, end: number, values: number, unpacked: number,
 *   codec: string, limits: [any, any] | null}>} Chunk a column of a row group: bytes
 *   [start, end) of the file; limits: least and greatest value, where the footer says them
 *   (texts, numbers, timestamps as microseconds)
 * @typedef {Readonly<{rows: number, bytes: number, chunks: readonly Chunk[]}>} Group chunks in
 *   the order of the leaves
 * @typedef {Readonly<{name: string, rows: number, groups: readonly Group[],
 *   leaves: readonly Leaf[], texts: Readonly<Record<string, string>>}>} FileMetaData texts: the
 *   footer's key-value metadata
 */

/**
 * The metadata in a file's last bytes; offsets are absolute in the file. Throws Damaged.
 *
 * @param {Uint8Array} tail at least the metadata, its length and the magic
 * @param {string} name of the object, for errors
 * @returns {FileMetaData}
 */
export function readMetadata(tail, name) {
  throw new Error(`not written yet ${tail} ${name}`);
}

/**
 * Top-level columns of row groups, one array each over all groups in order: texts as string[],
 * fixed binary and int8 lists flat, timestamps as microseconds in a Float64Array, int64 as
 * Float64Array (NaN for null), structs of numbers flat and row by row, lists of texts as
 * string[][], binary as (Uint8Array | null)[]. Throws Damaged.
 *
 * @param {FileMetaData} metadata
 * @param {readonly number[]} groups
 * @param {readonly string[]} columns
 * @param {(start: number, end: number) => Uint8Array} bytesAt bytes of the file, already fetched
 * @returns {Promise<Record<string, any>>}
 */
export async function readColumns(metadata, groups, columns, bytesAt) {
  throw new Error(`not written yet ${metadata} ${groups} ${columns} ${bytesAt}`);
}
