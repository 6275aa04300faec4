/**
 * Which cells of a space a search of all of it looks at: the best rows of the lists that lie best.
 *
 * The definition is that of `embarchive.candidates`:
 *
 * 1. Lists: those of least value, ties by number, as long as together they hold no more rows than
 *    `PROBED` lists of the mean size, or 64 k; the first in any case. The value of a list is that
 *    of its centroid, see step 3 of `search`.
 * 2. Rows: by the same value of what their codes decode to. Ties by cell.
 * 3. Cells: the first of these rows, distinct, without the exemplars' own: k where codes are exact,
 *    else k + ceil(4 k / 5). Their rows are what an exact search then ranks. Where there are not
 *    so many, four times the rows are read, until there are or all is.
 */

import { isEverything } from "./filters.js";
import { spell } from "./inverted.js";
import { squaredL2Columns } from "./quantize.js";
import { FEW_CELLS, RANGED } from "./reads.js";
import { combine, least } from "./search.js";

/** @typedef {import("./inverted.js").Cells} Cells */
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

/** Lists, of the mean size, that a search of all rows reads, as in Python. */
export const PROBED = 17;
// Rows that are compared for each hit at least.
const FOR_A_HIT = 64;
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
 * @param {number} k
 * @param {{bits: number, dim: number, packed?: number}} settings
 */
export function pays(lists, k, { bits, dim, packed }) {
  const read = Math.min(lists.total, rowsRead(lists, k)) * lists.width;
  return read < lists.total * (bits / 8 || packed || dim);
}

/**
 * How many rows a search looks at first, at most.
 *
 * @param {Lists} lists
 * @param {number} k
 */
function rowsRead({ total, rows }, k) {
  return Math.max((PROBED * total) / rows.length, FOR_A_HIT * k);
}

/**
 * The first of lists that hold so many rows at most, and the first with rows in any case.
 *
 * @param {Uint32Array} order
 * @param {Float64Array} rows of each list
 * @param {number} most
 */
