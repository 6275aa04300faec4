/**
 * Ranking rows by similarity: a Hamming shortlist, then exact distances of int8 vectors.
 *
 * The definition is that of `embarchive.search`, so every step is integer or one stated float64
 * operation, and every tie is broken by (geohash, datetime, source), null dates last:
 *
 * 1. Candidates: the rows given, without the exemplars' own cells.
 * 2. Shortlist: the max(200, 20 k) places (or rows, perPlace 0) of least Hamming number.
 *    op "mean": n' sum over positives - p' sum over negatives, with p' : n' their counts in
 *    lowest terms; "min": least - least.
 * 3. Value: with d2 the squared L2 distance of int8 vectors, op "mean": sum / p - sum / n;
 *    "min": least - least. `invert` turns 2 and 3 around (0 - number).
 * 4. Score = value * scale^2, ascending: a squared distance in embedding units.
 */

import { BadInput } from "./errors.js";
import { Codes, squaredL2 } from "./quantize.js";

/**
 * positives, negatives: int8 vectors; exclude: the exemplars' own geohashes.
 *
 * @typedef {Readonly<{positives: readonly Int8Array[], negatives: readonly Int8Array[], k: number,
 *   op: "mean" | "min", invert: boolean, exact: boolean, perPlace: 0 | 1,
 *   exclude: readonly string[]}>} Query
 */

/**
 * What passes to exact distances: positions of rows, ascending, with their Hamming numbers; and
 * of each candidate place its least. Without bits all rows pass and there are no numbers.
 * candidates: how many rows were compared.
 *
 * @typedef {Readonly<{geohash: readonly string[], value: Int32Array | Float64Array}>} Heat
 * @typedef {Readonly<{index: Int32Array, hamming: Int32Array | null, heat: Heat | null,
 *   candidates: number}>} Shortlist
 */

/** @typedef {{encode: (q: Int8Array) => Uint8Array}} Encoder */

/**
 * A query, checked. Throws BadInput.
 *
 * @param {Partial<Omit<Query, "perPlace">> & {positives: readonly Int8Array[],
 *   perPlace?: number}} wanted
 * @returns {Query}
 */
export function makeQuery(wanted) {
  const { positives, negatives = [], exclude = [], invert = false, exact = false } = wanted;
  const { k, op, perPlace } = checkOptions(wanted);
  if (!positives.length) {
    throw new BadInput("search: expected at least one exemplar in like, found none");
  }
  const lengths = new Set([...positives, ...negatives].map((vector) => vector.length));
  if (lengths.size > 1) {
    throw new BadInput(`search: expected vectors of one length, found ${[...lengths].join(", ")}`);
  }
  return Object.freeze({ positives, negatives, k, op, invert, exact, perPlace, exclude });
}

/**
 * The options with their defaults. Throws BadInput unless k >= 1, op is known and perPlace is 0
 * or 1.
 *
 * @param {{k?: number, op?: "mean" | "min", perPlace?: number}} options
 * @returns {Pick<Query, "k" | "op" | "perPlace">}
 */
export function checkOptions({ k = 50, op = "mean", perPlace = 1 }) {
  if (!Number.isInteger(k) || k < 1) {
    throw new BadInput(`search: k must be at least 1, found ${k}`);
  }
  if (op !== "mean" && op !== "min") {
    throw new BadInput(`search: op must be one of mean, min, found '${op}'`);
  }
  if (perPlace !== 0 && perPlace !== 1) {
    throw new BadInput(`search: per_place must be 0 or 1, found ${perPlace}`);
  }
  return { k, op, perPlace };
}

/**
 * The rows that pass to exact distances.
 *
 * @param {{geohash: readonly string[], bits?: Uint8Array}} rows sorted
 * @param {Query} query
 * @param {Encoder | null} simhash null in an archive without bits
 * @returns {Shortlist}
 */
