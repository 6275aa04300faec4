/**
 * The one place where bytes are hashed: whole objects, and their 16 KiB blocks.
 *
 * An object's *outboard* is the first 16 bytes of the SHA-256 of each 16 KiB block, one after
 * another: 1/1024 of the object's length, enough to check any range rounded to blocks.
 */

import { Damaged } from "./errors.js";

export const BLOCK = 16_384;
export const DIGEST = 16;

/** @typedef {(data: Uint8Array<ArrayBuffer>) => Promise<Uint8Array>} Hash */

/** @type {Promise<Hash> | null} */
let chosen = null;

/**
 * SHA-256, 32 bytes. Pages that are not in a secure context have no `crypto.subtle`: they load
 * one of plain JavaScript.
 *
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Promise<Uint8Array>}
 */
async function digest(data) {
  chosen ??= chooseHash(globalThis.crypto?.subtle);
  return (await chosen)(data);
}

/**
 * @param {SubtleCrypto | undefined} subtle
 * @returns {Promise<Hash>}
 */
export async function chooseHash(subtle) {
  if (subtle) return async (data) => new Uint8Array(await subtle.digest("SHA-256", data));
  const { sha256 } = await import("./vendor/sha256.js");
  return async (data) => sha256(data);
}

/**
 * SHA-256 as 64 lower-case hex digits.
 *
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Promise<string>}
 */
export async function sha256(data) {
  return hex(await digest(data));
}

/**
 * The outboard of an object: 16 bytes per 16 KiB block, the last block may be short.
 *
 * @param {Uint8Array<ArrayBuffer>} data
 * @returns {Promise<Uint8Array>}
 */
export async function blockDigests(data) {
  const out = new Uint8Array(DIGEST * blockCount(data.length));
  const work = [];
  for (let block = 0; block * BLOCK < data.length; block++) {
    const bytes = data.subarray(block * BLOCK, (block + 1) * BLOCK);
    work.push(digest(bytes).then((full) => out.set(full.subarray(0, DIGEST), block * DIGEST)));
  }
  await Promise.all(work);
  return out;
}

/**
 * Blocks of an object of so many bytes.
 *
 * @param {number} length
 */
export function blockCount(length) {
  return Math.ceil(length / BLOCK);
}

/**
 * Throws Damaged unless the whole object has this length and SHA-256.
 *
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {string} expected
 * @param {number} length
 */
export async function checkObject(name, data, expected, length) {
  if (data.length !== length) {
    throw new Damaged(`${name}: expected ${length} bytes, found ${data.length}`);
  }
  await checkHash(name, data, expected);
}

/**
 * Throws Damaged unless the whole object has this SHA-256.
 *
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {string} expected
 */
export async function checkHash(name, data, expected) {
  const found = await sha256(data);
  if (found !== expected) {
    throw new Damaged(`${name}: expected sha256 ${expected}, found ${found}`);
  }
}

/**
 * Throws Damaged unless bytes [start, start + data.length) are what the outboard says.
 *
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} data whole blocks, or up to the end of the object
 * @param {number} start a multiple of 16 KiB
 * @param {Uint8Array} outboard
 * @param {number} objectLength
 */
export async function checkBlockRange(name, data, start, outboard, objectLength) {
  const expected = DIGEST * blockCount(objectLength);
  if (outboard.length !== expected) {
    throw new Damaged(
      `${name}: expected an outboard of ${expected} bytes, found ${outboard.length}`,
    );
  }
  const end = start + data.length;
  if (start % BLOCK || end > objectLength || (end % BLOCK && end !== objectLength)) {
    throw new Damaged(`${name}: expected whole 16 KiB blocks, found bytes ${start} to ${end}`);
  }
  const at = (DIGEST * start) / BLOCK;
  const found = await blockDigests(data);
  const bad = found.findIndex((byte, i) => byte !== outboard[at + i]);
  if (bad < 0) return;
  const block = Math.floor((at + bad) / DIGEST);
  const want = hex(outboard.subarray(block * DIGEST, (block + 1) * DIGEST));
  const have = hex(found.subarray(block * DIGEST - at, (block + 1) * DIGEST - at));
  throw new Damaged(`${name}: block ${block}: expected digest ${want}, found ${have}`);
}

/**
 * Throws Damaged unless a piece of an object has this digest, the first 16 bytes of its SHA-256.
 *
 * @param {string} name
 * @param {Uint8Array<ArrayBuffer>} data
 * @param {Uint8Array} expected
 */
export async function checkShort(name, data, expected) {
  const [want, have] = [hex(expected), hex((await digest(data)).subarray(0, DIGEST))];
  if (have !== want) throw new Damaged(`${name}: expected digest ${want}, found ${have}`);
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