function within(order, rows, most) {
  let [count, held] = [0, 0];
  while (count < order.length && (!held || held + rows[order[count]] <= most)) {
    held += rows[order[count++]];
  }
  return order.subarray(0, count);
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
export function cost(lists, k, { settings, parts }) {
  const { coarse, segments } = lists;
  const cells = cellsOf(coarse, k);
  const shards = sum(parts.map((part) => part.shards));
  const group = Math.min(ROW_GROUP, sum(parts.map((part) => part.rows)) / Math.max(1, shards));
  const width = (settings.packed ?? settings.dim) + settings.bits / 8 + REST;
  const each = Math.min(group * width, cells > FEW_CELLS ? Infinity : PAGES);
  const read = Math.min(cells * Math.ceil(each), sum(parts.map((part) => part.shard_bytes)));
  const most = mostRead(lists, k);
  const files = new Set(segments.map(({ file }) => file)).size;
  return {
    requests: Math.min(segments.length, most.lists * files) + RANGED * Math.min(cells, shards),
    bytes: most.bytes + read,
    rows: most.rows,
  };
}

/**
 * The most lists, bytes and rows of lists that hold so many rows as a search reads.
 *
 * @param {Lists} lists
 * @param {number} k
 */
function mostRead(lists, k) {
  const { segments, rows, total } = lists;
  const most = rowsRead(lists, k);
  const bytes = new Float64Array(rows.length);
  for (const one of segments) bytes[one.list] += one.length;
  const some = Uint32Array.from(rows.keys()).filter((list) => rows[list] > 0);
  const small = some.slice().sort((a, b) => rows[a] - rows[b]);
  // Those of most bytes a row, and a part of one, are the most bytes that so many rows can be.
  let [read, left] = [0, most];
  for (const list of some.sort((a, b) => bytes[b] / rows[b] - bytes[a] / rows[a])) {
    read += bytes[list] * Math.min(1, left / rows[list]);
    left = Math.max(0, left - rows[list]);
  }
  return {
    lists: within(small, rows, most).length,
    bytes: Math.max(Math.ceil(read), largest(bytes)),
    rows: Math.max(Math.min(total, Math.floor(most)), largest(rows)),
  };
}

/**
 * Cells that are ranked for so many hits.
 *
 * @param {import("./coarse.js").Coarse} coarse
 * @param {number} k
 */
function cellsOf({ exact }, k) {
  return exact ? k : k + Math.ceil((4 * k) / 5);
}

/** @param {ArrayLike<number>} numbers */
function sum(numbers) {
  return Array.from(numbers).reduce((total, one) => total + one, 0);
}

/** @param {Float64Array} numbers */
function largest(numbers) {
  return numbers.reduce((sofar, one) => Math.max(sofar, one), 0);
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
  const order = Uint32Array.from(near.keys()).sort((a, b) => near[a] - near[b] || a - b);
  const count = cellsOf(coarse, query.k);
  /** @type {Awaited<ReturnType<Overview["read"]>>} */
  let read = [];
  let [most, done] = [rowsRead(lists, query.k), 0];
  for (;;) {
    const some = within(order, lists.rows, most);
    read = read.concat(await overview.read(lists, some.subarray(done)));
    done = some.length;
    const { total, heat } = ranked(coarse, read, query, precision);
    if (heat.geohash.length < count && done < order.length) {
      most = Math.max(4 * most, 4 * total, total + lists.rows[order[done]]);
      continue;
    }
    // Places are in the order of cells, which so breaks ties.
    const first = least(heat.value, count);
    const chosen = Object.freeze(Array.from(first, (place) => heat.geohash[place]));
    return Object.freeze({ cells: chosen, rows: total, heat });
  }
}

/**
 * How many rows were read, and the least value of each of their cells.
 *
 * @param {import("./coarse.js").Coarse} coarse
 * @param {Awaited<ReturnType<Overview["read"]>>} read
 * @param {Query} query
 * @param {number} precision
 */
function ranked(coarse, read, query, precision) {
  const total = sum(read.map(({ rows }) => rows));
  const values = new Float64Array(total);
  const cells = { high: new Uint32Array(total), low: new Uint32Array(total) };
  let at = 0;
  for (const { list, rows, codes, cells: own } of read) {
    const decoded = coarse.decode(codes, list);
    values.set(
      combine((one) => squaredL2Columns(decoded, one), rows, query, true),
      at,
    );
    cells.high.set(own.high, at);
    cells.low.set(own.low, at);
    at += rows;
  }
  return { total, heat: leastOfEach(values, cells, query, precision) };
}

/**
 * Each cell but the exemplars', ascending, and the least value of its rows.
 *
 * @param {Float64Array} values
 * @param {Cells} cells
 * @param {Query} query
 * @param {number} precision
 * @returns {import("./search.js").Heat}
 */
function leastOfEach(values, cells, query, precision) {
  const { high, low } = cells;
  const [order, own] = [sorted(cells), new Set(query.exclude)];
  const geohash = [];
  const value = new Float64Array(order.length);
  for (let start = 0, end = 0; start < order.length; start = end) {
    const row = order[start];
    let found = values[row];
    while (++end < order.length && low[order[end]] === low[row] && high[order[end]] === high[row]) {
      if (values[order[end]] < found) found = values[order[end]];
    }
    const name = spell(high[row], low[row], precision);
    if (!own.has(name)) value[geohash.push(name) - 1] = found;
  }
  return Object.freeze({ geohash, value: value.slice(0, geohash.length) });
}

/**
 * Positions of cells in their order, by 15 bits at a time (radix sort).
 *
 * @param {Cells} cells
 */
function sorted({ high, low }) {
  let order = low.map((_, row) => row);
  for (const [part, shift] of /** @type {const} */ ([
    [low, 0],
    [low, 15],
    [high, 0],
    [high, 15],
  ])) {
    const starts = new Uint32Array((1 << 15) + 1);
    for (let row = 0; row < part.length; row++) starts[((part[row] >> shift) & 0x7fff) + 1] += 1;
    if (starts.includes(part.length)) continue;
    for (let digit = 0; digit < 1 << 15; digit++) starts[digit + 1] += starts[digit];
    const next = new Uint32Array(order.length);
    for (let at = 0; at < order.length; at++) {
      next[starts[(part[order[at]] >> shift) & 0x7fff]++] = order[at];
    }
    order = next;
  }
  return order;
}
