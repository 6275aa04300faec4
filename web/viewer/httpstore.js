/**
 * An archive behind `http(s)://`, read only.
 *
 * Any static server that answers byte ranges will do. A redirect is an error, a body must be the
 * range that was asked for, and all that is harmless to repeat is repeated within the deadline.
 */

import { BadInput, Damaged, Missing, StoreUnreachable } from "./errors.js";
import { POINTER } from "./manifest.js";
import { brief } from "./strictjson.js";

/** @typedef {[start: number, end: number]} Range bytes [start, end) */
/** @typedef {Uint8Array<ArrayBuffer>} Bytes */

const PATH = /^[A-Za-z0-9._=-]+(?:\/[A-Za-z0-9._=-]+)*$/;
// What browsers keep open to one host: more would wait there, and their time would run.
const IN_FLIGHT = 6;
const RETRIED = [0, 408, 429, 500, 502, 503, 504];
// Bytes a second that a body must keep up after half the deadline.
const SLOWEST = 64 << 10;
const NO_RANGES = "a server without range requests (`embarchive serve` has them)";
const NO_ANSWER = "no connection, a redirect, or a server that does not let this page read it";

/** No usable answer. status: of HTTP, 0 when there was none; worth repeating are RETRIED. */
class Fault extends Error {
  /**
   * @param {string} reason
   * @param {number} [status]
   */
  constructor(reason, status = 0) {
    super(reason);
    this.status = status;
  }
}

/** Objects below a URL, read only. */
export class Store {
  #fetch;
  #deadline;
  #running = 0;
  /** @type {(() => void)[]} */
  #waiting = [];

  /**
   * @param {URL | string} root
   * @param {{fetch?: typeof globalThis.fetch, deadline?: number}} [options] deadline: seconds
   *   for one request, retries included; a body that arrives has longer
   */
  constructor(root, { fetch = globalThis.fetch, deadline = 30 } = {}) {
    this.root = plainUrl(root);
    /** Requests so far, attempts included. */
    this.requests = 0;
    this.bytesRead = 0;
    this.#fetch = fetch;
    this.#deadline = deadline;
  }

  /**
   * A whole object. Throws Missing, StoreUnreachable; Damaged when it is not `length` bytes or
   * more than `limit`.
   *
   * @param {string} path
   * @param {{length?: number, limit?: number, fresh?: boolean}} [how] fresh: not from the
   *   browser's cache
   * @returns {Promise<Bytes>}
   */
  get(path, { length, limit, fresh = false } = {}) {
    const most = length ?? limit ?? Infinity;
    return this.#retrying(path, () => this.#read(path, null, length ?? null, most, fresh));
  }

  /**
   * Bytes of each range, one request each, at most six at a time. Throws as `get`.
   *
   * @param {string} path
   * @param {readonly Range[]} ranges
   * @param {{fresh?: boolean}} [how]
   * @returns {Promise<Bytes[]>}
   */
  async getRanges(path, ranges, { fresh = false } = {}) {
    const odd = ranges.find(([start, end]) => !(start >= 0 && start < end));
    if (odd) throw new BadInput(`${path}: expected ranges with 0 <= start < end, found ${odd}`);
    return Promise.all(
      ranges.map((span) => {
        const length = span[1] - span[0];
        return this.#retrying(path, () => this.#read(path, span, length, length, fresh));
      }),
    );
  }

  /**
   * One attempt.
   *
   * @param {string} path
   * @param {Range | null} span
   * @param {number | null} length of the body
   * @param {number} most
   * @param {boolean} fresh
   * @returns {Promise<Bytes>}
   */
  async #read(path, span, length, most, fresh) {
    const control = new AbortController();
    const until = new Until(this.#deadline / 2, () => control.abort());
    const fetch = this.#fetch;
    try {
      const answer = await fetch(`${this.root}/${path}`, {
        headers: span ? { Range: `bytes=${span[0]}-${span[1] - 1}` } : {},
        cache: fresh ? "reload" : path === POINTER ? "no-cache" : "default",
        redirect: "error",
        signal: control.signal,
      });
      checkAnswer(path, answer, span);
      return await this.#collect(path, answer, length, most, until);
    } catch (error) {
      if (error instanceof Fault || error instanceof Damaged || error instanceof Missing)
        throw error;
      throw new Fault(control.signal.aborted ? "a time-out" : NO_ANSWER);
    } finally {
      until.clear();
      // Of an answer that was refused no more is fetched.
      control.abort();
    }
  }

