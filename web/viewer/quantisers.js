/**
 * Quantisers: the codes of rows back to int8 vectors, and these to what networks take.
 *
 * A code has as many bits a group of numbers as its codebook needs, the highest first. What each
 * byte stands for is looked up in tables, which are made once.
 */

import { BadInput, Damaged } from "./errors.js";
import { MAX_WEIGHTS, readFile } from "./tensors.js";

/** @typedef {import("./tensors.js").Tensors} Tensors */
/** @typedef {import("./manifest.js").Space} Space */
/**
 * What a file holds. matrix: (numbers of a vector, mean's length), inverse: turned around, null for
 * the identity; edges, which only writers need, are checked and left.
 *
 * @typedef {{name: string, scale: number, mean: Float32Array, codebooks: Int8Array,
 *   matrix: Float32Array | null, inverse: Float32Array | null}} Parts
 */

const VERSION = "1";
const MAX_DIM = 4096;
const SIZES = [2, 4, 16, 256];
const MOST_SCALE = 1e20;
// Rows of length 1: no number is above 1, and rounding is below a thousandth.
const MOST_TURN = 1.001;
const ARRAYS = Object.freeze({
  F64: Float64Array,
  F32: Float32Array,
  I16: Int16Array,
  I8: Int8Array,
});
/** @typedef {keyof typeof ARRAYS} Kind */
/** @type {Readonly<Record<string, Kind>>} */
const TYPES = Object.freeze({
  scale: "F64",
  mean: "F32",
  codebooks: "I8",
  edges: "I16",
  matrix: "F32",
  inverse: "F32",
});
const NEEDED = ["scale", "mean", "codebooks"];

/** Reads codes; made by `loadQuantiser`. */
export class Quantiser {
  #parts;
  #tables;
  /** Numbers that a byte gives. */
  #share;

  /**
   * @param {Parts} parts
   * @param {readonly [groups: number, words: number, width: number]} shape of the codebooks
   */
  constructor(parts, [groups, words, width]) {
    const bits = Math.log2(words);
    const codes = 8 / bits;
    this.#parts = parts;
    this.#share = codes * width;
    this.name = parts.name;
    this.dim = groups * width;
    this.bytes = Math.ceil((groups * bits) / 8);
    this.#tables = new Int8Array(this.bytes * 256 * this.#share);
    for (let at = 0, entry = 0; at < this.bytes; at++) {
      for (let value = 0; value < 256; value++, entry++) {
        for (let i = 0; i < codes; i++) {
          const group = at * codes + i;
          if (group >= groups) continue;
          const code = (value >> (bits * (codes - 1 - i))) & (words - 1);
          const from = (group * words + code) * width;
          const word = parts.codebooks.subarray(from, from + width);
          this.#tables.set(word, entry * this.#share + i * width);
        }
      }
    }
  }

  /**
   * int8 (n, dim) of codes (n, bytes).
   *
   * @param {Uint8Array} packed
   */
  decode(packed) {
    const { bytes, dim } = this;
    if (packed.length % bytes) {
      throw new BadInput(`quantiser: expected codes of ${bytes} bytes, found ${packed.length}`);
    }
    const share = this.#share;
    const found = new Int8Array((packed.length / bytes) * dim);
    for (let row = 0, at = 0; at < packed.length; row++) {
      const end = (row + 1) * dim;
      for (let i = 0, to = row * dim; i < bytes; i++) {
        let from = (i * 256 + packed[at++]) * share;
        for (const last = Math.min(to + share, end); to < last;) found[to++] = this.#tables[from++];
      }
    }
    return found;
  }

  /**
   * What networks take, float32 (n, D), of decoded int8 (n, dim).
   *
   * @param {Int8Array | Float32Array} q or means of such
   */
  restore(q) {
    const { dim } = this;
    if (q.length % dim) {
      throw new BadInput(`quantiser: expected vectors of ${dim}, found ${q.length} numbers`);
    }
    const { mean, inverse, scale } = this.#parts;
    const step = Math.fround(scale);
    const z = Float32Array.from(q, (number) => number * step);
    const found = new Float32Array((q.length / dim) * mean.length);
    for (let i = 0; i < found.length; i++) {
      const [row, own] = [Math.floor(i / mean.length), i % mean.length];
      let sum = inverse ? 0 : z[row * dim + own];
      for (let j = 0; inverse && j < dim; j++) sum += inverse[own * dim + j] * z[row * dim + j];
      found[i] = Math.fround(sum) + mean[own];
    }
    return found;
  }

  /** How many numbers go in. */
  get width() {
    return this.#parts.mean.length;
  }
}

/**
 * The quantiser of a space, null where embeddings are plain. Throws Damaged.
 *
 * @param {{object: (kind: "model", sha256: string, length: number) => Promise<Uint8Array>}} objects
 * @param {Space | undefined} space
 * @param {number} [packed] bytes of a row's code
 * @returns {Promise<Quantiser | null>}
 */