export function shortlist(rows, query, simhash) {
  const all = candidates(rows.geohash, query.exclude);
  const count = all.length;
  if (!simhash || !rows.bits) {
    return Object.freeze({ index: all, hamming: null, heat: null, candidates: count });
  }
  const every = votes(rows.bits, rows.geohash.length, query, simhash);
  const own = all.map((row) => every[row]);
  const starts = placeStarts(rows.geohash, all);
  const value = leastOfEach(own, starts);
  const geohash = Array.from(starts, (at) => rows.geohash[all[at]]);
  const passed = passing(own, starts, value, query);
  return Object.freeze({
    index: passed.map((at) => all[at]),
    hamming: passed.map((at) => own[at]),
    heat: Object.freeze({ geohash, value }),
    candidates: count,
  });
}

/**
 * The best k of the rows that passed: positions in the shortlist, best first, with their scores.
 *
 * @param {readonly string[]} geohash of the rows that passed
 * @param {Int8Array} vectors of the rows that passed
 * @param {Query} query
 * @param {number} scale of the space
 * @returns {{chosen: Int32Array, score: Float64Array}}
 */
export function best(geohash, vectors, query, scale) {
  const square = scale * scale;
  const score = values(vectors, query).map((value) => value * square);
  const rows = query.perPlace ? bestOfEach(score, placeStarts(geohash)) : null;
  const own = rows ? Float64Array.from(rows, (row) => score[row]) : score;
  const order = least(own, query.k).sort((a, b) => own[a] - own[b] || a - b);
  const chosen = rows ? order.map((at) => rows[at]) : order;
  return { chosen, score: Float64Array.from(chosen, (row) => score[row]) };
}

/**
 * How many places (or rows) pass from Hamming to exact distances.
 *
 * @param {Query} query
 */
function shortlistLength(query) {
  return Math.max(200, 20 * query.k);
}

/**
 * Positions of the `count` least values, ties by position, ascending by position.
 *
 * @param {Int32Array | Float64Array} values
 * @param {number} count
 * @returns {Int32Array}
 */
export function least(values, count) {
  if (values.length <= count) return Int32Array.from(values.keys());
  const limit = nthLeast(values, count - 1);
  let ties = count;
  for (const value of values) if (value < limit) ties -= 1;
  const found = new Int32Array(count);
  for (let at = 0, filled = 0; filled < count && at < values.length; at++) {
    if (values[at] < limit || (values[at] === limit && ties-- > 0)) found[filled++] = at;
  }
  return found;
}

/**
 * The value at a position, were the values sorted (quickselect).
 *
 * @param {Int32Array | Float64Array} values
 * @param {number} nth
 */
function nthLeast(values, nth) {
  const a = values.slice();
  let low = 0;
  let high = a.length - 1;
  while (low < high) {
    const pivot = a[(low + high) >> 1];
    let i = low;
    let j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (pivot < a[j]) j--;
      if (i > j) break;
      const held = a[i];
      a[i++] = a[j];
      a[j--] = held;
    }
    if (nth <= j) high = j;
    else if (nth >= i) low = i;
    else break;
  }
  return a[nth];
}

/**
 * Positions of the rows outside the exemplars' own cells.
 *
 * @param {readonly string[]} geohash
 * @param {readonly string[]} exclude
 */
function candidates(geohash, exclude) {
  const own = new Set(exclude);
  const found = new Int32Array(geohash.length);
  let count = 0;
  for (let row = 0; row < geohash.length; row++) if (!own.has(geohash[row])) found[count++] = row;
  return found.subarray(0, count);
}

/**
 * Where each place begins among sorted rows (or those at `index`).
 *
 * @param {readonly string[]} geohash
 * @param {Int32Array} [index]
 */
function placeStarts(geohash, index) {
  const count = index ? index.length : geohash.length;
  const starts = new Int32Array(count);
  let places = 0;
  let last = "";
  for (let at = 0; at < count; at++) {
    const name = geohash[index ? index[at] : at];
    if (name !== last) starts[places++] = at;
    last = name;
  }
  return starts.subarray(0, places);
}

