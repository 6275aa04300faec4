/**
 * What a reader asks for: a place, a time, or both, checked once and tested exactly.
 *
 * A filter keeps a row when its cell's bounds intersect the box, its geohash starts with one of
 * the names given, and its date lies in the range, both ends included. A row without a date
 * only matches when no dates are asked for.
 */

import { BadInput } from "./errors.js";
import { boxMeets, cellBounds, checkGeohash } from "./grid.js";

/** @typedef {import("./grid.js").Box} Box */

/**
 * bbox: west > east across the antimeridian; geohash: full names or prefixes, sorted; start,
 * end: microseconds since 1970, both included; null or empty: no condition.
 *
 * @typedef {Readonly<{bbox: Box | null, geohash: readonly string[], start: number | null,
 *   end: number | null}>} Filter
 */

const DAY = 86_400_000_000;
const ISO = new RegExp(
  String.raw`^(\d{4})(-?)(\d\d)\2(\d\d)` +
    String.raw`(?:[T ](\d\d)(?::?(\d\d)(?::?(\d\d)(?:[.,](\d+))?)?)?` +
    String.raw`(Z|[+-]\d\d(?::?\d\d)?)?)?$`,
);

/**
 * A filter from what a visitor wrote. datetime: "A/B", "A/..", "../B", one day or instant; a
 * day as an end includes all of it. Throws BadInput.
 *
 * @param {{bbox?: ArrayLike<number> | null, geohash?: string | readonly string[] | null,
 *   datetime?: string | null}} [wanted]
 * @returns {Filter}
 */
export function makeFilter({ bbox = null, geohash = null, datetime = null } = {}) {
  const names = typeof geohash === "string" ? [geohash] : [...(geohash ?? [])];
  names.forEach(checkGeohash);
  const [start, end] = dates(datetime);
  return Object.freeze({
    bbox: bbox === null ? null : checkBbox(bbox),
    geohash: Object.freeze([...new Set(names)].sort()),
    start,
    end,
  });
}

/**
 * Whether dates are asked for.
 *
 * @param {Filter} wanted
 */
export function isDated(wanted) {
  return wanted.start !== null || wanted.end !== null;
}

/**
 * Whether there is no condition at all.
 *
 * @param {Filter} wanted
 */
export function isEverything(wanted) {
  return wanted.bbox === null && !wanted.geohash.length && !isDated(wanted);
}

/**
 * Start and end in microseconds, open sides infinite.
 *
 * @param {Filter} wanted
 * @returns {[start: number, end: number]}
 */
export function span(wanted) {
  return [wanted.start ?? -Infinity, wanted.end ?? Infinity];
}

/**
 * Four finite degrees, south <= north, frozen. Throws BadInput.
 *
 * @param {ArrayLike<number>} bbox
 * @returns {Box}
 */
function checkBbox(bbox) {
  const sides = Array.from(bbox);
  if (sides.length !== 4 || !sides.every((side) => Number.isFinite(side))) {
    throw new BadInput(`bbox: expected west south east north in degrees, found ${sides}`);
  }
  const [west, south, east, north] = sides;
  if (south > north || south < -90 || north > 90) {
    throw new BadInput(`bbox: expected -90 <= south <= north <= 90, found ${south} and ${north}`);
  }
  if (Math.abs(west) > 180 || Math.abs(east) > 180) {
    throw new BadInput(`bbox: expected longitudes in -180..180, found ${west} and ${east}`);
  }
  /** @type {Box} */
  const box = [west, south, east, north];
  Object.freeze(box);
  return box;
}

/**
 * Which rows match, one byte a row.
 *
 * @param {{geohash: readonly string[], datetime?: ArrayLike<number>}} rows datetime in
 *   microseconds, NaN for none; needed when the filter is dated
 * @param {Filter} wanted
 * @returns {Uint8Array}
 */
export function rowMask(rows, wanted) {
  const keep = new Uint8Array(rows.geohash.length);
  const [start, end] = span(wanted);
  const dated = isDated(wanted);
  const matches = cellTest(wanted);
  for (let i = 0; i < keep.length; i++) {
    if (!matches(rows.geohash[i])) continue;
    const when = dated ? /** @type {ArrayLike<number>} */ (rows.datetime)[i] : 0;
    keep[i] = !dated || (when >= start && when <= end) ? 1 : 0;
  }
  return keep;
}

