/**
 * What a query will read, decided before anything is read: parts, shards, row groups.
 *
 * Pure: from the generation's part references to the parts to fetch, from their rows to the
 * shards, from a shard's footer to its row groups. Every step keeps too much rather than too
 * little; `filters.rowMask` is the exact test at the end.
 */

import { boxMatches, isDated, isEverything, span } from "./filters.js";
import { groupLimits } from "./shards.js";
import { WHOLE_BYTES } from "./store.js";

/** @typedef {import("./filters.js").Filter} Filter */
/** @typedef {import("./parts.js").ShardRow} ShardRow */
/** @typedef {import("./parquet.js").FileMetaData} FileMetaData */

/**
 * What pruning looks at; part references and shard rows both have it.
 *
 * @typedef {{geohash_min: string, geohash_max: string, bbox: readonly number[],
 *   datetime_min: number | null, datetime_max: number | null}} Extent
 */

/**
 * How one shard is read. whole: in one request; otherwise its outboard with the head first, then
 * runs of its row groups. requests: as expected; runs far apart, and a shard without a head, can
 * add some.
 *
 * @typedef {Readonly<{shard: ShardRow, whole: boolean, requests: number}>} ShardRead
 */

/**
 * The shards of one query in geohash order. requests: expected; bytes: at most so many.
 *
 * @typedef {Readonly<{reads: readonly ShardRead[], requests: number, bytes: number,
 *   rows: number}>} ReadPlan
 */

// Beyond this number of requests for one query, the smaller shards are fetched whole, as long
// as they stay under these bytes together.
const FEW_REQUESTS = 6;
const AFFORDED_BYTES = 16 * 2 ** 20;
// Cells up to which their rows are read by pages.
export const FEW_CELLS = 128;
// Digests with the head, and columns as one run of blocks. Shards written without a head take one
// more, for the footer: the manifest does not say which are.
export const RANGED = 2;

/**
 * The part references or shards that can hold a matching row, in the given order.
 *
 * @template {Extent} T
 * @param {readonly T[]} candidates
 * @param {Filter} wanted
 * @returns {T[]}
 */
export function choose(candidates, wanted) {
  if (isEverything(wanted)) return [...candidates];
  return candidates.filter(
    (one) => boxMatches(one.bbox, wanted) && extentNamesMeet(one, wanted) && datesMeet(one, wanted),
  );
}

/**
 * Which shards to read, and how, for a filter within one space (null: every space).
 *
 * @param {readonly ShardRow[]} shards
 * @param {Filter} wanted
 * @param {string | null} [spaceId]
 * @returns {ReadPlan}
 */
export function readPlan(shards, wanted, spaceId = null) {
  const ours = shards.filter((one) => spaceId === null || one.space_id === spaceId);
  const chosen = choose(ours.sort(byGeohash), wanted);
  // Of a few cells each shard has a row or two: pages, however many requests that makes.
  const few = chosen.length > 0 && fewCells(wanted, chosen[0].geohash_min.length);
  const whole = few ? smallShards(chosen) : wholeShards(chosen);
  return planOf(
    chosen.map((shard) => {
      const all = whole.has(shard.sha256);
      return Object.freeze({ shard, whole: all, requests: all ? 1 : RANGED });
    }),
  );
}

/**
 * The plan for one who wants nearly every column: shards that lie within the box are fetched
 * whole at once.
 *
 * @param {ReadPlan} plan
 * @param {Filter} wanted
 * @returns {ReadPlan}
 */
export function wholeWithin({ reads }, { bbox }) {
  return planOf(
    reads.map((read) => {
      const inside = !bbox || isWithin(read.shard.bbox, bbox);
      return inside ? Object.freeze({ ...read, whole: true, requests: 1 }) : read;
    }),
  );
}

/**
 * Whether a box lies within another that does not cross the antimeridian.
 *
 * @param {readonly number[]} box
 * @param {readonly number[]} whole
 */
export function isWithin([west, south, east, north], whole) {
  return west >= whole[0] && south >= whole[1] && east <= whole[2] && north <= whole[3];
}

/**
 * Reads with their sums.
 *
 * @param {readonly ShardRead[]} reads
 * @returns {ReadPlan}
 */
export function planOf(reads) {
  const sum = (/** @type {(read: ShardRead) => number} */ of) =>
    reads.reduce((total, read) => total + of(read), 0);
  return Object.freeze({
    reads: Object.freeze([...reads]),
    requests: sum((read) => read.requests),
    bytes: sum((read) => read.shard.length),
    rows: sum((read) => read.shard.rows),
  });
}

