/** A fake `fetch` over a folder or a Map, with faults on request. */

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const GOLDEN = fileURLToPath(new URL("../../tests/golden/", import.meta.url));
export const DEMO = fileURLToPath(new URL("../../src/embarchive/demo/", import.meta.url));
const ROOT = "http://archive.test/data";
const PIECE = 10_000;

/** @param {string} topic */
export function golden(topic) {
  return JSON.parse(readFileSync(join(GOLDEN, `${topic}.json`), "utf8"));
}

/** @param {string} path */
export function bytesOf(path) {
  return new Uint8Array(readFileSync(path));
}

/**
 * @typedef {"status" | "network" | "hang" | "drip" | "cut" | "short" | "long" | "empty" | "flip" |
 *   "full" | "shifted" | "mislabelled" | "unlabelled" | "encoded" | "redirect" | "followed" |
 *   "partial"} Kind
 */

/**
 * A server of the files below a folder, or of a Map of paths.
 *
 * @param {string | Map<string, Uint8Array>} files
 */
export function serve(files) {
  /** @type {{part: string, kind: Kind, times: number, status: number}[]} */
  const faults = [];
  const server = {
    root: ROOT,
    /** @type {{path: string, range: string | null, cache: string}[]} */
    seen: [],
    /** Bytes that were pulled from bodies. */
    sent: 0,
    /** Requests that are being answered, now and at most. */
    open: 0,
    most: 0,
    /**
     * The next `times` requests whose path holds `part` meet the fault.
     *
     * @param {string} part
     * @param {Kind} kind
     * @param {number} [times]
     * @param {number} [status]
     */
    break_(part, kind, times = 1, status = 503) {
      faults.push({ part, kind, times, status });
    },
    /**
     * @param {string | URL | Request} url
     * @param {RequestInit} [init]
     */
    async fetch(url, init = {}) {
      const path = String(url).slice(ROOT.length + 1);
      const range = new Headers(init.headers).get("Range");
      server.seen.push({ path, range, cache: init.cache ?? "default" });
      const fault = faults.find(({ part, times }) => times > 0 && path.includes(part));
      if (fault) fault.times -= 1;
      server.open += 1;
      server.most = Math.max(server.most, server.open);
      await new Promise((done) => setTimeout(done, 1));
      try {
        return await answer(server, held(files, path), range, fault, init.signal ?? null);
      } finally {
        server.open -= 1;
      }
    },
  };
  return server;
}

/**
 * @param {string | Map<string, Uint8Array>} files
 * @param {string} path
 */
function held(files, path) {
  if (typeof files !== "string") return files.get(path);
  try {
    return bytesOf(join(files, path));
  } catch {
    return undefined;
  }
}

/**
 * @param {{sent: number}} server
 * @param {Uint8Array | undefined} data
 * @param {string | null} range
 * @param {{kind: Kind, status: number} | undefined} fault
 * @param {AbortSignal | null} signal
 */
async function answer(server, data, range, fault, signal) {
  const kind = fault?.kind;
  if (kind === "network" || kind === "redirect") throw new TypeError("fetch failed");
  if (kind === "hang") await aborted(signal);
  if (kind === "status") return new Response("no", { status: fault?.status });
  if (!data) return new Response("no such file", { status: 404 });
  const span = /^bytes=(\d+)-(\d+)$/.exec(range ?? "");
  const [start, end] = span ? [Number(span[1]), Number(span[2]) + 1] : [0, data.length];
  const body = kind === "full" ? data : bent(data, start, Math.min(end, data.length), kind);
  /** @type {Record<string, string>} */
  const headers = { "Content-Range": `bytes ${start}-${end - 1}/${data.length}` };
  if (kind === "mislabelled") headers["Content-Range"] = `bytes ${start + 1}-${end}/${data.length}`;
  if (kind === "encoded") headers["Content-Encoding"] = "gzip";
  const whole = !span || kind === "full";
  if (whole || kind === "unlabelled") delete headers["Content-Range"];
  const status = kind === "partial" ? 206 : whole ? 200 : 206;
  const found = new Response(streamed(server, body, kind, signal), { status, headers });
  if (kind === "followed") Object.defineProperty(found, "redirected", { value: true });
  return found;
}

/**
 * @param {Uint8Array} data
 * @param {number} start
 * @param {number} end
 * @param {Kind | undefined} kind
 */
function bent(data, start, end, kind) {
  const body = data.slice(start, end);
  if (kind === "flip") body[body.length >> 1] ^= 4;
  if (kind === "short") return body.subarray(0, body.length >> 1);
  if (kind === "empty") return body.subarray(0, 0);
  if (kind === "shifted") return data.slice(start + 1, end + 1);
  if (kind !== "long") return body;
  const more = new Uint8Array(body.length + 5_000_000);
  more.set(body);
  return more;
}

/**
 * @param {{sent: number}} server
 * @param {Uint8Array} body
 * @param {Kind | undefined} kind
 * @param {AbortSignal | null} signal
 */
function streamed(server, body, kind, signal) {
  let at = 0;
  return new ReadableStream(
    {
      async pull(controller) {
        if (kind === "drip" && at > 0) await aborted(signal);
        if (kind === "cut" && at > 0) throw new TypeError("terminated");
        if (at >= body.length) return controller.close();
        const piece = body.slice(at, at + (kind === "cut" || kind === "drip" ? 10 : PIECE));
        at += piece.length;
        server.sent += piece.length;
        controller.enqueue(piece);
      },
    },
    { highWaterMark: 0 },
  );
}

/** @param {AbortSignal | null} signal */
function aborted(signal) {
  return new Promise((_, refuse) => {
    signal?.addEventListener("abort", () => refuse(new DOMException("aborted", "AbortError")));
  });
}
