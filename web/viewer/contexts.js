/**
 * What has been decoded of a tile foretells how large its next coefficient is. Integers alone.
 *
 * Coefficients come in scan order. The expected magnitude of one is that of training, times how much
 * larger than expected its neighbours (by frequency and component) that came before it were.
 */

const NEIGHBOURS = 16;
const REACH = 3;
// Expected magnitudes are in units of 2 ** -12 of a step; with none above 2 ** 12 steps all that is
// computed with them stays below 2 ** 53.
const UNIT = 2 ** 12;
export const MOST_EXPECTED = 2 ** 24;
/** Magnitudes that count at most. */
export const MOST_SEEN = 15;
// What stands for no neighbours at all.
const NONE = 30;
// Weights by squared distance in frequency, within a component and to another one.
/** @type {Readonly<Record<number, number>>} */
const SAME = { 1: 40, 2: 24, 4: 13, 5: 11, 8: 7, 9: 6 };
/** @type {Readonly<Record<number, number>>} */
const OTHER = { 0: 30, 1: 10, 2: 6, 4: 3, 5: 3, 8: 2, 9: 2 };
/** Classes, four an octave of the expected magnitude, from 2 ** -8 of a step to 2 ** 5. */
export const CLASSES = 53;
const EDGES = Array.from({ length: CLASSES - 1 }, (_, i) => Math.round(UNIT * 2 ** (i / 4 - 8)));
const LAST = EDGES[CLASSES - 2];

/** The class of every expected magnitude up to the last edge. */
const CLASS_OF = (() => {
  const found = new Uint8Array(LAST + 1);
  EDGES.forEach((edge, i) => found.fill(i + 1, edge));
  return found;
})();

/** @typedef {readonly [components: number, height: number, width: number]} Sizes */
/** @typedef {{weight: number, same: number[], other: number[]}} Ring steps of one weight */

/**
 * The neighbours of each position of a scan, of those that came earlier the 16 of largest weight,
 * among equals the latest. They are looked for once a stream reaches a position.
 */
export class Scan {
  #order;
  #sizes;
  #rank;
  #rings;
  #before;
  #weight;
  #known = 0;

  /**
   * @param {Int32Array} order flat indices into (components, height, width)
   * @param {Sizes} sizes
   */
  constructor(order, sizes) {
    const [components, height, width] = sizes;
    this.#order = order;
    this.#sizes = sizes;
    this.#rings = rings(width + 2 * REACH);
    this.#before = new Int32Array(NEIGHBOURS * order.length);
    this.#weight = new Uint8Array(NEIGHBOURS * order.length);
    const cells = (height + 2 * REACH) * (width + 2 * REACH);
    this.#rank = new Int32Array(components * cells).fill(order.length);
    order.forEach((flat, at) => (this.#rank[this.#cell(flat)] = at));
  }

  /** Know the neighbours of the first positions. @param {number} count */
  reach(count) {
    for (; this.#known < count; this.#known++) this.#find(this.#known);
  }

  /**
   * The class of the coefficient at a position that was reached.
   *
   * @param {number} at
   * @param {Int32Array} expected magnitude of each position
   * @param {Uint8Array} seen magnitudes at positions before, MOST_SEEN at most
   */
  classOf(at, expected, seen) {
    const [before, weight] = [this.#before, this.#weight];
    let [total, near] = [NONE, NONE * UNIT];
    const end = (at + 1) * NEIGHBOURS;
    for (let i = at * NEIGHBOURS; i < end && weight[i] > 0; i++) {
      total += weight[i] * seen[before[i]];
      near += weight[i] * expected[before[i]];
    }
    const found = Math.floor((expected[at] * total * UNIT) / near);
    return CLASS_OF[found < LAST ? found : LAST];
  }

  /** Where a coefficient lies among ranks, which have a frame. @param {number} flat */
  #cell(flat) {
    const [, height, width] = this.#sizes;
    const [line, v] = [Math.floor(flat / width), flat % width];
    const [own, u] = [Math.floor(line / height), line % height];
    return (own * (height + 2 * REACH) + u + REACH) * (width + 2 * REACH) + v + REACH;
  }

  /** @param {number} at */
  #find(at) {
    const [components, height, width] = this.#sizes;
    const plane = (height + 2 * REACH) * (width + 2 * REACH);
    const own = Math.floor(this.#order[at] / (height * width));
    const cell = this.#cell(this.#order[at]);
    let to = at * NEIGHBOURS;
    const end = to + NEIGHBOURS;
    for (const { weight, same, other } of this.#rings) {
      /** @type {number[]} */
      const found = [];
      const look = (/** @type {number} */ place) => {
        if (this.#rank[place] < at) found.push(this.#rank[place]);
      };
      for (const step of same) look(cell + step);
      for (let k = 0; k < components && other.length; k++) {
        if (k !== own) for (const step of other) look(cell + (k - own) * plane + step);
      }
      if (found.length > end - to) found.sort((a, b) => b - a);
      for (let i = 0; i < found.length && to < end; i++, to++) {
        this.#before[to] = found[i];
        this.#weight[to] = weight;
      }
      if (to === end) return;
    }
  }
}

/** The steps to neighbours, the heaviest first. @param {number} line numbers of a row of ranks
 * @returns {Ring[]} */
function rings(line) {
  const weights = [...new Set([...Object.values(SAME), ...Object.values(OTHER)])];
  const found = weights
    .sort((a, b) => b - a)
    .map((weight) => ({ weight, same: /** @type {number[]} */ ([]), other: [] }));
  for (let du = -REACH; du <= REACH; du++) {
    for (let dv = -REACH; dv <= REACH; dv++) {
      const square = du * du + dv * dv;
      const step = du * line + dv;
      found.find(({ weight }) => weight === SAME[square])?.same.push(step);
      /** @type {Ring | undefined} */ (
        found.find(({ weight }) => weight === OTHER[square])
      )?.other.push(step);
    }
  }
  return found;
}
