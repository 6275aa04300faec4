// Archives for tests: a folder, or objects in memory, behind a `fetch` that answers ranges.

import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

export const ROOT = "https://archive.test/";
export const DEMO = new URL("../../src/embarchive/demo/", import.meta.url);
const VIEWER = new URL("../viewer/", import.meta.url);

/** Bytes of the two programs. @param {string} name */
export const kernels = (name) => readFile(new URL(name, VIEWER));

/**
 * A `fetch` over a folder, and the paths that were asked for, with their ranges.
 *
 * @param {URL} folder
 * @param {{hook?: (path: string) => void | Promise<void>}} [options] hook: runs before an answer
 */
export function folderFetch(folder, { hook } = {}) {
  return bytesFetch(
    (path) => readFile(fileURLToPath(new URL(path, folder))).catch(() => null),
    hook,
  );
}

/**
 * A `fetch` over a function from paths to bytes, null where there is no object.
 *
 * @param {(path: string) => Promise<Uint8Array | null> | Uint8Array | null} bytesOf
 * @param {(path: string) => void | Promise<void>} [hook]
 */
export function bytesFetch(bytesOf, hook) {
  /** @type {string[]} */
  const asked = [];
  /** @type {any} */
  const fetch = async (/** @type {string} */ url, /** @type {RequestInit} */ { headers } = {}) => {
    const path = url.slice(ROOT.length);
    const range = new Headers(headers).get("range");
    asked.push(range ? `${path} ${range}` : path);
    await hook?.(path);
    const body = await bytesOf(path);
    if (!body) return new Response("", { status: 404 });
    if (!range) return new Response(new Uint8Array(body));
    const [start, end] = range.replace("bytes=", "").split("-").map(Number);
    const said = { "content-range": `bytes ${start}-${end}/${body.length}` };
    return new Response(new Uint8Array(body.slice(start, end + 1)), { status: 206, headers: said });
  };
  return { fetch: /** @type {typeof globalThis.fetch} */ (fetch), asked };
}