/**
 * Row groups whose statistics on geohash, datetime and bbox allow a match.
 *
 * @param {FileMetaData} metadata
 * @param {Filter} wanted
 * @returns {number[]}
 */
export function rowGroups(metadata, wanted) {
  const groups = [...metadata.groups.keys()];
  return isEverything(wanted) ? groups : groups.filter((g) => groupMeets(metadata, g, wanted));
}

/**
 * Whether some name between low and high, both included, is or starts with one of the sorted
 * names.
 *
 * @param {readonly string[]} names
 * @param {string} low
 * @param {string} high
 */
export function namesMeet(names, low, high) {
  const found = names[bisect(names, low)];
  if (found !== undefined && found <= high) return true;
  // A name before low can only reach into the range as a prefix of low itself.
  for (let length = 1; length < low.length; length++) {
    const start = low.slice(0, length);
    if (names[bisect(names, start)] === start) return true;
  }
  return false;
}

/**
 * Whether a filter names so few cells that single pages of a shard hold their rows.
 *
 * @param {Filter} wanted
 * @param {number} precision letters of a cell
 */
export function fewCells({ geohash: names }, precision) {
  const cells = names.every((name) => name.length === precision);
  return names.length > 0 && names.length <= FEW_CELLS && cells;
}

/**
 * The shards that ranges would not save anything of.
 *
 * @param {readonly ShardRow[]} chosen
 */
function smallShards(chosen) {
  return new Set(chosen.filter((one) => one.length <= WHOLE_BYTES).map((one) => one.sha256));
}

/**
 * Which shards to fetch in one request each.
 *
 * @param {readonly ShardRow[]} chosen
 * @returns {Set<string>}
 */
function wholeShards(chosen) {
  const whole = smallShards(chosen);
  const rest = chosen.filter((one) => !whole.has(one.sha256)).sort(bySize);
  let requests = RANGED * rest.length + whole.size;
  let spent = 0;
  for (const one of rest) {
    spent += one.length;
    if (requests <= FEW_REQUESTS || spent > AFFORDED_BYTES) break;
    whole.add(one.sha256);
    requests -= RANGED - 1;
  }
  return whole;
}

/**
 * @param {ShardRow} a
 * @param {ShardRow} b
 */
function byGeohash(a, b) {
  return (
    compare(a.geohash_min, b.geohash_min) ||
    compare(a.geohash_max, b.geohash_max) ||
    compare(a.sha256, b.sha256)
  );
}

/**
 * @param {ShardRow} a
 * @param {ShardRow} b
 */
function bySize(a, b) {
  return a.length - b.length || compare(a.sha256, b.sha256);
}

/**
 * @param {string} a
 * @param {string} b
 */
function compare(a, b) {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The position of the first name that is not before `name`.
 *
 * @param {readonly string[]} names
 * @param {string} name
 */
function bisect(names, name) {
  let low = 0;
  let high = names.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (names[middle] < name) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * @param {Extent} one
 * @param {Filter} wanted
 */
function extentNamesMeet(one, wanted) {
  return !wanted.geohash.length || namesMeet(wanted.geohash, one.geohash_min, one.geohash_max);
}

/**
 * @param {Extent} one
 * @param {Filter} wanted
 */
function datesMeet(one, wanted) {
  if (!isDated(wanted)) return true;
  if (one.datetime_min === null || one.datetime_max === null) return false;
  const [start, end] = span(wanted);
  return one.datetime_max >= start && one.datetime_min <= end;
}

/**
 * @param {FileMetaData} metadata
 * @param {number} group
 * @param {Filter} wanted
 */
function groupMeets(metadata, group, wanted) {
  const limits = groupLimits(metadata, group);
  const names = limits.geohash;
  if (names && wanted.geohash.length && !namesMeet(wanted.geohash, names[0], names[1])) {
    return false;
  }
  if (isDated(wanted) && limits.datetime) {
    const [start, end] = span(wanted);
    if (limits.datetime[1] < start || limits.datetime[0] > end) return false;
  }
  const sides = Object.entries({ xmin: -180, ymin: -90, xmax: 180, ymax: 90 });
  const box = sides.map(([side, edge], at) => limits[`bbox.${side}`]?.[at < 2 ? 0 : 1] ?? edge);
  return boxMatches(box, wanted);
}