/**
 * Whether a geohash is, or starts with, one of the names, and its cell meets the box. Remembers
 * the last cell, since a place has many dates.
 *
 * @param {Filter} wanted
 * @returns {(name: string) => boolean}
 */
function cellTest(wanted) {
  const names = new Set(wanted.geohash);
  const lengths = [...new Set(wanted.geohash.map((name) => name.length))];
  let last = "";
  let found = false;
  return (name) => {
    if (name === last) return found;
    last = name;
    found = !lengths.length || lengths.some((length) => names.has(name.slice(0, length)));
    found &&= wanted.bbox === null || boxMeets(cellBounds(name), wanted.bbox);
    return found;
  };
}

/**
 * Whether a box west south east north meets the filter's.
 *
 * @param {ArrayLike<number>} box
 * @param {Filter} wanted
 */
export function boxMatches(box, wanted) {
  return wanted.bbox === null || boxMeets(box, wanted.bbox);
}

/**
 * @typedef {{start: number, end: number, offset: boolean}} Moment first and last microsecond
 *   since 1970 (a day has many, an instant one), and whether the text names its offset
 */

/**
 * An ISO 8601 calendar date or date-time; UTC unless it says otherwise. null for other text.
 *
 * @param {string} text
 * @returns {Moment | null}
 */
export function parseMoment(text) {
  const match = ISO.exec(text);
  if (!match) return null;
  const [year, month, day, hour, minute, second] = [1, 3, 4, 5, 6, 7].map((i) => +(match[i] ?? 0));
  if (!isDay(year, month, day) || hour > 23 || minute > 59 || second > 59) return null;
  const shift = offsetMinutes(match[9] ?? "Z");
  if (shift === null) return null;
  const millis = new Date(0).setUTCFullYear(year, month - 1, day);
  const micros = Number((match[8] ?? "").slice(0, 6).padEnd(6, "0"));
  const start = millis * 1000 + ((hour * 60 + minute - shift) * 60 + second) * 1e6 + micros;
  const whole = match[5] === undefined;
  return { start, end: whole ? start + DAY - 1 : start, offset: match[9] !== undefined };
}

/**
 * @param {number} year
 * @param {number} month
 * @param {number} day
 */
function isDay(year, month, day) {
  if (year < 1 || month < 1 || month > 12 || day < 1) return false;
  const leap = year % 4 === 0 && (year % 100 !== 0 || year % 400 === 0);
  return day <= [31, leap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1];
}

/**
 * Minutes east of Greenwich; null for what is none.
 *
 * @param {string} text
 */
function offsetMinutes(text) {
  if (text === "Z") return 0;
  const hours = Number(text.slice(1, 3));
  const minutes = Number(text.slice(3).replace(":", ""));
  if (hours > 23 || minutes > 59) return null;
  return (text[0] === "-" ? -1 : 1) * (hours * 60 + minutes);
}

/**
 * @param {string | null} text
 * @returns {[start: number | null, end: number | null]}
 */
function dates(text) {
  if (text === null) return [null, null];
  if (typeof text !== "string") {
    throw new BadInput(`datetime: expected ISO 8601 such as 2023-08-15, found ${String(text)}`);
  }
  const slash = text.indexOf("/");
  const sides = slash < 0 ? [text, text] : [text.slice(0, slash), text.slice(slash + 1)];
  const start = side(sides[0])?.start ?? null;
  const end = side(sides[1])?.end ?? null;
  if (start !== null && end !== null && start > end) {
    throw new BadInput(`datetime: expected the start before the end, found ${text.slice(0, 80)}`);
  }
  return [start, end];
}

/**
 * @param {string} text
 * @returns {Moment | null}
 */
function side(text) {
  const plain = text.trim();
  if (plain === "" || plain === "..") return null;
  const moment = parseMoment(plain);
  if (moment) return moment;
  const found = JSON.stringify(plain.slice(0, 80));
  throw new BadInput(`datetime: expected ISO 8601 such as 2023-08-15, found ${found}`);
}
