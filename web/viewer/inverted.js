/**
 * The lists of an overview: where they lie, and what one holds. Pure.
 */

import { DIGEST } from "./digests.js";
import { Damaged } from "./errors.js";
import { ALPHABET } from "./grid.js";
import { checkNumbers, checkText, MAX_LENGTH, parseTable, rowsOf, SHA } from "./parts.js";

/**
 * One row of the index: a segment of a list, and where its bytes are. coarse: hash of the coarse
 * quantiser of its space.
 *
 * @typedef {Readonly<{space_id: string, list: number, file: string, file_length: number,
 *   offset: number, length: number, rows: number, digest: Uint8Array, coarse: string,
 *   coarse_length: number}>} Segment
 */

const SCHEMA = [
  "space_id string",
  "list int32",
  "file string",
  ...["file_length", "offset", "length", "rows"].map((name) => `${name} int64`),
  `digest fixed(${DIGEST})`,
  "coarse string",
  "coarse_length int64",
];
const SPACE = /^[0-9A-Za-z._-]{1,64}$/;
const MAX_ENTRIES = 2 ** 26;
/** @type {readonly [column: string, low: number, high: number][]} */
const LIMITS = [
  ["list", 0, 2 ** 20],
  ["file_length", 12, MAX_LENGTH],
  ["offset", 4, MAX_LENGTH],
  ["length", 2, MAX_ENTRIES],
  ["rows", 1, MAX_ENTRIES],
  ["coarse_length", 12, MAX_LENGTH],
];
/** What there is one of for each. @type {readonly (readonly [keyof Segment, keyof Segment])[]} */
const PAIRS = [
  ["space_id", "coarse"],
  ["coarse", "coarse_length"],
  ["file", "file_length"],
];

/**
 * An index, every value checked. Throws Damaged or UnknownVersion.
 *
 * @param {Uint8Array} data
 * @returns {Promise<Segment[]>}
 */
export async function parseIndex(data) {
  const { digest, ...columns } = await parseTable(data, "overview", SCHEMA, "overview");
  for (const column of ["file", "coarse"]) checkText(columns[column], "overview", column, SHA);
  checkText(columns.space_id, "overview", "space_id", SPACE);
  for (const [column, low, high] of LIMITS) {
    checkNumbers(columns[column], "overview", column, low, high);
  }
  const segments = rowsOf(columns).map((row, i) => {
    const own = digest.subarray(i * DIGEST, (i + 1) * DIGEST);
    return /** @type {Segment} */ (Object.freeze({ ...row, digest: own }));
  });
  if (segments.some(({ offset, length, file_length: end }) => offset + length > end)) {
    throw new Damaged("overview: expected lists inside their files, found one beyond");
  }
  for (const [key, of] of PAIRS) {
    const found = new Map(segments.map((one) => [one[key], one[of]]));
    if (segments.some((one) => found.get(one[key]) !== one[of])) {
      throw new Damaged(`overview: expected one ${of} for each ${key}, found several`);
    }
  }
  return segments;
}

/**
 * Codes (rows, width) and cells of a segment, these as numbers of 5 bits a letter. Throws Damaged.
 *
 * @param {Uint8Array} data
 * @param {number} rows
 * @param {number} width bytes of a code
 * @returns {{codes: Uint8Array, cells: BigUint64Array}}
 */
export function unpackSegment(data, rows, width) {
  const body = data.subarray(rows * width);
  const count = body.reduce((sum, byte) => sum + Number(byte < 128), 0);
  if (count !== rows) {
    throw new Damaged(`overview: expected ${rows} cells in a list, found ${count}`);
  }
  return { codes: data.subarray(0, rows * width), cells: sums(body, rows) };
}

/**
 * The name of a cell of a segment.
 *
 * @param {bigint} cell
 * @param {number} precision letters
 */
export function spell(cell, precision) {
  let name = "";
  // Six letters a turn, in plain numbers.
  for (let left = precision; left > 0;) {
    const some = Math.min(6, left);
    left -= some;
    const digits = Number((cell >> BigInt(5 * left)) & 0x3fffffffn);
    for (let at = some - 1; at >= 0; at--) name += ALPHABET[(digits >> (5 * at)) & 31];
  }
  return name;
}

/**
 * Sums of numbers so far, each of 7 bits a byte, the lowest first, 128 added to all but its last.
 *
 * @param {Uint8Array} body
 * @param {number} count
 */
function sums(body, count) {
  const found = new BigUint64Array(count);
  let [total, filled] = [0n, 0];
  // The first four bytes of a number, and what is above them.
  for (let at = 0, low = 0, high = 0, place = 0; at < body.length; at++) {
    const digit = body[at] & 127;
    if (place > 8) break;
    if (place < 4) low |= digit << (7 * place);
    else high += digit * 128 ** (place - 4);
    place += 1;
    if (body[at] > 127) continue;
    total += high ? (BigInt(high) << 28n) + BigInt(low) : BigInt(low);
    found[filled++] = total;
    low = high = place = 0;
  }
  if (filled === count && body[body.length - 1] < 128) return found;
  throw new Damaged("overview: expected cells of at most nine bytes, found others");
}
