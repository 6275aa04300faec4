/**
 * The rows of an archive as columns: picked, joined, and in their one order.
 *
 * A row is one cell on one date from one source. Rows are sorted by (geohash, datetime, source),
 * null dates last, everywhere: in a shard, in a selection and among ties of a search.
 */

/** @typedef {import("./parts.js").ShardRow} ShardRow */

/**
 * Rows, and where each lies: its shard, and its number in there.
 *
 * @typedef {import("./shards.js").Rows & {shard: ShardRow[], at: Int32Array}} Table
 */

/** @typedef {any[] | Int8Array | Uint8Array | Int32Array | Float32Array | Float64Array} Column */

/** Columns of no rows. @type {Readonly<Record<string, () => Column>>} */
const EMPTY = Object.freeze({
  geohash: () => [],
  datetime: () => new Float64Array(0),
  bbox: () => new Float32Array(0),
  geometry: () => [],
  embedding: () => new Int8Array(0),
  bits: () => new Uint8Array(0),
  code: () => [],
  model_id: () => [],
  source: () => [],
  input_digest: () => new Uint8Array(0),
  valid_fraction: () => new Float32Array(0),
  mse: () => new Float32Array(0),
  index_mae: () => new Float32Array(0),
  shard: () => [],
  at: () => new Int32Array(0),
});

/**
 * Tables of the named columns as one, sorted.
 *
 * @param {readonly Table[]} tables
 * @param {readonly string[]} names
 * @returns {Table}
 */
export function merge(tables, names) {
  const whole = concat(tables, [...names, "shard", "at"]);
  return isSorted(whole) ? whole : take(whole, sorted(whole));
}

/**
 * The rows at positions, in that order.
 *
 * @template {{n: number}} T
 * @param {T} rows
 * @param {Int32Array} index
 * @returns {T}
 */
export function take(rows, index) {
  /** @type {Record<string, any>} */
  const out = { n: index.length };
  for (const [name, column] of Object.entries(rows)) {
    if (name !== "n") out[name] = column && picked(column, rows.n, index);
  }
  return /** @type {T} */ (out);
}

/**
 * The rows with the named columns of tables that hold the same rows, in another order.
 *
 * @param {Table} rows
 * @param {readonly number[][]} places positions in `rows` of the rows of each table
 * @param {readonly Table[]} tables
 * @param {readonly string[]} names
 * @returns {Table}
 */
export function withColumns(rows, places, tables, names) {
  const index = new Int32Array(rows.n);
  places.flat().forEach((row, at) => (index[row] = at));
  return { ...rows, ...take(concat(tables, names), index) };
}

/**
 * Texts in the order of their UTF-8 bytes.
 *
 * @param {string} a
 * @param {string} b
 */
export function compareTexts(a, b) {
  if (a === b) return 0;
  let at = 0;
  while (at < a.length && at < b.length && a[at] === b[at]) at++;
  const [x, y] = [a, b].map((text) => (at < text.length ? text.charCodeAt(at) : -1));
  // Surrogates stand for what comes after all that a single unit can say.
  if (x >= 0xd800 && y >= 0xd800) return ((x + 0x2000) & 0xffff) - ((y + 0x2000) & 0xffff);
  return x - y;
}

/**
 * Tables of the named columns as one, in the order given.
 *
 * @param {readonly Table[]} tables
 * @param {readonly string[]} names
 * @returns {Table}
 */
export function concat(tables, names) {
  /** @type {Record<string, any>} */
  const out = { n: tables.reduce((sum, { n }) => sum + n, 0) };
  for (const name of names) {
    const columns = tables.map((table) => /** @type {Record<string, any>} */ (table)[name]);
    out[name] = columns.length === 1 ? columns[0] : joined(EMPTY[name](), columns);
  }
  return /** @type {Table} */ (out);
}

/**
 * @param {Column} empty
 * @param {readonly any[]} columns
 */
function joined(empty, columns) {
  if (Array.isArray(empty)) return columns.flat();
  const Kind = /** @type {new (length: number) => any} */ (empty.constructor);
  const out = new Kind(columns.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const column of columns) {
    out.set(column, at);
    at += column.length;
  }
  return out;
}

/**
 * @param {any} column
 * @param {number} n rows that it holds
 * @param {Int32Array} index
 */
function picked(column, n, index) {
  if (Array.isArray(column)) return Array.from(index, (row) => column[row]);
  const width = n ? column.length / n : 0;
  const out = new column.constructor(index.length * width);
  index.forEach((row, at) => {
    if (width === 1) out[at] = column[row];
    else out.set(column.subarray(row * width, (row + 1) * width), at * width);
  });
  return out;
}

/** @param {Table} rows */
function isSorted(rows) {
  for (let row = 1; row < rows.n; row++) if (compare(rows, row - 1, row) > 0) return false;
  return true;
}

/** @param {Table} rows */
function sorted(rows) {
  const index = Int32Array.from(rows.geohash.keys());
  return index.sort((a, b) => compare(rows, a, b) || a - b);
}

/**
 * @param {Table} rows
 * @param {number} a
 * @param {number} b
 */
function compare({ geohash, datetime, source }, a, b) {
  if (geohash[a] !== geohash[b]) return geohash[a] < geohash[b] ? -1 : 1;
  const [first, second] = [a, b].map((row) => {
    return Number.isNaN(datetime[row]) ? Infinity : datetime[row];
  });
  return first === second ? compareTexts(source[a], source[b]) : first - second;
}
