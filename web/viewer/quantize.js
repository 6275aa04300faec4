/**
 * SimHash bits of int8 vectors, and the one definition of their distances.
 *
 * All of it is integer arithmetic, so that it agrees with Python to the last bit.
 */

import { BadInput, Damaged } from "./errors.js";
import { kernel } from "./kernels.js";

const MAX_BITS = 65_536;
const KEYS = "bits,dim,offsets,planes";
const BASE64 = /^[A-Za-z0-9+/]*={0,2}$/;

/** @typedef {{start: number, end: number}} Block bytes of the kernel's memory */

/** The blocks in use, by where they start. @type {Block[]} */
const blocks = [];

/** n codes of `width` bytes, in the memory where their distances are computed. */
export class Codes {
  /** @type {Block | null} */
  #block;
  #query;
  #out;

  /**
   * @param {number} n
   * @param {number} width bytes
   */
  constructor(n, width) {
    if (!Number.isSafeInteger(n) || n < 0 || !Number.isSafeInteger(width) || width < 1) {
      throw new BadInput(`codes: expected a count and a width, found ${n} and ${width}`);
    }
    this.n = n;
    this.width = width;
    // Codes, 16 bytes that may be read after the last, the query and its zeros, distances.
    this.#query = sixteens(n * width) + 16;
    this.#out = this.#query + sixteens(width) + 16;
    this.#block = take(sixteens(this.#out + 2 * n));
  }

