/**
 * The head of a shard: copies of what every search of it asks first, beside its block digests.
 *
 * `blocks/<sha256>` is the digests, and of a shard a head may follow: uint32 count, as many pairs
 * of uint64 start and end, all little endian, then the bytes of these ranges, one after another.
 * The name of the object covers both, so that what is in a head needs no further check.
 */

import { blockCount, DIGEST } from "./digests.js";
import { Damaged } from "./errors.js";

/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

// Far beyond what writers make: the last bytes of a shard and a few narrow columns.
export const MAX_HEAD = 8 << 20;
const [COUNT_BYTES, RANGE_BYTES] = [4, 16];

/**
 * Bytes [start, end) of an object that are at hand.
 *
 * @typedef {Readonly<{spans: readonly (readonly [number, number, number])[],
 *   get: (start: number, end: number) => Bytes | null}>} Head
 *   spans: start, end, and where in the head they begin, ascending; get: null where the bytes
 *   are not all in one piece
 */

/** @type {Head} */
export const NONE = Object.freeze({ spans: [], get: () => null });

/**
 * Bytes that the digests of an object of this length, and a head, may have.
 *
 * @param {number} length
 */
export function most(length) {
  return DIGEST * blockCount(length) + MAX_HEAD;
}

/**
 * The digests of an object of this length, and its head: empty where it has none. Throws Damaged.
 *
 * @param {string} name
 * @param {Bytes} data
 * @param {number} length
 * @returns {[Bytes, Bytes]}
 */
export function split(name, data, length) {
  const size = DIGEST * blockCount(length);
  if (data.length < size) {
    throw new Damaged(`${name}: expected an outboard of ${size} bytes, found ${data.length}`);
  }
  // A copy, so that digests that are kept do not keep the head.
  return [data.slice(0, size), data.subarray(size)];
}

/**
 * The pieces of the head of an object of this length; of empty bytes none. Throws Damaged unless
 * the ranges ascend within the object, and are as long as the bytes behind them.
 *
 * @param {string} name
 * @param {Bytes} held
 * @param {number} length
 * @returns {Head}
 */
export function parse(name, held, length) {
  if (!held.length) return NONE;
  const view = new DataView(held.buffer, held.byteOffset, held.length);
  const count = held.length >= COUNT_BYTES ? view.getUint32(0, true) : 0;
  const body = COUNT_BYTES + RANGE_BYTES * count;
  if (!count || body > held.length) {
    throw new Damaged(`${name}: expected a head, found ${held.length} bytes for ${count} ranges`);
  }
  /** @type {(readonly [number, number, number])[]} */
  const spans = [];
  let [at, before] = [body, 0];
  for (let i = COUNT_BYTES; i < body; i += RANGE_BYTES) {
    const [low, high] = [view.getBigUint64(i, true), view.getBigUint64(i + 8, true)];
    if (!(before <= low && low < high && high <= length)) {
      throw new Damaged(
        `${name}: expected a head of ranges in ${before}-${length}, found ${low}-${high}`,
      );
    }
    const [start, end] = [Number(low), Number(high)];
    spans.push([start, end, at]);
    at += end - start;
    before = end;
  }
  if (at !== held.length) {
    throw new Damaged(`${name}: expected a head of ${at} bytes, found ${held.length}`);
  }
  return Object.freeze({
    spans,
    get(start, end) {
      const span = spans.find(([first, last]) => first <= start && start <= end && end <= last);
      return span ? held.subarray(span[2] + start - span[0], span[2] + end - span[0]) : null;
    },
  });
}
