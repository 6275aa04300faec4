/**
 * The one door for bytes of objects: the store, and objects whose every byte is verified.
 */

import { BLOCK, checkBlockRange, checkHash, checkObject, checkShort } from "./digests.js";
import { BadInput, Damaged } from "./errors.js";
import { most, split } from "./heads.js";
import { Store } from "./httpstore.js";
import { objectPath } from "./manifest.js";

export { Store };

/**
 * @typedef {import("./httpstore.js").Range} Range
 * @typedef {import("./httpstore.js").Bytes} Bytes
 */

// One request costs about as much as these bytes on a good line: an object up to this size is
// fetched whole, and ranges of one that are no farther apart are fetched as one.
export const WHOLE_BYTES = 256 << 10;
// Pieces at most so many bytes apart are fetched together.
const GAP = 128 << 10;

/**
 * Bytes of an object with a digest of their own.
 *
 * @typedef {Readonly<{name: string, offset: number, length: number, digest: Uint8Array}>} Piece
 */

/**
 * One immutable object; whatever it returns was checked against its hash.
 *
 * Small objects, and large ones of which more than half is wanted at first, are fetched whole and
 * checked by SHA-256. Otherwise ranges are rounded to 16 KiB blocks, merged when they are at most
 * 256 KiB apart, and checked by the outboard, which is fetched once, with the head.
 */
export class VerifiedObject {
  #store;
  #blocks;
  /** @type {Promise<Bytes> | null} */
  #outboard = null;
  #headless = false;

  /**
   * @param {Store} store
   * @param {string} path
   * @param {string} sha256
   * @param {number} length
   * @param {string | null} [blocks] SHA-256 of its outboard
   */
  constructor(store, path, sha256, length, blocks = null) {
    this.path = path;
    this.sha256 = sha256;
    this.length = length;
    this.#store = store;
    this.#blocks = blocks;
  }

  /**
   * The whole object. Throws Damaged, Missing, StoreUnreachable.
   *
   * @returns {Promise<Bytes>}
   */
  whole() {
    return freshIfDamaged(async (fresh) => {
      const data = await this.#store.get(this.path, { length: this.length, fresh });
      await checkObject(this.path, data, this.sha256, this.length);
      return data;
    });
  }

  /**
   * Bytes of each range, in order. Throws as `whole`, and BadInput for a range outside it.
   *
   * @param {readonly Range[]} ranges
   * @returns {Promise<Bytes[]>}
   */
  async read(ranges) {
    const odd = ranges.find(([start, end]) => !(start >= 0 && start <= end && end <= this.length));
    if (odd) {
      throw new BadInput(
        `${this.path}: expected a range in 0-${this.length}, found ${odd.join("-")}`,
      );
    }
    const spans = coalesce(ranges, this.length);
    const total = spans.reduce((sum, [start, end]) => sum + end - start, 0);
    if (!total) return ranges.map(() => new Uint8Array(0));
    if (this.ratherWhole(total)) {
      const data = await this.whole();
      return ranges.map(([start, end]) => data.subarray(start, end));
    }
    // It is fetched again by itself where it is damaged.
    const digests = this.outboard();
    const bodies = await freshIfDamaged(async (fresh) => {
      const [outboard, found] = await Promise.all([
        digests,
        this.#store.getRanges(this.path, spans, { fresh }),
      ]);
      await Promise.all(
        found.map((body, i) =>
          checkBlockRange(this.path, body, spans[i][0], outboard, this.length),
        ),
      );
      return found;
    });
    return ranges.map((range) => cut(spans, bodies, range));
  }

