/**
 * A coarse quantiser: the lists of an inverted file, and how rows are coded within them.
 *
 * A row is coded as what it differs by from the centroid of its list, in whole steps.
 */

import { Damaged } from "./errors.js";
import { squaredL2 } from "./quantize.js";
import { MAX_WEIGHTS, readFile } from "./tensors.js";

const VERSION = "2";
const MOST_LISTS = 1 << 15;
const MOST_STEP = 127;
const MAX_DIM = 4096;
/** @type {Readonly<Record<string, string>>} */
const TYPES = Object.freeze({ centroids: "I8", starts: "I32" });

/** Lists and their codes; made by `loadCoarse`. */
export class Coarse {
  /**
   * @param {Int8Array} centroids (count, dim)
   * @param {number} dim
   * @param {number} step of what rows differ by from their centroid, in int8 steps
   */
  constructor(centroids, dim, step) {
    this.centroids = centroids;
    this.dim = dim;
    this.step = step;
    Object.freeze(this);
  }

  /** How many lists there are. */
  get count() {
    return this.centroids.length / this.dim;
  }

  /** Whether codes decode to just what was encoded. */
  get exact() {
    return this.step === 1;
  }

  /** Squared distances of a vector to all centroids. @param {Int8Array} one */
  distances(one) {
    return squaredL2(this.centroids, one, this.dim);
  }

  /**
   * Rows of codes of a list, both int8 by columns (dim, rows). Codes of step 1 are what rows differ
   * by less 256 where that is beyond int8, and sums leave it out again.
   *
   * @param {Int8Array} codes
   * @param {number} list
   * @returns {Int8Array}
   */
  decode(codes, list) {
    const { centroids, dim, step } = this;
    const found = new Int8Array(codes.length);
    const rows = codes.length / dim;
    for (let i = 0, at = 0; i < dim; i++) {
      const centroid = centroids[list * dim + i];
      for (const end = at + rows; at < end; at++) found[at] = codes[at] * step + centroid;
    }
    return found;
  }
}

/**
 * The coarse quantiser of rows of `dim` numbers. Throws Damaged when it is not one.
 *
 * @param {Uint8Array} bytes
 * @param {number} dim
 * @returns {Coarse}
 */
export function loadCoarse(bytes, dim) {
  if (bytes.length > MAX_WEIGHTS) {
    throw new Damaged(`overview: expected at most ${MAX_WEIGHTS} bytes, found ${bytes.length}`);
  }
  const { tensors, metadata } = readFile(bytes, "overview");
  const { kind, version, step = "" } = metadata;
  if (kind !== "coarse" || version !== VERSION || !/^[0-9]{1,3}$/.test(step)) {
    const found = `${kind} ${version} of step ${step}`.slice(0, 80);
    throw new Damaged(`overview: expected centroids of version ${VERSION}, found ${found}`);
  }
  const types = [...tensors].map(([name, { type }]) => `${name.slice(0, 40)} ${type}`).sort();
  const expected = Object.entries(TYPES).map(([name, type]) => `${name} ${type}`);
  if (types.join() !== expected.sort().join()) {
    throw new Damaged(`overview: expected ${expected.join(", ")}, found ${types}`.slice(0, 160));
  }
  const [centroids, starts] = Object.keys(TYPES).map((name) => {
    return /** @type {import("./tensors.js").Tensor} */ (tensors.get(name));
  });
  checkCentroids(centroids.shape, dim);
  checkStarts(new Int32Array(starts.bytes.slice().buffer), starts.shape, centroids.shape[0]);
  const whole = Number(step);
  if (whole < 1 || whole > MOST_STEP) {
    throw new Damaged(`overview: expected a step of 1 to ${MOST_STEP}, found ${whole}`);
  }
  return new Coarse(new Int8Array(centroids.bytes.slice().buffer), dim, whole);
}

/**
 * @param {readonly number[]} shape
 * @param {number} dim
 */
function checkCentroids(shape, dim) {
  const [count = 0, own = 0] = shape;
  if (shape.length === 2 && count > 0 && count <= MOST_LISTS && own === dim && dim <= MAX_DIM) {
    return;
  }
  const found = `(${shape})`.slice(0, 60);
  throw new Damaged(`overview: expected 1 to ${MOST_LISTS} centroids of ${dim}, found ${found}`);
}

/**
 * @param {Int32Array} starts
 * @param {readonly number[]} shape
 * @param {number} count of centroids
 */
function checkStarts(starts, shape, count) {
  const rises = starts.every((one, i) => one > (starts[i - 1] ?? -1) && one < count);
  if (shape.length === 1 && starts[0] === 0 && rises) return;
  throw new Damaged("overview: expected groups of centroids from the first on, found others");
}
