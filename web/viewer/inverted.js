/**
 * The lists of an overview: where they lie, and what one holds. Pure.
 */

import { DIGEST } from "./digests.js";
import { Damaged } from "./errors.js";
import { ALPHABET } from "./grid.js";
import { unzstd } from "./parquet.js";
import { checkNumbers, checkText, MAX_LENGTH, parseTable, rowsOf, SHA } from "./parts.js";

/**
 * One row of the index: a segment of a list, and where its bytes are. coarse: hash of the coarse
 * quantiser of its space.
 *
 * @typedef {Readonly<{space_id: string, list: number, file: string, file_length: number,
 *   offset: number, length: number, rows: number, digest: Uint8Array, coarse: string,
 *   coarse_length: number}>} Segment
 */

/**
 * Cells as numbers of 5 bits a letter: the last six letters, and those before.
 *
 * @typedef {Readonly<{high: Uint32Array, low: Uint32Array}>} Cells
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
const MAX_CODES = 2 ** 28;
// Letters of half a cell, and how many such halves there are.
const HALF = 6;
const UNIT = 32 ** HALF;
const LETTERS = [...ALPHABET];
const TWO_LETTERS = LETTERS.flatMap((one) => LETTERS.map((other) => one + other));
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
  checkApart(segments);
  for (const [key, of] of PAIRS) {
    const found = new Map(segments.map((one) => [one[key], one[of]]));
    if (segments.some((one) => found.get(one[key]) !== one[of])) {
      throw new Damaged(`overview: expected one ${of} for each ${key}, found several`);
    }
  }
  return segments;
}

/**
 * Throws Damaged where lists of a file overlap: a short index could name the same bytes so often
 * that they unpack to more than there is memory.
 *
 * @param {readonly Segment[]} segments
 */
function checkApart(segments) {
  /** @type {Map<string, Segment[]>} */
  const files = new Map();
  for (const one of segments) {
    const held = files.get(one.file);
    if (held) held.push(one);
    else files.set(one.file, [one]);
  }
  for (const own of files.values()) {
    own.sort((a, b) => a.offset - b.offset);
    const at = own.findIndex((one, i) => i && own[i - 1].offset + own[i - 1].length > one.offset);
    if (at < 0) continue;
    const [a, b] = [own[at - 1], own[at]].map(
      ({ offset, length }) => `${offset}-${offset + length}`,
    );
    throw new Damaged(
      `overview: expected lists beside each other, found bytes ${a} and ${b} of one file`,
    );
  }
}

/**
 * Codes of a segment, by columns (dim, rows), and its cells. Throws Damaged.
 *
 * @param {Uint8Array} data
 * @param {number} rows
 * @param {number} dim
 * @param {number} precision letters of a cell
 * @returns {{codes: Int8Array, cells: Cells}}
 */
export function unpackSegment(data, rows, dim, precision) {
  const start = 4 + data.subarray(0, 4).reduceRight((sum, byte) => sum * 256 + byte, 0);
  const codes = unpacked(data.subarray(4, start), rows * dim);
  const body = data.subarray(start);
  let count = 0;
  for (let at = 0; at < body.length; at++) if (body[at] < 128) count += 1;
  if (count !== rows) {
    throw new Damaged(`overview: expected ${rows} cells in a list, found ${count}`);
  }
  return { codes, cells: sums(body, rows, precision) };
}

/**
 * @param {Uint8Array} packed
 * @param {number} count
 */
function unpacked(packed, count) {
  if (count > MAX_CODES) {
    throw new Damaged(`overview: expected at most ${MAX_CODES} numbers a list, found ${count}`);
  }
  try {
    return new Int8Array(unzstd(packed, count).buffer);
  } catch {
    throw new Damaged(`overview: expected ${count} packed numbers, found others`);
  }
}

/**
 * The name of a cell.
 *
 * @param {number} high
 * @param {number} low
 * @param {number} precision letters
 */
export function spell(high, low, precision) {
  const name = precision > HALF ? spellHalf(high) + spellHalf(low) : spellHalf(low);
  return name.slice(name.length - precision);
}

/** @param {number} digits */
function spellHalf(digits) {
  return (
    TWO_LETTERS[digits >> 20] + TWO_LETTERS[(digits >> 10) & 1023] + TWO_LETTERS[digits & 1023]
  );
}

/**
 * Sums of numbers so far, each of 7 bits a byte, the lowest first, 128 added to all but its last.
 *
 * @param {Uint8Array} body
 * @param {number} count
 * @param {number} precision
 * @returns {Cells}
 */
function sums(body, count, precision) {
  const found = { high: new Uint32Array(count), low: new Uint32Array(count) };
  let [high, low, filled] = [0, 0, 0];
  // The first four bytes of a number, and what is above them.
  for (let at = 0, first = 0, rest = 0, place = 0; at < body.length; at++) {
    const digit = body[at] & 127;
    if (place > 8) break;
    if (place < 4) first |= digit << (7 * place);
    else rest += digit * 128 ** (place - 4);
    place += 1;
    if (body[at] > 127) continue;
    low += first + (rest % 4) * 2 ** 28;
    high += Math.floor(rest / 4);
    if (low >= UNIT) {
      low -= UNIT;
      high += 1;
    }
    found.high[filled] = high;
    found.low[filled++] = low;
    first = rest = place = 0;
  }
  if (filled !== count || body[body.length - 1] > 127) {
    throw new Damaged("overview: expected cells of at most nine bytes, found others");
  }
  const [highs, lows] = precision > HALF ? [32 ** (precision - HALF), UNIT] : [1, 32 ** precision];
  if (high < highs && low < lows) return found;
  throw new Damaged(`overview: expected cells below ${32 ** precision} in a list, found others`);
}
