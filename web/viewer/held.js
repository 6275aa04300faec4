/**
 * Verified bytes at hand: whole objects, and blocks of shards, fetched once.
 *
 * Every byte handed on was checked by `store`. Verified bytes are kept (64 MB at most, least
 * recently used first out), so that asking twice costs one request.
 */

import { BLOCK } from "./digests.js";
import { Damaged, GenerationExpired, Missing } from "./errors.js";
import { NONE, parse } from "./heads.js";
import { objectPath } from "./manifest.js";
import { merged, readPieces, VerifiedObject, WHOLE_BYTES } from "./store.js";

/** @typedef {import("./parts.js").ShardRow} ShardRow */
/** @typedef {import("./store.js").Range} Range */

/**
 * A shard, or without a prefix the pyramid, by content.
 *
 * @typedef {Pick<ShardRow, "sha256" | "length" | "blocks"> & {prefix?: string}} Stored
 */

export const CACHE_BYTES = 64 * 2 ** 20;

/**
 * Things by key, least recently used first out.
 *
 * @template T
 */
export class Cache {
  #limit;
  #held = 0;
  /** @type {Map<string, {item: T, size: number}>} */
  #items = new Map();

  /** @param {number} limit of the sizes together */
  constructor(limit) {
    this.#limit = limit;
  }

  /** @param {string} key @returns {T | undefined} */
  get(key) {
    const found = this.#items.get(key);
    if (!found) return undefined;
    this.#items.delete(key);
    this.#items.set(key, found);
    return found.item;
  }

  /** @param {string} key */
  has(key) {
    return this.#items.has(key);
  }

