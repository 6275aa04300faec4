/**
 * Numbers, dates and sizes as a reader sees them.
 */

import { metresPerDegree } from "./grid.js";

const count = new Intl.NumberFormat("en");

/** "6,125". @param {number} value */
export function number(value) {
  return count.format(value);
}

/** "1 tile", "2 tiles". @param {number} value @param {string} one @param {string} [many] */
export function counted(value, one, many = `${one}s`) {
  return `${number(value)} ${value === 1 ? one : many}`;
}

/** "0.034 %", "1.2 %", "12 %" of a share. @param {number} value 0..1 */
export function percent(value) {
  const hundredths = value * 100;
  return `${hundredths < 9.95 ? Number(hundredths.toPrecision(2)) : Math.round(hundredths)} %`;
}

/** "64 kB", "1.4 MB". @param {number} value */
export function bytes(value) {
  if (value < 1000) return `${value} bytes`;
  if (value < 999_500) return `${Math.round(value / 1000)} kB`;
  return `${(value / 1e6).toFixed(value < 9.95e6 ? 1 : 0)} MB`;
}

/** The day of microseconds since 1970, "2023-08-15"; empty for NaN or null.
 * @param {number | null} micros */
export function day(micros) {
  if (micros === null || !Number.isFinite(micros)) return "";
  return new Date(micros / 1000).toISOString().slice(0, 10);
}

/** "2023-01-03 to 2023-08-15", one day once, "no dates" without.
 * @param {[number, number] | null} span */
export function days(span) {
  if (!span) return "no dates";
  const [first, last] = span.map(day);
  return first === last ? `${first}` : `${first} to ${last}`;
}

/** "48.112° N, 14.213° E" of a place in degrees. @param {number} lon @param {number} lat */
export function place(lon, lat) {
  const part = (/** @type {number} */ value, /** @type {string} */ sides) =>
    `${Math.abs(value).toFixed(3)}° ${sides[value < 0 ? 1 : 0]}`;
  return `${part(lat, "NS")}, ${part(lon, "EW")}`;
}

/** A distance with three digits. @param {number} value */
export function score(value) {
  return value.toPrecision(3);
}

/** "1.9 × 1.2 km" of a box in degrees. @param {readonly number[]} box west south east north */
export function extent([west, south, east, north]) {
  const [eastward, northward] = metresPerDegree((north + south) / 2);
  const high = ((north - south) * northward) / 1000;
  const wide = (((((east - west) % 360) + 360) % 360) * eastward) / 1000;
  const size = (/** @type {number} */ km) => (km < 9.95 ? km.toFixed(1) : number(Math.round(km)));
  return `${size(wide)} × ${size(high)} km`;
}