export async function fetchQuantiser(objects, space, packed = 0) {
  if (!packed) return null;
  const { quantiser, quantiser_length: length = 0, dim = 0 } = space ?? {};
  if (quantiser === undefined) throw new Damaged("space: expected a quantiser, found none");
  return loadQuantiser(await objects.object("model", quantiser, length), dim, packed);
}

/**
 * The quantiser of vectors of `dim` numbers whose codes take `length` bytes. Throws Damaged when it
 * is not one.
 *
 * @param {Uint8Array} bytes
 * @param {number} dim
 * @param {number} length
 * @returns {Quantiser}
 */
export function loadQuantiser(bytes, dim, length) {
  if (bytes.length > MAX_WEIGHTS) {
    throw new Damaged(`quantiser: expected at most ${MAX_WEIGHTS} bytes, found ${bytes.length}`);
  }
  const { tensors, metadata } = readFile(bytes, "quantiser");
  const { kind, version, name } = metadata;
  if (kind !== "quantiser" || version !== VERSION || !/^[a-z0-9+-]{1,64}$/.test(name ?? "")) {
    const found = `${kind} ${version} ${name}`.slice(0, 80);
    throw new Damaged(`quantiser: expected one of version ${VERSION}, found ${found}`);
  }
  const [groups, words, width] = checkShapes(tensors);
  /** @type {Record<string, any>} */
  const numbers = {};
  for (const [key, tensor] of tensors) {
    numbers[key] = new ARRAYS[TYPES[key]](tensor.bytes.slice().buffer);
  }
  checkValues(numbers, words - 1);
  const { mean, codebooks, matrix = null, inverse = null } = numbers;
  const parts = { name, scale: numbers.scale[0], mean, codebooks, matrix, inverse };
  const quantiser = new Quantiser(parts, [groups, words, width]);
  if (mean.length === dim && quantiser.bytes === length) return quantiser;
  const found = `${mean.length} in ${quantiser.bytes}`;
  throw new Damaged(`quantiser: expected ${dim} numbers in ${length} bytes, found ${found}`);
}

/**
 * The shape of the codebooks.
 *
 * @param {Tensors} found
 * @returns {[groups: number, words: number, width: number]}
 */
function checkShapes(found) {
  const shape = found.get("codebooks")?.shape ?? [];
  const [groups = 0, words = 0, width = 0] = shape;
  const [total, dim] = [groups * width, found.get("mean")?.shape[0] ?? 0];
  const sizes = total > 0 && total <= MAX_DIM && dim > 0 && dim <= MAX_DIM;
  if (!NEEDED.every((name) => found.has(name)) || !SIZES.includes(words) || !sizes) {
    const names = [...found.keys()].map((name) => name.slice(0, 40)).join(", ");
    const some = `${names} of ${shape} for ${dim}`.slice(0, 120);
    throw new Damaged(`quantiser: expected ${NEEDED} of at most ${MAX_DIM}, found ${some}`);
  }
  /** @type {Readonly<Record<string, number[]>>} */
  const shapes = {
    scale: [1],
    mean: [dim],
    codebooks: [groups, words, width],
    edges: [groups, words - 1],
    matrix: [total, dim],
    inverse: [dim, total],
  };
  for (const [name, { type, shape: own }] of found) {
    const wanted = Object.hasOwn(TYPES, name) ? `${TYPES[name]} (${shapes[name]})` : "no such";
    if (`${type} (${own})` === wanted) continue;
    const some = `${type} (${own})`.slice(0, 60);
    throw new Damaged(`quantiser: ${name.slice(0, 40)}: expected ${wanted}, found ${some}`);
  }
  const mapped = found.has("matrix");
  if (mapped !== found.has("inverse") || (!mapped && total !== dim)) {
    throw new Damaged("quantiser: expected a matrix and its inverse, or as many numbers as before");
  }
  if (found.has("edges") !== (width === 1)) {
    throw new Damaged("quantiser: expected edges for words of one number, and for no others");
  }
  return [groups, words, width];
}

/**
 * Throws Damaged for numbers beyond the limits.
 *
 * @param {Record<string, any>} numbers
 * @param {number} edges of a group
 */
function checkValues(numbers, edges) {
  const [scale] = numbers.scale;
  const near = (/** @type {number} */ value) => Math.abs(value) <= MOST_TURN;
  /** @type {Record<string, () => boolean>} */
  const checks = {
    scale: () => scale > 1 / MOST_SCALE && scale < MOST_SCALE,
    mean: () => numbers.mean.every((/** @type {number} */ one) => Math.abs(one) < MOST_SCALE),
    edges: () => !numbers.edges || ascends(numbers.edges, edges),
    matrix: () => !numbers.matrix || numbers.matrix.every(near),
    inverse: () => !numbers.inverse || numbers.inverse.every(near),
  };
  for (const [name, isGood] of Object.entries(checks)) {
    if (isGood()) continue;
    throw new Damaged(`quantiser: ${name}: expected numbers within the limits, found others`);
  }
}

/** Whether no number of a row of so many is below the one before. @param {Int16Array} numbers
 * @param {number} columns */
function ascends(numbers, columns) {
  return numbers.every((one, i) => i % columns === 0 || one >= numbers[i - 1]);
}