  /**
   * The body, given up as soon as it is too long.
   *
   * @param {string} path
   * @param {Response} answer
   * @param {number | null} length
   * @param {number} most
   * @param {Until} until
   */
  async #collect(path, answer, length, most, until) {
    /** @type {Uint8Array[]} */
    const chunks = [];
    let held = 0;
    const reader = answer.body?.getReader();
    while (reader) {
      const { value, done } = await reader.read();
      if (done) break;
      chunks.push(value);
      held += value.length;
      this.bytesRead += value.length;
      until.extend(value.length / SLOWEST);
      if (held > most) {
        throw new Damaged(`${path}: expected a body of ${most} bytes, found ${held} or more`);
      }
    }
    if (length !== null && held !== length) {
      throw new Damaged(`${path}: expected a body of ${length} bytes, found ${held}`);
    }
    return joined(chunks, held);
  }

  /**
   * Repeat what is harmless to repeat. No attempt begins in the second half of the deadline.
   *
   * @param {string} path
   * @param {() => Promise<Bytes>} attempt
   */
  async #retrying(path, attempt) {
    if (!PATH.test(path) || path.split("/").some((part) => part === "." || part === "..")) {
      throw new BadInput(`object path: expected letters, digits, . _ = - /, found ${brief(path)}`);
    }
    await this.#slot();
    try {
      const began = performance.now();
      for (let pause = 50; ; pause = Math.min(pause * 2, 5000)) {
        this.requests += 1;
        try {
          return await attempt();
        } catch (error) {
          const late = performance.now() - began + pause > this.#deadline * 500;
          this.#check(path, error, pause, late);
        }
        await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random() / 2)));
      }
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#running -= 1;
    }
  }

  /**
   * Throws unless the attempt is worth another one.
   *
   * @param {string} path
   * @param {unknown} error
   * @param {number} pause
   * @param {boolean} late
   */
  #check(path, error, pause, late) {
    // A body may be cut or replaced under way; what stays so is damaged.
    if (error instanceof Damaged && (pause > 100 || late)) throw error;
    if (error instanceof Missing) {
      throw new Missing(`${this.root}/${path}: expected it there, found none`);
    }
    if (error instanceof Fault && (late || !RETRIED.includes(error.status))) {
      const within = `expected an answer within ${this.#deadline} s`;
      throw new StoreUnreachable(`${this.root}/${path}: ${within}, found ${error.message}`);
    }
  }

  async #slot() {
    if (this.#running < IN_FLIGHT) this.#running += 1;
    else await new Promise((/** @type {(value: void) => void} */ go) => this.#waiting.push(go));
  }
}

/** A moment that is put off while bytes arrive. */
class Until {
  /**
   * @param {number} seconds
   * @param {() => void} act
   */
  constructor(seconds, act) {
    this.at = performance.now() + seconds * 1000;
    this.act = act;
    this.timer = setTimeout(() => this.#due(), seconds * 1000);
  }

  /** @param {number} seconds */
  extend(seconds) {
    this.at += seconds * 1000;
  }

  clear() {
    clearTimeout(this.timer);
  }

  #due() {
    const left = this.at - performance.now();
    if (left <= 0) this.act();
    else this.timer = setTimeout(() => this.#due(), left);
  }
}

/**
 * @param {string} path
 * @param {Response} answer
 * @param {Range | null} span
 */
function checkAnswer(path, answer, span) {
  const { status, headers } = answer;
  if (status === 404 || status === 410) throw new Missing(path);
  if (answer.redirected || (status >= 300 && status < 400)) {
    throw new Fault("a redirect, which is not followed", status || 302);
  }
  if (status !== 200 && status !== 206) throw new Fault(`HTTP ${status}`, status);
  if (!span) {
    if (status !== 200) throw new Damaged(`${path}: expected HTTP 200, found ${status}`);
    return;
  }
  if (status !== 206) throw new Fault(NO_RANGES, status);
  const encoding = headers.get("Content-Encoding") ?? "identity";
  if (encoding !== "identity")
    throw new Fault(`a range in the encoding ${brief(encoding)}`, status);
  const said = headers.get("Content-Range");
  // Another site's server may not show it to the page; its digests say the same.
  if (said === null && answer.type === "cors") return;
  const expected = `bytes ${span[0]}-${span[1] - 1}`;
  if (!said?.startsWith(`${expected}/`) || !/\/(?:\d+|\*)$/.test(said)) {
    throw new Damaged(`${path}: expected ${expected}, found ${brief(said)}`);
  }
}

/**
 * @param {readonly Uint8Array[]} chunks
 * @param {number} length
 */
function joined(chunks, length) {
  const out = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    out.set(chunk, at);
    at += chunk.length;
  }
  return out;
}

/**
 * The URL without a final slash. Throws BadInput, without repeating it, for one that carries a
 * user, password, query or fragment.
 *
 * @param {URL | string} root
 */
function plainUrl(root) {
  if (!URL.canParse(root)) throw new BadInput("archive: expected an http(s):// URL, found another");
  const { protocol, host, pathname, username, password, search, hash } = new URL(root);
  const plain = `${protocol}//${host}${pathname}`.replace(/\/+$/, "");
  if (protocol !== "http:" && protocol !== "https:") {
    throw new BadInput(`archive: expected an http(s):// URL, found ${protocol.slice(0, 20)}`);
  }
  if (username || password || search || hash) {
    throw new BadInput(`${plain}: expected a URL without user, password, query or fragment`);
  }
  return plain;
}
