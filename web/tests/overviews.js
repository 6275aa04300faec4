// The made overview of tests/golden/candidates.py, behind a reader as archives have one.

import { Overview } from "../viewer/overview.js";
import { Reader } from "../viewer/reader.js";
import { Store } from "../viewer/store.js";
import { fromBase64 } from "./codefiles.js";
import { bytesFetch, ROOT } from "./folders.js";
import { golden } from "./networks.js";

export const made = await golden("candidates");

/** @param {string} sha */
export const bytesOf = (sha) => fromBase64(made.objects[sha]);

/**
 * The overview, its objects by hash to be tampered with, and what was asked for.
 *
 * @param {number} [precision] letters of a cell
 */
export function openOverview(precision) {
  /** @type {Map<string, Uint8Array>} */
  const objects = new Map(Object.keys(made.objects).map((sha) => [sha, bytesOf(sha)]));
  const { fetch, asked } = bytesFetch((path) => objects.get(path.split(/[/.]/)[1]) ?? null);
  const reader = new Reader(new Store(ROOT, { fetch, deadline: 1 }), {
    dim: 12,
    bits: 0,
    precision,
  });
  return { overview: new Overview(reader, made.ref), reader, objects, asked };
}

/** @param {any} one of the made spaces */
export const spaceOf = ({ space_id, dim }) => /** @type {any} */ ({ space_id, dim });
