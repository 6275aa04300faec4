/**
 * References to manifest parts, as a generation's JSON has them: in columns.
 */

import { Damaged } from "./errors.js";
import { parseMoment } from "./filters.js";
import { CELL, SHA } from "./parts.js";
import { brief, build, checkKeys, checkTypes } from "./strictjson.js";

/** @typedef {import("./parts.js").PartRef} PartRef */

const SHAPE = {
  sha256: "str",
  length: "int",
  rows: "int",
  shards: "int",
  geohash_min: "str",
  geohash_max: "str",
  bbox: "list",
  datetime_min: "str?",
  datetime_max: "str?",
  shard_bytes: "int",
};
const COLUMNS = Object.fromEntries(Object.keys(SHAPE).map((key) => [key, "list"]));
// Objects of older archives also have what the prefixes of their shards have in common.
const OLDER_SHAPE = { prefix: "str", ...SHAPE };
const PATTERNS = {
  prefix: new RegExp(`^$|${CELL.source}`),
  sha256: SHA,
  geohash_min: CELL,
  geohash_max: CELL,
};

/**
 * The references that columns hold, or the objects of older archives. Throws Damaged.
 *
 * @param {any} values a list a field, with a value a part; of bbox four numbers a part, one after
 *   the other
 * @param {string} name
 * @returns {readonly PartRef[]}
 */
export function parseParts(values, name) {
  const older = Array.isArray(values);
  const shape = older ? OLDER_SHAPE : SHAPE;
  const rows = older ? values : rowsOf(values, name);
  return Object.freeze(rows.map((row) => readPart(build(shape, row, name, PATTERNS), name)));
}

/**
 * @param {any} columns
 * @param {string} name
 * @returns {Record<string, any>[]}
 */
function rowsOf(columns, name) {
  checkKeys(COLUMNS, columns, name);
  checkTypes(COLUMNS, columns, name);
  const count = columns.sha256.length;
  for (const [key, values] of Object.entries(columns)) {
    const found = key === "bbox" ? Math.ceil(values.length / 4) : values.length;
    if (found !== count) {
      throw new Damaged(`${name}: expected ${key} of ${count} parts, found ${found}`);
    }
  }
  const { bbox, ...rest } = columns;
  return Array.from({ length: count }, (_, i) => {
    const pairs = Object.entries(rest).map(([key, values]) => [key, values[i]]);
    return { ...Object.fromEntries(pairs), bbox: bbox.slice(4 * i, 4 * i + 4) };
  });
}

/**
 * @param {Record<string, any>} values
 * @param {string} name
 * @returns {PartRef}
 */
function readPart({ prefix: _prefix, ...part }, name) {
  const sides = part.bbox;
  if (
    sides.length !== 4 ||
    !sides.every((/** @type {any} */ side) => Number.isFinite(side) && Math.abs(side) <= 180)
  ) {
    throw new Damaged(`${name}: expected bbox west south east north, found ${brief(sides)}`);
  }
  return /** @type {PartRef} */ (
    Object.freeze({
      ...part,
      bbox: Object.freeze([...sides]),
      datetime_min: readMoment(part.datetime_min, `${name} datetime_min`),
      datetime_max: readMoment(part.datetime_max, `${name} datetime_max`),
    })
  );
}

/**
 * @param {string | null} text
 * @param {string} name
 * @returns {number | null} microseconds since 1970
 */
function readMoment(text, name) {
  if (text === null) return null;
  const moment = parseMoment(text);
  if (!moment?.offset) {
    throw new Damaged(`${name}: expected ISO 8601 with its offset, found ${brief(text)}`);
  }
  return moment.start;
}
