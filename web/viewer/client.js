/**
 * The page's side of the archive in its worker: calls that are answered with promises.
 */

import { EmbarchiveError, fromPlain } from "./errors.js";

/** @typedef {[west: number, south: number, east: number, north: number]} Box degrees */

/**
 * What an archive is, in plain values. datetimes: first and last, microseconds since 1970;
 * footprint: what its manifest parts cover; ndvi: whether it has the bands; decodes: whether tiles have
 * pictures; afar: whether it has a pyramid.
 *
 * @typedef {Readonly<{title: string, attribution: string, licence: string, generation: number,
 *   bounds: Box, footprint: readonly Box[], tiles: number, bands: readonly string[],
 *   gsd: number, precision: number, bits: number, datetimes: [number, number] | null,
 *   ndvi: boolean, decodes: boolean, afar: boolean}>} Summary
 */

/**
 * What names a row. datetime: microseconds since 1970, NaN without a date.
 *
 * @typedef {{geohash: string, datetime: number, source: string}} RowKey
 */

/**
 * A row as it is listed. valid: share of pixels that are data; score: squared distance in
 * embedding units, null when not ranked.
 *
 * @typedef {RowKey & {valid: number, score: number | null, bounds: Box}} Tile
 */

/**
 * A decoded row, cropped to its cell, RGBA. index: in the rows asked for; bytes: of the vector and of
 * the code of pixels that it was decoded from, and how many dates share the code.
 *
 * @typedef {{index: number, bytes: [vector: number, code: number, dates: number], width: number,
 *   height: number, pixels: Uint8ClampedArray<ArrayBuffer>}} Picture
 */

/** @typedef {{done: number, total: number, pictures?: Picture[]}} Step */
/** @typedef {{requests: number, bytes: number, rows: number}} Cost at most */

/**
 * @typedef {object} Ranking
 * @property {Tile[]} hits best first
 * @property {Tile[]} exemplars of like, then of unlike
 * @property {number} candidates rows that were ranked
 * @property {number} compared rows whose codes, bits or vectors were compared on the way there
 * @property {number} requests
 * @property {number} bytesRead
 * @property {number} seconds
 * @property {string} spaceId
 */

/**
 * What can be asked, and what is answered. Of `search` and `tiles` only the newest goes on; an
 * older one is rejected. The heat is that of the last search.
 *
 * @typedef {object} Verbs
 * @property {[args: {}, result: Summary]} open
 * @property {[args: {bbox?: readonly number[] | null, limit: number},
 *   result: {geohash: string[], more: boolean}]} cells
 * @property {[args: {bbox?: readonly number[] | null, datetime?: string | null, limit: number},
 *   result: {tiles: Tile[], more: boolean}]} tiles
 * @property {[args: import("./archive.js").Wanted, result: Cost]} cost
 * @property {[args: import("./archive.js").Wanted, result: Ranking]} search
 * @property {[args: {bbox: readonly number[], width: number, height: number},
 *   result: {pixels: Uint8ClampedArray<ArrayBuffer>}]} heat
 * @property {[args: {rows: readonly RowKey[], show: "colour" | "ndvi"},
 *   result: {decoded: number}]} pictures the pictures come in steps
 * @property {[args: {bbox: readonly number[], datetime?: string | null, limit: number,
 *   width: number, height: number, show: "colour" | "ndvi"},
 *   result: {pixels: Uint8ClampedArray<ArrayBuffer> | null, tiles: number, more: boolean}]} mosaic
 * @property {[args: import("./afar.js").View,
 *   result: {pixels: Uint8ClampedArray<ArrayBuffer> | null, level: number, cells: number}]} afar
 * @property {[args: {what: "listing" | "mosaic"}, result: {}]} stop what is under way
 */

/**
 * A worker, or the port of one.
 *
 * @typedef {object} Line
 * @property {(message: any, transfer?: any) => void} postMessage
 * @property {((event: any) => any) | null} onmessage
 * @property {((event: any) => any) | null} [onerror]
 * @property {() => void} [terminate]
 * @property {() => void} [close]
 */

/** @typedef {ReturnType<typeof connect>} Archive an archive as the page has it */

/**
 * The archive at a URL, through a worker that runs `worker.js`.
 *
 * @param {Line} worker
 * @param {URL | string} root
 */
export function connect(worker, root) {
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void,
   *   onProgress?: (step: Step) => void}>} */
  const waiting = new Map();
  let calls = 0;
  /** @type {Error | null} */
  let ended = null;

  const end = (/** @type {Error} */ error) => {
    ended = error;
    for (const { reject } of waiting.values()) reject(error);
    waiting.clear();
  };
  worker.onmessage = ({ data: { id, progress, error, result } }) => {
    const call = waiting.get(id);
    if (progress) return call?.onProgress?.(progress);
    waiting.delete(id);
    if (error) call?.reject(fromPlain(error));
    else call?.resolve(result);
  };
  worker.onerror = (event) => {
    const found = event.message || "a script that did not load";
    end(new EmbarchiveError(`worker: expected it to run, found ${found}`));
  };
  return Object.freeze({
    /**
     * Rejects with what the archive throws.
     *
     * @template {keyof Verbs} V
     * @param {V} verb
     * @param {Verbs[V][0]} args
     * @param {{onProgress?: (step: Step) => void}} [how]
     * @returns {Promise<Verbs[V][1]>}
     */
    call(verb, args, { onProgress } = {}) {
      return new Promise((resolve, reject) => {
        if (ended) return reject(ended);
        const id = ++calls;
        waiting.set(id, { resolve, reject, onProgress });
        worker.postMessage({ id, verb, args, root: String(root) });
      });
    },
    /** End the worker; what waits is rejected. */
    close() {
      end(new EmbarchiveError("worker: expected it to run, found it closed"));
      if (worker.terminate) worker.terminate();
      else worker.close?.();
    },
  });
}
