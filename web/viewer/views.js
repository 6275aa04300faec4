/**
 * What lies in a view: its cells, and the first places of it; no more is read than that takes.
 * And what an archive covers, in boxes to draw.
 */

import { chooseRow, parse } from "./exemplars.js";
import { makeFilter } from "./filters.js";
import { isWithin, planOf } from "./reads.js";
import { merge, take } from "./rows.js";
import { ORDER } from "./shards.js";

/** @typedef {import("./archive.js").Archive} Archive */
/** @typedef {import("./filters.js").Filter} Filter */
/** @typedef {import("./grid.js").Box} Box */
/** @typedef {import("./reader.js").Watch} Watch */
/** @typedef {import("./reads.js").ShardRead} ShardRead */
/** @typedef {import("./rows.js").Table} Table */

// The manifest parts of so few are read to tell which half of the world their shards lie in.
const FEW_PARTS = 4;

/**
 * What an archive covers: one box around all, west > east where that is the smaller one, and boxes
 * of its parts. A part on both sides of the antimeridian says -180 to 180; its shards know better.
 *
 * @param {Archive} archive
 * @returns {Promise<{bounds: Box, footprint: Box[]}>}
 */
export async function extentOf(archive) {
  const { parts } = archive.generation;
  const plain = { bounds: archive.bounds, footprint: parts.map((part) => part.bbox) };
  const [west, south, east, north] = plain.bounds;
  if (east - west <= 180 || parts.length > FEW_PARTS) return plain;
  const boxes = (await archive.shards(makeFilter())).map((shard) => shard.bbox);
  const [from, to] = arcOf(boxes);
  if (from <= to) return plain;
  const halves = [boxes.filter((box) => box[0] >= from), boxes.filter((box) => box[0] < from)];
  return { bounds: [from, south, to, north], footprint: halves.map(around) };
}

/**
 * West and east of the shortest arc that holds all boxes; west > east across the antimeridian.
 *
 * @param {readonly (readonly number[])[]} boxes none of which crosses it
 * @returns {[west: number, east: number]}
 */
export function arcOf(boxes) {
  const sorted = [...boxes].sort((a, b) => a[0] - b[0]);
  let east = Math.max(...sorted.map((box) => box[2]));
  let west = sorted[0][0];
  let widest = west + 360 - east;
  let reached = sorted[0][2];
  for (const box of sorted) {
    if (box[0] - reached > widest) [widest, west, east] = [box[0] - reached, box[0], reached];
    reached = Math.max(reached, box[2]);
  }
  return [west, east];
}

/** The box around boxes. @param {readonly (readonly number[])[]} boxes @returns {Box} */
function around(boxes) {
  const side = (/** @type {number} */ i) => boxes.map((box) => box[i]);
  const [west, south] = [Math.min(...side(0)), Math.min(...side(1))];
  return [west, south, Math.max(...side(2)), Math.max(...side(3))];
}

/**
 * Distinct cells that meet a box, from the geohash column alone; none where there are certainly
 * more than `limit`.
 *
 * @param {Archive} archive
 * @param {{bbox?: readonly number[] | null, limit: number}} wanted
 * @param {Watch} [watch]
 * @returns {Promise<{geohash: string[], more: boolean}>}
 */
export async function cellsOf(archive, { bbox = null, limit }, watch) {
  const filter = makeFilter({ bbox });
  const { reads } = await archive.plan(filter);
  const inside = reads.filter(({ shard }) => !bbox || isWithin(shard.bbox, bbox));
  const { places, tiles } = archive.generation;
  // Places have more or less dates: twice as many as drawn are surely too many.
  if (planOf(inside).rows * (places / Math.max(tiles, 1)) > 2 * limit) {
    return { geohash: [], more: true };
  }
  const rows = await untilMore(archive, reads, limit, filter, [], watch);
  const geohash = [...new Set(rows.geohash)];
  return { geohash: geohash.slice(0, limit), more: geohash.length > limit };
}

/**
 * The first places that match, of each its latest good date.
 *
 * @param {Archive} archive
 * @param {{bbox?: readonly number[] | null, datetime?: string | null, limit: number}} wanted
 * @param {Watch} [watch]
 * @returns {Promise<{rows: Table, more: boolean}>}
 */
export async function placesOf(archive, { bbox = null, datetime = null, limit }, watch) {
  const filter = makeFilter({ bbox, datetime });
  const { reads } = await archive.plan(filter);
  const rows = await untilMore(archive, reads, limit, filter, ["valid_fraction"], watch);
  const chosen = standingRows(rows, limit + 1);
  return { rows: take(rows, chosen.subarray(0, limit)), more: chosen.length > limit };
}

/**
 * Rows in geohash order, shard by shard, until more than `limit` places are complete.
 *
 * @param {Archive} archive
 * @param {readonly ShardRead[]} reads
 * @param {number} limit
 * @param {Filter} filter
 * @param {string[]} columns
 * @param {Watch} [watch]
 */
async function untilMore(archive, reads, limit, filter, columns, watch) {
  let rows = merge([], [...ORDER, ...columns]);
  for (let at = 0; at < reads.length && new Set(rows.geohash).size <= limit;) {
    const some = reads.slice(at, nextPlace(reads, at)).map((read) => ({ ...read, whole: false }));
    const next = await archive.reader.rows(planOf(some), filter, columns, watch);
    rows = merge([rows, next], [...ORDER, ...columns]);
    at += some.length;
  }
  return rows;
}

/**
 * The first read after `at` that has no place in common with those before it.
 *
 * @param {readonly ShardRead[]} reads
 * @param {number} at
 */
function nextPlace(reads, at) {
  let high = reads[at].shard.geohash_max;
  while (++at < reads.length && reads[at].shard.geohash_min <= high) {
    if (reads[at].shard.geohash_max > high) high = reads[at].shard.geohash_max;
  }
  return at;
}

/**
 * The row that stands for each of the first places.
 *
 * @param {Table} rows sorted
 * @param {number} limit
 */
function standingRows(rows, limit) {
  /** @type {number[]} */
  const chosen = [];
  for (let start = 0, end = 0; start < rows.n && chosen.length < limit; start = end) {
    const name = rows.geohash[start];
    while (rows.geohash[end] === name) end++;
    const own = take(
      rows,
      Int32Array.from({ length: end - start }, (_, i) => start + i),
    );
    chosen.push(start + chooseRow(own, parse(name, name.length)));
  }
  return Int32Array.from(chosen);
}
