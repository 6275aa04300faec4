/**
 * A coarse quantiser: the lists of an inverted file, and what codes within them are compared with.
 *
 * A row is coded as what it differs by from the centroid of its list. All distances are of whole
 * numbers.
 */

import { Damaged } from "./errors.js";
import { loadQuantiser } from "./quantisers.js";
import { squaredL2 } from "./quantize.js";
import { MAX_WEIGHTS, readFile } from "./tensors.js";

/** @typedef {import("./quantisers.js").Quantiser} Quantiser */
/** @typedef {import("./tensors.js").Tensors} Tensors */

const VERSION = "1";
const MOST_LISTS = 1 << 15;
const MAX_DIM = 4096;
/** @type {Readonly<Record<string, string>>} */
const TYPES = Object.freeze({ centroids: "I8", starts: "I32", quantiser: "I8" });

/** Lists and their codes; made by `loadCoarse`. */
export class Coarse {
  /**
   * @param {Int8Array} centroids (count, dim)
   * @param {number} dim
   * @param {Quantiser} quantiser of rows less their centroid, in int8 steps
   */
  constructor(centroids, dim, quantiser) {
    this.centroids = centroids;
    this.dim = dim;
    this.quantiser = quantiser;
    Object.freeze(this);
  }

  /** How many lists there are. */
  get count() {
    return this.centroids.length / this.dim;
  }

  /** Squared distances of a vector to all centroids. @param {Int8Array} one */
  distances(one) {
    return squaredL2(this.centroids, one, this.dim);
  }

  /**
   * Squared distances of a vector to what the codes of a list decode to.
   *
   * @param {Int8Array} one
   * @param {number} list
   * @param {Int8Array} decoded (rows, numbers of a code)
   */
  within(one, list, decoded) {
    const { centroids, dim, quantiser } = this;
    const rest = Float64Array.from(one, (number, i) => number - centroids[list * dim + i]);
    return squaredL2(decoded, quantiser.steps(rest), quantiser.dim);
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
  const { kind, version, bytes: length = "" } = metadata;
  if (kind !== "coarse" || version !== VERSION || !/^\d{1,4}$/.test(length)) {
    const found = `${kind} ${version} of ${length} bytes`.slice(0, 80);
    throw new Damaged(`overview: expected centroids of version ${VERSION}, found ${found}`);
  }
  const types = [...tensors].map(([name, { type }]) => `${name.slice(0, 40)} ${type}`).sort();
  const expected = Object.entries(TYPES).map(([name, type]) => `${name} ${type}`);
  if (types.join() !== expected.sort().join()) {
    throw new Damaged(`overview: expected ${expected.join(", ")}, found ${types}`.slice(0, 160));
  }
  const [centroids, starts, codes] = Object.keys(TYPES).map((name) => {
    return /** @type {import("./tensors.js").Tensor} */ (tensors.get(name));
  });
  checkCentroids(centroids.shape, dim);
  checkStarts(new Int32Array(starts.bytes.slice().buffer), starts.shape, centroids.shape[0]);
  const quantiser = loadQuantiser(codes.bytes, dim, Number(length));
  return new Coarse(new Int8Array(centroids.bytes.slice().buffer), dim, quantiser);
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
