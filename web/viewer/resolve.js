/**
 * Exemplars to rows, read from an archive.
 */

import { PLACE } from "./codes.js";
import { BadInput, Damaged } from "./errors.js";
import { chooseRow, nearestCell } from "./exemplars.js";
import { makeFilter } from "./filters.js";
import { center } from "./grid.js";
import { planOf } from "./reads.js";
import { concat, take } from "./rows.js";

/** @typedef {import("./archive.js").Archive} Archive */
/** @typedef {import("./exemplars.js").Place} Place */
/** @typedef {import("./parts.js").ShardRow} ShardRow */
/** @typedef {import("./reads.js").ReadPlan} ReadPlan */
/** @typedef {import("./reader.js").Watch} Watch */
/** @typedef {import("./rows.js").Table} Table */

const COLUMNS = Object.freeze(["embedding", "model_id", "valid_fraction"]);
const ALL = Object.freeze(["geohash", "datetime", "source", ...COLUMNS, "shard", "at"]);

/**
 * The rows that stand for places in a space, in their order. also: the reads of the search that
 * follows, so that shards which both need are fetched the same way. Throws BadInput.
 *
 * @param {Archive} archive
 * @param {readonly Place[]} places
 * @param {string} spaceId
 * @param {ReadPlan} also
 * @param {Watch} [watch]
 * @returns {Promise<Table>}
 */
export async function exemplarsOf(archive, places, spaceId, also, watch) {
  const wanted = filterOf(places);
  const plan = sharedPlan(await archive.plan(wanted, spaceId), also);
  const rows = await archive.reader.rows(plan, wanted, COLUMNS, watch);
  const found = [];
  for (const place of places) {
    const own = ofPlace(rows, place.geohash);
    if (!own.n) throw await noSuchPlace(archive, place, spaceId);
    found.push(take(own, Int32Array.of(chooseRow(own, place))));
  }
  return concat(found, ALL);
}

/**
 * The rows, each with the stream that it decodes from: those whose stream stands in the row of another
 * date of their place get that row's. Throws Damaged where there is none.
 *
 * @param {Archive} archive
 * @param {Table} rows
 * @returns {Promise<Table>}
 */
export async function wholeCodes(archive, rows) {
  const code = rows.code?.slice();
  if (!code) return rows;
  for (const { space_id: space } of archive.generation.spaces.filter(({ together }) => together)) {
    const empty = code.flatMap((one, row) =>
      one?.length === 0 && rows.shard[row].space_id === space ? [row] : [],
    );
    if (!empty.length) continue;
    const wanted = makeFilter({ geohash: empty.map((row) => rows.geohash[row]) });
    const plan = await archive.plan(wanted, space);
    const found = await archive.reader.rows(plan, wanted, ["code"]);
    /** @type {Map<string, Uint8Array>} */
    const streams = new Map();
    found.code?.forEach((one, row) => {
      if (one?.[0] === PLACE) streams.set(found.geohash[row], one);
    });
    for (const row of empty) {
      const stream = streams.get(rows.geohash[row]);
      if (stream) code[row] = stream;
      else
        throw new Damaged(`tile ${rows.geohash[row]}: expected the code of its place, found none`);
    }
  }
  return { ...rows, code };
}

/**
 * A filter for the cells of places.
 *
 * @param {readonly Place[]} places
 */
export function filterOf(places) {
  return makeFilter({ geohash: places.map((place) => place.geohash) });
}

/**
 * A plan whose shards are read as another plan reads them.
 *
 * @param {ReadPlan} plan
 * @param {ReadPlan} also
 */
export function sharedPlan(plan, also) {
  const shared = new Map(also.reads.map((read) => [read.shard.sha256, read]));
  return planOf(plan.reads.map((read) => shared.get(read.shard.sha256) ?? read));
}

/**
 * @param {Table} rows sorted
 * @param {string} geohash
 * @returns {Table}
 */
function ofPlace(rows, geohash) {
  const first = rows.geohash.indexOf(geohash);
  const count = first < 0 ? 0 : rows.geohash.lastIndexOf(geohash) + 1 - first;
  return take(
    rows,
    Int32Array.from({ length: count }, (_, i) => first + i),
  );
}

/**
 * The error that names the archive's cell nearest to one that it lacks: the nearest shard's
 * nearest cell.
 *
 * @param {Archive} archive
 * @param {Place} place
 * @param {string} spaceId
 */
async function noSuchPlace(archive, place, spaceId) {
  const all = await archive.shards(makeFilter());
  const ours = all.filter((shard) => shard.space_id === spaceId);
  const nearest = ours.length ? await nearestOf(archive, place, ours, spaceId) : "none";
  return new BadInput(`${place.said} has no tile in the archive; nearest is ${nearest}`);
}

/**
 * @param {Archive} archive
 * @param {Place} place
 * @param {ShardRow[]} shards
 * @param {string} spaceId
 */
async function nearestOf(archive, place, shards, spaceId) {
  const here = center(place.geohash);
  const gaps = shards.map((shard) => gap(here, shard.bbox));
  const wanted = makeFilter({ bbox: shards[gaps.indexOf(Math.min(...gaps))].bbox });
  const rows = await archive.reader.rows(await archive.plan(wanted, spaceId), wanted, []);
  return nearestCell(place.geohash, [...new Set(rows.geohash)]);
}

/**
 * Squared degrees from a point to a box.
 *
 * @param {readonly [number, number]} point
 * @param {readonly number[]} box west south east north
 */
function gap([lon, lat], [west, south, east, north]) {
  const away = Math.max(west - lon, lon - east, 0);
  return Math.max(south - lat, lat - north, 0) ** 2 + Math.min(away, 360 - away) ** 2;
}
