/**
 * Which cells of a space a search of all of it looks at: the best rows of the lists that lie best.
 *
 * The definition is that of `embarchive.candidates`:
 *
 * 1. Lists: the `PROBED` of least value, ties by number; the value of a list is that of its
 *    centroid, see step 3 of `search`.
 * 2. Rows: by the same value of what their codes decode to. Ties by cell.
 * 3. Cells: the first k + ceil(4 k / 5) distinct cells of these rows, without the exemplars' own.
 *    Their rows are what an exact search then ranks.
 */

import { isEverything } from "./filters.js";
import { spell } from "./inverted.js";
import { FEW_CELLS, RANGED } from "./reads.js";
import { combine, least } from "./search.js";

/** @typedef {import("./overview.js").Lists} Lists */
/** @typedef {import("./overview.js").Overview} Overview */
/** @typedef {import("./search.js").Query} Query */

/**
 * Cells to rank exactly, sorted; how many rows' codes were compared; and the least value of each of
 * their cells but the exemplars'.
 *
 * @typedef {Readonly<{cells: readonly string[], rows: number,
 *   heat: import("./search.js").Heat}>} Found
 */

/** Lists that a search of all rows reads, as in Python. */
export const PROBED = 60;
// Rows of a row group as archives have them; bytes of a row that are read beside vector and bits.
const ROW_GROUP = 8192;
const REST = 24;
// About what pages of a row take, with what lies between them.
const PAGES = 256 << 10;

/**
 * Whether lists can stand in for the rows of a search: not where it is exact, the farthest are asked
 * for, or a box or dates choose among them.
 *
 * @param {{exact?: boolean, invert?: boolean}} wanted
 * @param {import("./filters.js").Filter} filter
 */
export function serves({ exact = false, invert = false }, filter) {
  return !exact && !invert && isEverything(filter);
}

/**
 * Whether the lists that a search reads are fewer bytes than the bits, or vectors, of all rows.
 *
 * @param {Lists} lists
 * @param {{bits: number, dim: number, packed?: number}} settings
 */
export function pays({ coarse }, { bits, dim, packed }) {
  const share = Math.min(coarse.count, PROBED) / coarse.count;
  return share * coarse.quantiser.bytes < (bits / 8 || packed || dim);
}

/**
 * What a search reads by lists: at most of lists, about of the cells' rows, each of pages, or a row
 * group, of its own.
 *
 * @param {Lists} lists
 * @param {number} k
 * @param {Pick<import("./manifest.js").Generation, "settings" | "parts">} generation
 * @returns {{requests: number, bytes: number, rows: number}}
 */
export function cost({ coarse, segments }, k, { settings, parts }) {
  const [bytes, rows] = [new Float64Array(coarse.count), new Float64Array(coarse.count)];
  for (const one of segments) {
    bytes[one.list] += one.length;
    rows[one.list] += one.rows;
  }
  const most = (/** @type {Float64Array} */ of) => sum(of.sort().subarray(-PROBED));
  const files = new Set(segments.map(({ file }) => file)).size;
  const shards = sum(parts.map((part) => part.shards));
  const group = Math.min(ROW_GROUP, sum(parts.map((part) => part.rows)) / Math.max(1, shards));
  const width = (settings.packed ?? settings.dim) + settings.bits / 8 + REST;
  const each = Math.min(group * width, cellsOf(k) > FEW_CELLS ? Infinity : PAGES);
  const read = Math.min(cellsOf(k) * Math.ceil(each), sum(parts.map((part) => part.shard_bytes)));
  return {
    requests: Math.min(segments.length, PROBED * files) + RANGED * Math.min(cellsOf(k), shards),
    bytes: most(bytes) + read,
    rows: most(rows),
  };
}

/** Cells that are ranked for so many hits. @param {number} k */
function cellsOf(k) {
  return k + Math.ceil((4 * k) / 5);
}

/** @param {ArrayLike<number>} numbers */
function sum(numbers) {
  return Array.from(numbers).reduce((total, one) => total + one, 0);
}

/**
 * The cells of a search, see above. Throws Damaged, GenerationExpired.
 *
 * @param {Overview} overview
 * @param {Lists} lists
 * @param {Query} query
 * @param {number} precision letters of a cell
 * @returns {Promise<Found>}
 */
export async function find(overview, lists, query, precision) {
  const { coarse } = lists;
  const near = combine((one) => coarse.distances(one), coarse.count, query, true);
  const read = await overview.read(lists, least(near, PROBED));
  const total = sum(read.map(({ rows }) => rows));
  const [values, cells] = [new Float64Array(total), new BigUint64Array(total)];
  let at = 0;
  for (const { list, rows, codes, cells: own } of read) {
    const decoded = coarse.quantiser.decode(codes);
    values.set(
      combine((one) => coarse.within(one, list, decoded), rows, query, true),
      at,
    );
    cells.set(own, at);
    at += rows;
  }
  return ranked(values, cells, query, precision);
}

/**
 * @param {Float64Array} values
 * @param {BigUint64Array} cells
 * @param {Query} query
 * @param {number} precision
 * @returns {Found}
 */
function ranked(values, cells, query, precision) {
  const order = Uint32Array.from(values.keys()).sort(
    (a, b) => values[a] - values[b] || Number(cells[a] > cells[b]) - Number(cells[a] < cells[b]),
  );
  /** @type {Map<string, number>} */
  const best = new Map();
  for (const row of order) {
    const name = spell(cells[row], precision);
    if (!best.has(name)) best.set(name, values[row]);
  }
  for (const name of query.exclude) best.delete(name);
  const geohash = [...best.keys()];
  const first = geohash.slice(0, cellsOf(query.k));
  return Object.freeze({
    cells: Object.freeze(first.sort()),
    rows: values.length,
    heat: Object.freeze({ geohash, value: Float64Array.from(best.values()) }),
  });
}
