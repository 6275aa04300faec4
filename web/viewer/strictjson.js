/**
 * JSON of untrusted origin, strictly: one meaning per document, bounded size and depth.
 */

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
  throw new Error(`not written yet ${data} ${name} ${cap}`);
}
