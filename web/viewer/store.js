/**
 * The one door for bytes: an archive behind a URL, and objects whose every byte is verified.
 */

/** @typedef {[start: number, end: number]} Range bytes [start, end) */

/** Objects below a URL, read only. */
export class Store {
  /**
   * @param {URL | string} root
   * @param {{fetch?: typeof globalThis.fetch, deadline?: number}} [options] deadline: seconds
   *   for one operation, retries included
   */
  constructor(root, { fetch = globalThis.fetch, deadline = 30 } = {}) {
    this.root = String(root);
    this.requests = 0;
    this.bytesRead = 0;
    void fetch;
    void deadline;
  }

  /**
   * A whole object. Throws Missing, StoreUnreachable; Damaged when it is not `length` bytes or
   * more than `limit`.
   *
   * @param {string} path
   * @param {{length?: number, limit?: number}} [size]
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async get(path, { length, limit } = {}) {
    throw new Error(`not written yet ${path} ${length} ${limit}`);
  }

  /**
   * Bytes of each range, one request each, at most six at a time. Throws as `get`.
   *
   * @param {string} path
   * @param {readonly Range[]} ranges
   * @returns {Promise<Uint8Array<ArrayBuffer>[]>}
   */
  async getRanges(path, ranges) {
    throw new Error(`not written yet ${path} ${ranges}`);
  }
}

/** One immutable object; whatever it returns was checked against its hash. */
export class VerifiedObject {
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
    void store;
    void blocks;
  }

  /**
   * The whole object. Throws Damaged, Missing, StoreUnreachable.
   *
   * @returns {Promise<Uint8Array<ArrayBuffer>>}
   */
  async whole() {
    throw new Error("not written yet");
  }

  /**
   * Bytes of each range, in order. Throws as `whole`, and BadInput for a range outside it.
   *
   * @param {readonly Range[]} ranges
   * @returns {Promise<Uint8Array<ArrayBuffer>[]>}
   */
  async read(ranges) {
    throw new Error(`not written yet ${ranges}`);
  }
}
