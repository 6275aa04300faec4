/**
 * What the visitor asked for, in the address: a link opens the same search.
 */

/**
 * @typedef {object} Session
 * @property {readonly string[]} like    exemplars: GEOHASH, GEOHASH@DATE or LON,LAT
 * @property {readonly string[]} unlike
 * @property {readonly [number, number, number, number] | null} bbox  west south east north, degrees
 * @property {string} from   a day, or ""
 * @property {string} to
 * @property {number} k
 * @property {"mean" | "min"} op
 * @property {boolean} invert
 * @property {boolean} exact   every tile by its vector, whatever that reads
 * @property {boolean} everyDate   every date of a place, not its best alone
 * @property {"colour" | "ndvi"} show
 * @property {boolean} heat
 * @property {boolean} imagery   decoded tiles on the map
 * @property {readonly [number, number, number] | null} view   longitude, latitude, zoom
 */

export const COUNTS = Object.freeze([12, 24, 50, 100, 200]);
export const MOST_EXEMPLARS = 16;
const DAY = /^\d{4}-\d{2}-\d{2}$/;
const GEOHASH = /^[0-9b-hjkmnp-z]{1,12}$/;

/** @type {Session} */
export const EMPTY = Object.freeze({
  like: Object.freeze([]),
  unlike: Object.freeze([]),
  bbox: null,
  from: "",
  to: "",
  k: 24,
  op: "mean",
  invert: false,
  exact: false,
  everyDate: false,
  show: "colour",
  heat: true,
  imagery: false,
  view: null,
});

/** Whether a text can be an exemplar. @param {string} text */
export function isPlace(text) {
  if (text.includes(",")) return numbers(text, [180, 90]) !== undefined;
  const [name, day, ...more] = text.split("@");
  return GEOHASH.test(name) && (day === undefined || date(day) !== undefined) && !more.length;
}

/** A session with one more exemplar on a side, and on no other; null when there are too many.
 * @param {Session} session @param {"like" | "unlike"} side @param {string} text */
export function withExemplar(session, side, text) {
  const other = side === "like" ? "unlike" : "like";
  const kept = session[side].filter((one) => one !== text);
  if (kept.length >= MOST_EXEMPLARS) return null;
  return { [side]: [...kept, text], [other]: session[other].filter((one) => one !== text) };
}

/** @type {Record<string, (text: string) => any>} A reader for each key; undefined refuses. */
const READ = {
  like: places,
  unlike: places,
  bbox: (text) => numbers(text, [180, 90, 180, 90]),
  from: date,
  to: date,
  k: (text) => COUNTS.find((count) => String(count) === text),
  op: (text) => ["mean", "min"].find((op) => op === text),
  invert: flag,
  exact: flag,
  everyDate: flag,
  show: (text) => ["colour", "ndvi"].find((show) => show === text),
  heat: flag,
  imagery: flag,
  view: (text) => numbers(text, [180, 90, 24]),
};

/** A session from the part of the address after `#`, and what of it could not be used.
 * @param {string} hash @returns {{session: Session, wrong: string[]}} */
export function parseSession(hash) {
  /** @type {Record<string, any>} */
  const found = {};
  const wrong = [];
  for (const [key, text] of new URLSearchParams(hash.replace(/^#/, ""))) {
    const value = Object.hasOwn(READ, key) ? READ[key](text) : undefined;
    if (value === undefined) wrong.push(`${key}=${text}`.slice(0, 60));
    else found[key] = value;
  }
  if (found.bbox && found.bbox[1] > found.bbox[3]) {
    wrong.push(`bbox=${found.bbox}`);
    delete found.bbox;
  }
  return { session: Object.freeze({ ...EMPTY, ...found }), wrong };
}

/** The part of an address after `#` that opens a session again; only what differs from an
 * empty one. @param {Session} session */
export function formatSession(session) {
  const parts = [];
  for (const key of /** @type {(keyof Session)[]} */ (Object.keys(EMPTY))) {
    const value = session[key];
    if (String(value) === String(EMPTY[key])) continue;
    const list = key === "like" || key === "unlike";
    const text = list ? session[key].join(" ") : typeof value === "boolean" ? Number(value) : value;
    parts.push(
      `${key}=${encodeURIComponent(String(text)).replaceAll("%2C", ",").replaceAll("%20", "+")}`,
    );
  }
  return parts.join("&");
}

/** @param {string} text */
function places(text) {
  const found = text.split(" ").filter(Boolean);
  return found.length <= MOST_EXEMPLARS && found.every(isPlace) ? Object.freeze(found) : undefined;
}

/** Numbers within plus or minus their limits. @param {string} text @param {number[]} limits */
function numbers(text, limits) {
  const found = text.split(",").map((part) => (/^-?\d+(\.\d+)?$/.test(part) ? Number(part) : NaN));
  const fits =
    found.length === limits.length && found.every((value, i) => Math.abs(value) <= limits[i]);
  return fits ? Object.freeze(found) : undefined;
}

/** @param {string} text */
function date(text) {
  const time = DAY.test(text) ? Date.parse(text) : NaN;
  // 30 February is a day of March to some engines.
  return !Number.isNaN(time) && new Date(time).toISOString().startsWith(text) ? text : undefined;
}

/** @param {string} text */
function flag(text) {
  return text === "1" ? true : text === "0" ? false : undefined;
}