  /**
   * Whether all of the object costs less than so many bytes in ranges: without digests at hand from
   * half of it on, with them where little else is left.
   *
   * @param {number} wanted
   */
  ratherWhole(wanted) {
    if (this.#blocks === null || this.length <= WHOLE_BYTES) return true;
    return wanted > (this.#outboard === null ? this.length / 2 : this.length - GAP);
  }

  /**
   * The digests of the object's blocks, verified by their own hash. Throws BadInput for an
   * object that has none.
   *
   * @returns {Promise<Bytes>}
   */
  async outboard() {
    this.#outboard ??= this.#fetchOutboard().then(([digests]) => digests);
    try {
      return await this.#outboard;
    } catch (error) {
      this.#outboard = null;
      throw error;
    }
  }

  /**
   * What follows the digests in the same object, verified with them; empty where nothing does. It
   * is not kept, the digests are. Throws as `outboard`.
   *
   * @returns {Promise<Bytes>}
   */
  async head() {
    if (this.#headless) return new Uint8Array(0);
    const [digests, head] = await this.#fetchOutboard();
    this.#outboard = Promise.resolve(digests);
    this.#headless = !head.length;
    return head;
  }

  async #fetchOutboard() {
    const blocks = this.#blocks;
    if (blocks === null) throw new BadInput(`${this.path}: expected an outboard, found none`);
    const path = objectPath("blocks", blocks);
    return freshIfDamaged(async (fresh) => {
      const data = await this.#store.get(path, { limit: most(this.length), fresh });
      await checkHash(path, data, blocks);
      return split(path, data, this.length);
    });
  }
}

/**
 * Pieces of one object, each checked by its digest. Throws Damaged, Missing, StoreUnreachable.
 *
 * @param {Store} store
 * @param {string} path
 * @param {readonly Piece[]} pieces
 * @returns {Promise<Bytes[]>}
 */
export function readPieces(store, path, pieces) {
  const ranges = pieces.map(
    ({ offset, length }) => /** @type {Range} */ ([offset, offset + length]),
  );
  const spans = merged(ranges, GAP);
  return freshIfDamaged(async (fresh) => {
    const bodies = await store.getRanges(path, spans, { fresh });
    const found = ranges.map((range) => cut(spans, bodies, range));
    await Promise.all(
      found.map((data, i) => checkShort(`${path}: ${pieces[i].name}`, data, pieces[i].digest)),
    );
    return found;
  });
}

/**
 * What is damaged may be so in the browser's cache alone, where it would stay: it is fetched once
 * more, past the cache.
 *
 * @template T
 * @param {(fresh: boolean) => Promise<T>} fetch
 * @returns {Promise<T>}
 */
async function freshIfDamaged(fetch) {
  try {
    return await fetch(false);
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    return fetch(true);
  }
}

/**
 * Ranges rounded outward to blocks (and the object's end), sorted, merged over gaps of at most
 * 256 KiB: what to ask for, one request each. Empty ranges ask for nothing.
 *
 * @param {readonly Range[]} ranges
 * @param {number} length
 * @returns {Range[]}
 */
export function coalesce(ranges, length) {
  const rounded = ranges
    .filter(([start, end]) => start < end)
    .map(([start, end]) => {
      const last = Math.min(Math.ceil(end / BLOCK) * BLOCK, length);
      return /** @type {Range} */ ([Math.floor(start / BLOCK) * BLOCK, last]);
    });
  return merged(rounded, WHOLE_BYTES);
}

/**
 * Ranges sorted, and those merged that are at most so many bytes apart.
 *
 * @param {readonly Range[]} ranges
 * @param {number} gap
 * @returns {Range[]}
 */
export function merged(ranges, gap) {
  /** @type {Range[]} */
  const spans = [];
  for (const [start, end] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const before = spans.at(-1);
    if (before && start - before[1] <= gap) before[1] = Math.max(before[1], end);
    else spans.push([start, end]);
  }
  return spans;
}

/**
 * @param {readonly Range[]} spans
 * @param {readonly Bytes[]} bodies
 * @param {Range} range
 */
function cut(spans, bodies, [start, end]) {
  const at = spans.findIndex(([first, last]) => first <= start && end <= last);
  return at < 0 ? new Uint8Array(0) : bodies[at].subarray(start - spans[at][0], end - spans[at][0]);
}
