/**
 * The pyramid: mean embeddings of coarser cells, level by level, as one Parquet table.
 */

import { Damaged, UnknownVersion } from "./errors.js";
import { boxMatches } from "./filters.js";
import { cellBounds } from "./grid.js";
import { checkSchema, stampOf } from "./leaves.js";
import { readMetadata } from "./parquet.js";
import { CELL, SHA } from "./parts.js";
import { groupLimits } from "./shards.js";
import { brief } from "./strictjson.js";

/** @typedef {import("./leaves.js").FileMetaData} FileMetaData */

/**
 * The table by content. level: the finest; blocks: SHA-256 of its outboard.
 *
 * @typedef {Readonly<{sha256: string, length: number, footer_length: number, rows: number,
 *   level: number, blocks: string}>} PyramidRef
 */

/**
 * Cells of one level of a space, sorted. mean: n * dim, in 256ths of an int8 step; first, last:
 * dates in microseconds since 1970, NaN where no row has one.
 *
 * @typedef {Readonly<{n: number, geohash: readonly string[], count: Float64Array,
 *   mean: Int16Array, model_id: readonly string[], first: Float64Array,
 *   last: Float64Array}>} Cells
 */

export const VERSION = 1;
/** Means are in parts of an int8 step, so many a step. */
export const FINE = 256;
export const CELL_COLUMNS = Object.freeze(
  "space_id level geohash count mean model_id datetime_min datetime_max".split(" "),
);
const SCHEMA = Object.freeze([
  "space_id string",
  "level int8",
  "geohash string",
  ...["xmin", "ymin", "xmax", "ymax"].map((side) => `bbox.${side} float`),
  "count int64",
  "mean.list.element int16 list",
  "model_id string",
  "datetime_min timestamp?",
  "datetime_max timestamp?",
]);
const GROUP_ROWS = 512;
const MAX_FILE = 256 << 20;
const MAX_FOOTER = 4 << 20;
const FINEST = 11;
const MAX_COUNT = 2 ** 40;

/**
 * Throws Damaged for a reference that no table can have.
 *
 * @param {PyramidRef} ref
 */
export function checkRef(ref) {
  const { length, footer_length: footer, level } = ref;
  if (!(footer >= 12 && footer <= Math.min(length, MAX_FOOTER)) || length > MAX_FILE) {
    const found = `${footer} of ${length} bytes`;
    throw new Damaged(`${nameOf(ref)}: expected a footer within the file, found ${found}`);
  }
  if (!(level >= 1 && level <= FINEST)) {
    throw new Damaged(`${nameOf(ref)}: expected a level of 1 to ${FINEST}, found ${level}`);
  }
}

/**
 * The metadata in a table's last bytes, checked against the schema, the manifest and our own
 * limits. Throws Damaged or UnknownVersion.
 *
 * @param {Uint8Array} tail
 * @param {number} dim
 * @param {PyramidRef} ref
 * @returns {FileMetaData}
 */
export function parsePyramid(tail, dim, ref) {
  const name = nameOf(ref);
  const metadata = readMetadata(tail, name);
  const { kind, version } = stampOf(metadata);
  if (kind !== "pyramid") {
    throw new Damaged(`${name}: expected an embarchive pyramid, found another Parquet file`);
  }
  if (version !== VERSION) {
    throw new UnknownVersion(`${name}: expected version ${VERSION}, found ${brief(version)}`);
  }
  checkSchema(metadata, SCHEMA);
  const { rows, groups, leaves } = metadata;
  if (rows !== ref.rows) throw new Damaged(`${name}: expected ${ref.rows} rows, found ${rows}`);
  const limit = GROUP_ROWS * (8 * dim + 1024);
  if (
    groups.some((group) => !(group.rows >= 1 && group.rows <= GROUP_ROWS && group.bytes <= limit))
  )
    throw new Damaged(`${name}: expected row groups of 1 to ${GROUP_ROWS} rows, found others`);
  const at = leaves.findIndex((leaf) => leaf.path[0] === "mean");
  if (groups.some((group) => group.chunks[at].values !== group.rows * dim)) {
    throw new Damaged(`${name}: expected means of ${dim} numbers, found others`);
  }
  return metadata;
}

/**
 * Row groups that are of a space and level by their statistics.
 *
 * @param {FileMetaData} metadata
 * @param {string} spaceId
 * @param {number} level
 * @returns {number[]}
 */
export function groupsOf(metadata, spaceId, level) {
  return [...metadata.groups.keys()].filter((group) => {
    const { space_id: spaces, level: levels } = groupLimits(metadata, group);
    const isOf = (/** @type {[any, any] | undefined} */ limits, /** @type {any} */ one) =>
      limits?.[0] === one && limits?.[1] === one;
    return isOf(spaces, spaceId) && isOf(levels, level);
  });
}

/**
 * Columns as cells, every value checked; those that meet a filter's box. Throws Damaged.
 *
 * @param {Record<string, any>} columns
 * @param {PyramidRef} ref
 * @param {{spaceId: string, level: number, wanted: import("./filters.js").Filter}} of
 * @returns {Cells}
 */
export function readCells(columns, ref, { spaceId, level, wanted }) {
  const { space_id: spaces, level: levels, geohash, count, mean, model_id: models } = columns;
  const { datetime_min: first, datetime_max: last } = columns;
  /** @type {number[]} */
  const kept = [];
  geohash.forEach((/** @type {string} */ name, /** @type {number} */ row) => {
    const good =
      spaces[row] === spaceId &&
      levels[row] === level &&
      name.length === level &&
      CELL.test(name) &&
      (row === 0 || geohash[row - 1] < name) &&
      count[row] >= 1 &&
      count[row] < MAX_COUNT &&
      (models[row] === "" || SHA.test(models[row]));
    if (!good) {
      const found = brief([spaces[row], levels[row], name, count[row]]);
      throw new Damaged(
        `${nameOf(ref)}: expected cells of ${level} letters in order, found ${found}`,
      );
    }
    if (boxMatches(cellBounds(name), wanted)) kept.push(row);
  });
  const dim = geohash.length ? mean.length / geohash.length : 0;
  const means = new Int16Array(kept.length * dim);
  kept.forEach((row, at) => means.set(mean.subarray(row * dim, (row + 1) * dim), at * dim));
  const pick = (/** @type {any} */ column) => kept.map((row) => column[row]);
  return Object.freeze({
    n: kept.length,
    geohash: pick(geohash),
    count: Float64Array.from(pick(count)),
    mean: means,
    model_id: pick(models),
    first: Float64Array.from(pick(first)),
    last: Float64Array.from(pick(last)),
  });
}

/** @param {PyramidRef} ref */
function nameOf({ sha256 }) {
  return `pyramid ${sha256.slice(0, 12)}`;
}