/**
 * The first position of the least value of each place.
 *
 * @param {Int32Array | Float64Array} values
 * @param {Int32Array} starts
 */
function bestOfEach(values, starts) {
  return starts.map((start, place) => {
    const end = place + 1 < starts.length ? starts[place + 1] : values.length;
    let found = start;
    for (let at = start + 1; at < end; at++) if (values[at] < values[found]) found = at;
    return found;
  });
}

/**
 * @param {Int32Array} values
 * @param {Int32Array} starts
 */
function leastOfEach(values, starts) {
  return bestOfEach(values, starts).map((at) => values[at]);
}

/**
 * Positions that pass, ascending.
 *
 * @param {Int32Array} own Hamming number of each candidate
 * @param {Int32Array} starts
 * @param {Int32Array} value least number of each place
 * @param {Query} query
 */
function passing(own, starts, value, query) {
  if (query.exact) return Int32Array.from(own.keys());
  if (!query.perPlace) return least(own, shortlistLength(query));
  const passed = [];
  for (const place of least(value, shortlistLength(query))) {
    const end = place + 1 < starts.length ? starts[place + 1] : own.length;
    for (let at = starts[place]; at < end; at++) passed.push(at);
  }
  return Int32Array.from(passed);
}

/**
 * Hamming number of each row.
 *
 * @param {Uint8Array} bits
 * @param {number} rows
 * @param {Query} query
 * @param {Encoder} simhash
 */
function votes(bits, rows, query, simhash) {
  if (!rows) return new Int32Array(0);
  const codes = new Codes(rows, bits.length / rows);
  try {
    codes.bytes.set(bits);
    const distances = (/** @type {Int8Array} */ one) => codes.distances(simhash.encode(one));
    return new Int32Array(combine(distances, rows, query, false));
  } finally {
    codes.free();
  }
}

/**
 * The exact value of each vector.
 *
 * @param {Int8Array} vectors
 * @param {Query} query
 */
function values(vectors, query) {
  const dim = query.positives[0].length;
  const distances = (/** @type {Int8Array} */ one) => squaredL2(vectors, one, dim);
  return combine(distances, vectors.length / dim, query, true);
}

/**
 * Numbers to positives against numbers to negatives: step 3 where `mean`, else step 2. `mean` divides the sums, each an exact
 * integer, by their count; else each is multiplied by the other side's count in lowest terms.
 * The order of these operations is part of the definition.
 *
 * @param {(one: Int8Array) => ArrayLike<number>} distances
 * @param {number} count
 * @param {Query} query
 * @param {boolean} mean
 */
export function combine(distances, count, query, mean) {
  const { op, invert, positives, negatives } = query;
  const near = reduce(positives.map(distances), count, op);
  const far = negatives.length ? reduce(negatives.map(distances), count, op) : null;
  if (op === "mean" && mean) {
    for (let i = 0; i < count; i++) near[i] /= positives.length;
    if (far) for (let i = 0; i < count; i++) far[i] /= negatives.length;
  } else if (op === "mean" && far) {
    const common = greatestCommon(positives.length, negatives.length);
    for (let i = 0; i < count; i++) near[i] *= negatives.length / common;
    for (let i = 0; i < count; i++) far[i] *= positives.length / common;
  }
  if (far) for (let i = 0; i < count; i++) near[i] -= far[i];
  if (invert) for (let i = 0; i < count; i++) near[i] = 0 - near[i];
  return near;
}

/**
 * @param {ArrayLike<number>[]} parts
 * @param {number} count
 * @param {"mean" | "min"} op
 */
function reduce(parts, count, op) {
  const total = new Float64Array(parts[0]);
  for (const part of parts.slice(1)) {
    if (op === "min") for (let i = 0; i < count; i++) total[i] = Math.min(total[i], part[i]);
    else for (let i = 0; i < count; i++) total[i] += part[i];
  }
  return total;
}

/** @param {number} a @param {number} b @returns {number} */
function greatestCommon(a, b) {
  return b ? greatestCommon(b, a % b) : a;
}