  /** The codes, one after another, to fill; making other codes voids the view. */
  get bytes() {
    return kernel("hamming").bytes(this.#start, this.n * this.width);
  }

  /**
   * Differing bits between each code and the query.
   *
   * @param {Uint8Array} query
   * @param {Uint16Array} [found] where to put them: a fresh array of a million costs more than
   *   counting
   * @returns {Uint16Array}
   */
  distances(query, found = new Uint16Array(this.n)) {
    if (query.length !== this.width) {
      throw new BadInput(`codes: expected a query of ${this.width} bytes, found ${query.length}`);
    }
    const memory = kernel("hamming");
    const codes = this.#start;
    const [at, out] = [codes + this.#query, codes + this.#out];
    memory.bytes(at, out - at).fill(0);
    memory.bytes(at, this.width).set(query);
    memory.steps.distances(codes, this.n, this.width, at, out);
    found.set(memory.shorts(out, this.n));
    return found;
  }

  /** Give the memory back. */
  free() {
    if (this.#block) blocks.splice(blocks.indexOf(this.#block), 1);
    this.#block = null;
  }

  get #start() {
    if (!this.#block) throw new BadInput("codes: expected codes in use, found them freed");
    return this.#block.start;
  }
}

/**
 * Exact squared distances of int8 rows (n, dim) to one.
 *
 * @param {Int8Array} q
 * @param {Int8Array} p
 * @param {number} dim
 * @returns {Int32Array}
 */
export function squaredL2(q, p, dim) {
  if (p.length !== dim || q.length % dim) {
    throw new BadInput(`distance: expected vectors of ${dim}, found ${p.length} and ${q.length}`);
  }
  const found = new Int32Array(q.length / dim);
  for (let row = 0, at = 0; row < found.length; row++) {
    let sum = 0;
    for (let i = 0; i < dim; i++, at++) sum += (q[at] - p[i]) * (q[at] - p[i]);
    found[row] = sum;
  }
  return found;
}

/**
 * Exact squared distances of int8 rows by columns (dim, n) to one row.
 *
 * @param {Int8Array} q
 * @param {Int8Array} p (dim)
 * @returns {Int32Array}
 */
export function squaredL2Columns(q, p) {
  if (!p.length || q.length % p.length) {
    throw new BadInput(`distance: expected columns of ${p.length}, found ${q.length} numbers`);
  }
  const found = new Int32Array(q.length / p.length);
  for (let i = 0, at = 0; i < p.length; i++) {
    const one = p[i];
    for (let row = 0; row < found.length; row++, at++) {
      const gap = q[at] - one;
      found[row] += gap * gap;
    }
  }
  return found;
}

/** Bits of an int8 vector: bit b is 1 where planes[b] . q > offsets[b]. */
export class SimHash {
  /**
   * @param {Int8Array} planes (bits, dim)
   * @param {Int32Array} offsets (bits)
   */
  constructor(planes, offsets) {
    this.planes = planes;
    this.offsets = offsets;
    this.dim = planes.length / offsets.length;
    Object.freeze(this);
  }

  /** How many bits a vector gets. */
  get bits() {
    return this.offsets.length;
  }

  /**
   * Codes of int8 rows (n, dim); bit b is in byte b / 8, highest first.
   *
   * @param {Int8Array} q
   * @returns {Uint8Array}
   */
  encode(q) {
    const { dim, bits } = this;
    if (q.length % dim) throw new BadInput(`simhash: expected rows of ${dim}, found ${q.length}`);
    const found = new Uint8Array((q.length / dim) * (bits / 8));
    for (let i = 0; i < found.length * 8; i++) {
      const row = q.subarray(Math.floor(i / bits) * dim);
      if (this.#product(row, i % bits) > this.offsets[i % bits]) found[i >> 3] |= 128 >> (i & 7);
    }
    return found;
  }

  /**
   * @param {Int8Array} row
   * @param {number} bit
   */
  #product(row, bit) {
    let sum = 0;
    for (let i = 0, at = bit * this.dim; i < this.dim; i++, at++) sum += row[i] * this.planes[at];
    return sum;
  }
}

/**
 * The SimHash of a space, of `dim` numbers to `bits` bits. Throws Damaged unless every value is
 * what it must be.
 *
 * @param {any} values
 * @param {number} dim
 * @param {number} bits
 * @returns {SimHash}
 */
export function simHashFromJson(values, dim, bits) {
  const keys = values && typeof values === "object" ? Object.keys(values).sort().join() : "none";
  if (keys !== KEYS) throw new Damaged(`simhash: expected keys ${KEYS}, found ${keys}`);
  const { offsets, planes } = values;
  if (values.dim !== dim || values.bits !== bits || bits % 8 || bits > MAX_BITS) {
    const found = `${values.bits} bits of ${values.dim}`;
    throw new Damaged(`simhash: expected ${bits} bits of ${dim} numbers, found ${found}`);
  }
  if (!Array.isArray(offsets) || offsets.length !== bits) {
    throw new Damaged(`simhash: expected ${bits} offsets`);
  }
  if (!offsets.every((offset) => Number.isInteger(offset) && offset === (offset | 0))) {
    throw new Damaged("simhash: expected offsets that are 32-bit integers");
  }
  return new SimHash(planesFromText(planes, bits * dim), Int32Array.from(offsets));
}

/**
 * @param {unknown} text base64
 * @param {number} length
 */
function planesFromText(text, length) {
  if (typeof text !== "string" || text.length !== 4 * Math.ceil(length / 3) || !BASE64.test(text)) {
    throw new Damaged(`simhash: expected ${length} bytes of planes in base64`);
  }
  const found = Int8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  if (found.length === length) return found;
  throw new Damaged(`simhash: expected ${length} bytes of planes, found ${found.length}`);
}

/**
 * Room in the kernel's memory, in the first gap that is large enough.
 *
 * @param {number} length a multiple of 16
 * @returns {Block}
 */
function take(length) {
  const memory = kernel("hamming");
  let [start, at] = [memory.start, 0];
  while (at < blocks.length && blocks[at].start - start < length) start = blocks[at++].end;
  const block = { start, end: start + length };
  memory.reach(block.end);
  blocks.splice(at, 0, block);
  return block;
}

/** @param {number} length */
function sixteens(length) {
  return Math.ceil(length / 16) * 16;
}