  /**
   * Keep a thing, unless it alone is over the limit.
   *
   * @param {string} key
   * @param {T} item
   * @param {number} size
   */
  put(key, item, size) {
    if (size > this.#limit) return;
    this.#held += size - (this.#items.get(key)?.size ?? 0);
    this.#items.delete(key);
    this.#items.set(key, { item, size });
    for (const [oldest, { size: freed }] of this.#items) {
      if (this.#held <= this.#limit) break;
      this.#items.delete(oldest);
      this.#held -= freed;
    }
  }
}

/** What a name stands for, made once; what failed is tried again. */
export class Once {
  /** @type {Map<string, Promise<any>>} */
  #made = new Map();

  /**
   * @template T
   * @param {string} name
   * @param {() => Promise<T>} make
   * @returns {Promise<T>}
   */
  get(name, make) {
    const held = this.#made.get(name);
    if (held) return held;
    const made = make();
    this.#made.set(name, made);
    made.catch(() => this.forget(name));
    return made;
  }

  /** @param {string} name */
  forget(name) {
    this.#made.delete(name);
  }
}

/** The bytes of one generation. */
export class Held {
  #store;
  /** @type {Cache<Uint8Array>} */
  #cache;
  #fetching = new Once();
  /** @type {Map<string, VerifiedObject>} Shards, which remember their outboards. */
  #files = new Map();

  /**
   * @param {import("./store.js").Store} store
   * @param {number} [cacheBytes]
   */
  constructor(store, cacheBytes = CACHE_BYTES) {
    this.#store = store;
    this.#cache = new Cache(cacheBytes);
  }

  /**
   * A whole object other than a shard.
   *
   * @param {Parameters<typeof objectPath>[0]} kind
   * @param {string} sha256
   * @param {number} length
   */
  object(kind, sha256, length) {
    return this.#whole(new VerifiedObject(this.#store, objectPath(kind, sha256), sha256, length));
  }

  /**
   * A whole shard, in one request.
   *
   * @param {Stored} shard
   */
  shard(shard) {
    return this.#whole(this.#file(shard));
  }

  /**
   * Whether a whole shard is at hand.
   *
   * @param {Stored} shard
   */
  has(shard) {
    return this.#cache.has(shard.sha256);
  }

  /**
   * Ranges of a shard, in as few requests as possible: what lies in them can then be read. What
   * the head of a shard holds takes no request of its own.
   *
   * @param {Stored} shard
   * @param {readonly Range[]} ranges
   * @returns {Promise<(start: number, end: number) => Uint8Array>}
   */
  async ranges(shard, ranges) {
    for (const [start, end] of ranges) {
      if (start >= 0 && start <= end && end <= shard.length) continue;
      const name = nameOf(shard);
      throw new Damaged(`${name}: expected ${shard.length} bytes, found a range to ${end}`);
    }
    const [few, file] = [this.has(shard) || shard.length <= WHOLE_BYTES, this.#file(shard)];
    const asked = ranges.reduce((sum, [start, end]) => sum + end - start, 0);
    const head = few || file.ratherWhole(asked) ? NONE : await this.#head(shard);
    const left = ranges.filter(([start, end]) => !head.get(start, end));
    const { found, missing } = few ? NOTHING : this.#blocks(shard, left);
    const wanted = missing.reduce((sum, [start, end]) => sum + end - start, 0);
    if (few || (wanted && file.ratherWhole(wanted))) {
      const whole = await this.shard(shard);
      return (start, end) => whole.subarray(start, end);
    }
    const bodies = missing.length ? await expiring(() => file.read(missing)) : [];
    missing.forEach(([start], run) => this.#keep(shard, found, start, bodies[run]));
    return (start, end) => head.get(start, end) ?? joined(shard, found, start, end);
  }

  /**
   * The head of a shard.
   *
   * @param {Stored} shard
   */
  async #head(shard) {
    // A pyramid has none: its digests are fetched beside its bytes.
    if (shard.prefix === undefined) return NONE;
    const [key, file] = [`${shard.sha256} head`, this.#file(shard)];
    let held = this.#cache.get(key);
    if (!held) {
      held = await this.#fetching.get(key, () => expiring(() => file.head()));
      this.#fetching.forget(key);
      this.#cache.put(key, held, held.length);
    }
    return parse(file.path, /** @type {Uint8Array<ArrayBuffer>} */ (held), shard.length);
  }

  /**
   * Pieces of an object other than a shard, those near each other in one request.
   *
   * @param {Parameters<typeof objectPath>[0]} kind
   * @param {string} sha256
   * @param {readonly import("./store.js").Piece[]} pieces
   * @returns {Promise<Uint8Array[]>}
   */
  async pieces(kind, sha256, pieces) {
    const keys = pieces.map(({ offset, length }) => `${sha256} ${offset}+${length}`);
    const found = keys.map((key) => this.#cache.get(key));
    const missing = pieces.filter((_, i) => !found[i]);
    const path = objectPath(kind, sha256);
    const bodies = missing.length
      ? await expiring(() => readPieces(this.#store, path, missing))
      : [];
    let fetched = 0;
    return keys.map((key, i) => {
      // A copy, so that what lay between is not kept.
      const data = found[i] ?? bodies[fetched++].slice();
      this.#cache.put(key, data, data.length);
      return data;
    });
  }

  /**
   * The blocks of ranges that are at hand, and the runs of those that are not.
   *
   * @param {Stored} shard
   * @param {readonly Range[]} ranges
   */
  #blocks(shard, ranges) {
    /** @type {Map<number, Uint8Array>} */
    const found = new Map();
    /** @type {Range[]} */
    const missing = [];
    for (const number of blockNumbers(ranges)) {
      const block = this.#cache.get(`${shard.sha256} ${number}`);
      if (block) found.set(number, block);
      else missing.push([number * BLOCK, Math.min((number + 1) * BLOCK, shard.length)]);
    }
    return { found, missing: merged(missing, WHOLE_BYTES) };
  }

  /**
   * @param {Stored} shard
   * @param {Map<number, Uint8Array>} found
   * @param {number} start
   * @param {Uint8Array} body
   */
  #keep(shard, found, start, body) {
    for (let at = 0; at < body.length; at += BLOCK) {
      const number = (start + at) / BLOCK;
      const block = body.slice(at, at + BLOCK);
      found.set(number, block);
      this.#cache.put(`${shard.sha256} ${number}`, block, block.length);
    }
  }

  /** @param {Stored} shard */
  #file({ sha256, prefix, length, blocks }) {
    const path = objectPath(prefix === undefined ? "pyramid" : "shard", sha256, prefix);
    const made = this.#files.get(sha256);
    const file = made ?? new VerifiedObject(this.#store, path, sha256, length, blocks);
    if (!made) this.#files.set(sha256, file);
    return file;
  }

  /** @param {VerifiedObject} object @returns {Promise<Uint8Array>} */
  async #whole(object) {
    const held = this.#cache.get(object.sha256);
    if (held) return held;
    const data = await this.#fetching.get(object.sha256, () => expiring(() => object.whole()));
    this.#fetching.forget(object.sha256);
    this.#cache.put(object.sha256, data, data.length);
    return data;
  }
}

/** @param {Stored} stored */
const nameOf = ({ sha256, prefix }) =>
  `${prefix === undefined ? "pyramid" : "shard"} ${sha256.slice(0, 12)}`;

/** @type {Readonly<{found: Map<number, Uint8Array>, missing: Range[]}>} */
const NOTHING = Object.freeze({ found: new Map(), missing: [] });

/**
 * A missing object of a pinned generation means that the generation was collected.
 *
 * @template T
 * @param {() => Promise<T>} fetch
 * @returns {Promise<T>}
 */
async function expiring(fetch) {
  try {
    return await fetch();
  } catch (error) {
    if (!(error instanceof Missing) || error instanceof GenerationExpired) throw error;
    throw new GenerationExpired(`generation expired, open the archive again: ${error.message}`);
  }
}

/**
 * Numbers of the blocks that ranges touch, ascending.
 *
 * @param {readonly Range[]} ranges
 */
function blockNumbers(ranges) {
  /** @type {Set<number>} */
  const found = new Set();
  for (const [start, end] of ranges) {
    for (let number = Math.floor(start / BLOCK); number * BLOCK < end; number++) found.add(number);
  }
  return [...found].sort((a, b) => a - b);
}

/**
 * @param {Stored} shard
 * @param {Map<number, Uint8Array>} blocks
 * @param {number} start
 * @param {number} end
 */
function joined(shard, blocks, start, end) {
  const out = new Uint8Array(end - start);
  for (let number = Math.floor(start / BLOCK); number * BLOCK < end; number++) {
    const block = blocks.get(number);
    if (!block) {
      throw new Damaged(`${nameOf(shard)}: expected no bytes but its columns'`);
    }
    const from = Math.max(0, start - number * BLOCK);
    const until = Math.min(block.length, end - number * BLOCK);
    out.set(block.subarray(from, until), number * BLOCK + from - start);
  }
  return out;
}
