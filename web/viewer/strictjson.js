/**
 * JSON of untrusted origin, strictly: one meaning per document, bounded size and depth.
 */

import { Damaged } from "./errors.js";

const MAX_INTEGER = 2n ** 53n;
const MAX_DEPTH = 64;
const MARKS = /"(?:[^"\\]|\\.)*"|-?\d[\d.eE+-]*|[[\]{},]/g;
const LONE_SURROGATE = /\p{Surrogate}/u;
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * The document's value. Refused: more than `cap` bytes, anything but UTF-8, duplicate keys, NaN
 * and Infinity, integers beyond 2**53, numbers that overflow, nesting beyond 64. Throws Damaged
 * naming `name`.
 *
 * @param {Uint8Array} data
 * @param {string} name
 * @param {number} cap
 * @returns {any}
 */
export function parseStrictJson(data, name, cap) {
  if (data.length > cap) {
    throw new Damaged(`${name}: expected at most ${cap} bytes, found ${data.length}`);
  }
  const text = attempt(() => UTF8.decode(data), `${name}: expected UTF-8`);
  const value = attempt(() => JSON.parse(text), `${name}: expected JSON`);
  checkMarks(text, name);
  return value;
}

/**
 * Sorted keys, no spaces, UTF-8; for documents of texts and integers, whose spelling is the same
 * in every language.
 *
 * @param {unknown} value
 * @returns {string}
 */
export function canonicalJson(value) {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const pairs = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
  const spelled = pairs.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`);
  return `{${spelled.join(",")}}`;
}

/**
 * @template Made
 * @param {() => Made} work
 * @param {string} expected
 * @returns {Made}
 */
function attempt(work, expected) {
  try {
    return work();
  } catch (error) {
    const reason = error instanceof Error ? error.message.split("\n")[0].slice(0, 120) : "another";
    throw new Damaged(`${expected}, found ${reason}`);
  }
}

/**
 * What JSON.parse lets pass: the text is JSON already.
 *
 * @param {string} text
 * @param {string} name
 */
function checkMarks(text, name) {
  /** @type {(Set<string> | null)[]} keys of the objects that are open, null for a list */
  const open = [];
  let before = "";
  for (const [mark] of text.matchAll(MARKS)) {
    if (mark === "{" || mark === "[") open.push(mark === "{" ? new Set() : null);
    else if (mark === "}" || mark === "]") open.pop();
    else if (mark[0] === '"') {
      const keys = before === "{" || before === "," ? open[open.length - 1] : null;
      checkText(mark, keys ?? null, name);
    } else if (mark !== ",") checkNumber(mark, name);
    if (open.length > MAX_DEPTH) {
      throw new Damaged(`${name}: expected a depth of at most ${MAX_DEPTH}, found more`);
    }
    before = mark;
  }
}

/**
 * @param {string} mark
 * @param {Set<string> | null} keys of its object when the text is a key
 * @param {string} name
 */
function checkText(mark, keys, name) {
  const text = mark.includes("\\") ? JSON.parse(mark) : mark.slice(1, -1);
  if (LONE_SURROGATE.test(text)) {
    throw new Damaged(`${name}: expected UTF-8, found bytes or escapes that are not`);
  }
  if (keys?.has(text)) {
    const found = JSON.stringify(text.slice(0, 40));
    throw new Damaged(`${name}: expected distinct keys, found ${found} twice`);
  }
  keys?.add(text);
}

/**
 * @param {string} mark
 * @param {string} name
 */
function checkNumber(mark, name) {
  const found = mark.slice(0, 24);
  if (/[.eE]/.test(mark)) {
    if (Number.isFinite(Number(mark))) return;
    throw new Damaged(`${name}: expected finite numbers, found ${found}`);
  }
  // Digits are counted first: converting a million of them would take long.
  const size = mark.length > 17 ? MAX_INTEGER + 1n : BigInt(mark);
  if (size > MAX_INTEGER || size < -MAX_INTEGER) {
    throw new Damaged(`${name}: expected integers of at most 2**53, found ${found}`);
  }
}

// ---------------------------------------------------------------- values

/** @typedef {Readonly<Record<string, string>>} Shape key -> "int", "float", "str", "dict",
 *   "list", or "dict of" one of these; with "?" it may be null */

/** @type {Record<string, (value: any) => boolean>} */
const TYPES = {
  int: Number.isInteger,
  float: Number.isFinite,
  str: (value) => typeof value === "string",
  dict: (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  list: Array.isArray,
};

/**
 * A frozen object of JSON values: keys, types, patterns of texts and signs of numbers checked.
 * Throws Damaged.
 *
 * @param {Shape} shape
 * @param {any} values
 * @param {string} name
 * @param {Readonly<Record<string, RegExp>>} patterns
 * @returns {any}
 */
export function build(shape, values, name, patterns) {
  checkKeys(shape, values, name);
  checkTypes(shape, values, name);
  for (const [key, value] of Object.entries(values)) {
    if (typeof value === "string" && patterns[key] && !patterns[key].test(value)) {
      throw new Damaged(
        `${name}: expected ${key} like ${patterns[key].source}, found ${brief(value)}`,
      );
    }
    if (typeof value === "number" && value < 0) {
      throw new Damaged(`${name}: expected ${key} of 0 or more, found ${value}`);
    }
  }
  return Object.freeze({ ...values });
}

/**
 * Throws Damaged unless the value is an object with exactly the shape's keys.
 *
 * @param {Shape} shape
 * @param {any} values
 * @param {string} name
 */
export function checkKeys(shape, values, name) {
  const expected = Object.keys(shape).sort().join(" ");
  const found = TYPES.dict(values) ? Object.keys(values).sort().join(" ") : brief(values);
  if (found !== expected || !TYPES.dict(values)) {
    throw new Damaged(`${name}: expected keys ${expected}, found ${found.slice(0, 200)}`);
  }
}

/**
 * Throws Damaged unless every value is of its key's type.
 *
 * @param {Shape} shape
 * @param {any} values
 * @param {string} name
 */
export function checkTypes(shape, values, name) {
  for (const [key, type] of Object.entries(shape)) {
    const value = values[key];
    if (value === null && type.endsWith("?")) continue;
    const [outer, inner] = type.replace("?", "").split(" of ");
    const odd =
      inner && TYPES.dict(value) && Object.values(value).find((item) => !TYPES[inner](item));
    if (!TYPES[outer](value) || (odd !== undefined && inner)) {
      throw new Damaged(`${name}: expected ${key} to be ${type}, found ${brief(odd ?? value)}`);
    }
  }
}

/**
 * A value as a short piece of a message.
 *
 * @param {unknown} value
 */
export function brief(value) {
  return (JSON.stringify(value) ?? String(value)).slice(0, 80);
}
