/**
 * What a search is like: a tile or a point, as a visitor writes it.
 *
 * Pure: `parse` says what was meant, `chooseRow` which row of a place stands for it.
 */

import { BadInput } from "./errors.js";
import { isDated, makeFilter, rowMask } from "./filters.js";
import { center, distanceM, encode, isGeohash } from "./grid.js";

/** @typedef {import("./filters.js").Filter} Filter */

/**
 * A cell, and the dates to take it from (a filter on time alone).
 *
 * @typedef {Readonly<{geohash: string, when: Filter, said: string}>} Place
 */

const GOOD = Math.fround(0.8);
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
const ANY_DATE = makeFilter();

/**
 * A place from GEOHASH, GEOHASH@DATE or LON,LAT. Throws BadInput.
 *
 * @param {string} item
 * @param {number} precision of the archive
 * @returns {Place}
 */
export function parse(item, precision) {
  const text = typeof item === "string" ? item.trim() : "";
  if (text.includes(",")) return point(text, precision);
  const [name, ...days] = text.split("@");
  const day = days.join("@");
  if (isGeohash(name) && (day || !days.length)) {
    return place(name, makeFilter({ datetime: day || null }), text, precision);
  }
  const found = JSON.stringify(String(item).slice(0, 80));
  throw new BadInput(`like: expected GEOHASH, GEOHASH@DATE or LON,LAT, found ${found}`);
}

/**
 * The row that stands for a place: its latest date with valid_fraction >= 0.8, else its highest
 * valid_fraction; on one date the highest valid_fraction, then the first source. Throws BadInput
 * when none is on the date asked for.
 *
 * @param {{geohash: readonly string[], datetime: Float64Array, valid_fraction: Float32Array}} rows
 *   those of the place, sorted
 * @param {Place} place
 * @returns {number}
 */
export function chooseRow(rows, place) {
  const mask = rowMask(rows, place.when);
  const dated = isDated(place.when);
  let chosen = -1;
  for (let row = 0; row < mask.length; row++) {
    if (mask[row] && (chosen < 0 || isBetter(rows, row, chosen, dated))) chosen = row;
  }
  if (chosen >= 0) return chosen;
  const found = days(rows.datetime).slice(0, 8).join(", ") || "no date";
  throw new BadInput(`like: ${place.said} has no tile on that date; it has ${found}`);
}

/**
 * The name whose centre is nearest to that of the geohash.
 *
 * @param {string} geohash
 * @param {readonly string[]} names
 * @returns {string}
 */
export function nearestCell(geohash, names) {
  const here = center(geohash);
  let found = "";
  let least = Infinity;
  for (const name of names) {
    const away = distanceM(here, center(name));
    if (away < least) [found, least] = [name, away];
  }
  return found;
}

/**
 * Whether one row stands for a place better than an earlier one.
 *
 * @param {{datetime: Float64Array, valid_fraction: Float32Array}} rows
 * @param {number} row
 * @param {number} other
 * @param {boolean} dated whether a date was asked for
 */
function isBetter(rows, row, other, dated) {
  const [valid, before] = [rows.valid_fraction[row], rows.valid_fraction[other]];
  const good = valid >= GOOD;
  if (good !== before >= GOOD) return good;
  const [when, earlier] = [rows.datetime[row], rows.datetime[other]].map(orFirst);
  if (good && !dated && when !== earlier) return when > earlier;
  return valid > before;
}

/** @param {number} micros NaN for no date, which counts as the earliest */
function orFirst(micros) {
  return Number.isNaN(micros) ? -Infinity : micros;
}

/** @param {Float64Array} datetime */
function days(datetime) {
  const dated = datetime.filter((micros) => !Number.isNaN(micros));
  const names = Array.from(dated, (micros) => new Date(micros / 1000).toISOString().slice(0, 10));
  return [...new Set(names)].sort();
}

/**
 * @param {string} text
 * @param {number} precision
 * @returns {Place}
 */
function point(text, precision) {
  const parts = text.split(",").map((part) => part.trim());
  if (parts.length !== 2 || !parts.every((part) => NUMBER.test(part))) {
    throw new BadInput(
      `like: expected LON,LAT in degrees, found ${JSON.stringify(text.slice(0, 80))}`,
    );
  }
  const [lon, lat] = parts.map(Number);
  const said = parts.map((part) => String(Number(Number(part).toPrecision(6)))).join();
  if (!(Math.abs(lon) <= 180 && Math.abs(lat) <= 90)) {
    throw new BadInput(`like: expected LON,LAT in -180..180,-90..90, found ${said}`);
  }
  const name = encode(lon, lat, precision);
  return Object.freeze({ geohash: name, when: ANY_DATE, said: `${said} (geohash ${name})` });
}

/**
 * @param {string} name
 * @param {Filter} when
 * @param {string} said
 * @param {number} precision
 * @returns {Place}
 */
function place(name, when, said, precision) {
  if (name.length !== precision) {
    throw new BadInput(
      `like: expected a geohash of ${precision} characters, found ${name} of ${name.length}`,
    );
  }
  return Object.freeze({ geohash: name, when, said: `geohash ${said}` });
}
