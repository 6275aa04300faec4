/**
 * The fidelity code: a tile's pixels in the bytes that a stated error, or a byte budget, allows; the
 * reader's half.
 *
 * A transform code: principal components over channels, cosines in space (`transform`), one quantiser
 * step, and a range coder (`rangecoder`) whose tables follow what was decoded before (`contexts`). All
 * is in whole numbers, so that every machine reads the same symbols and the same picture.
 */

import { MOST_SEEN } from "./contexts.js";
import { Decoder } from "./rangecoder.js";
import { Inverse, STEP_UNITS } from "./transform.js";

// Magnitudes up to EXACT have a symbol each; above, a symbol says how many more bits follow.
const [EXACT, MOST_EXTRA] = [14, 20];
// More bits go in pieces of so many.
const PIECE = 12;
export const SYMBOLS = 2 * (1 + EXACT + MOST_EXTRA) - 1;
/** Magnitudes whose place within their step is known: 1, 2, and all others. */
export const CENTRES = 3;

/**
 * What reads the streams of tiles. height, width: pixels of an image; mean (channels), basis
 * (components, channels): see `transform`; steps: of the quantiser; order: coefficients in scan order;
 * expected (steps, positions): magnitudes, see `contexts`; tables (CLASSES, SYMBOLS + 1), endTables
 * (steps, ends + 1), stepTable (steps + 1): cumulative frequencies; ends: after how many positions a
 * stream may end; centres (CLASSES, CENTRES): where in its step a magnitude lies, 64ths.
 *
 * @typedef {Readonly<{height: number, width: number, components: number, channels: number,
 *   mean: Float64Array, basis: Int16Array, steps: Float64Array, order: Int32Array,
 *   expected: Int32Array, tables: Uint16Array, endTables: Uint16Array, stepTable: Uint16Array,
 *   ends: Int32Array, centres: Int8Array, scan: import("./contexts.js").Scan}>} Code
 */

/**
 * What a stream says: step, index into steps; count, of positions; level and kind, of each position
 * before that, the quantised coefficient and its class.
 *
 * @typedef {{step: number, count: number, level: Int32Array, kind: Uint8Array,
 *   seen: Uint8Array}} Choice
 */

/**
 * Images (n, channels, height, width) of streams; any bytes give some image.
 *
 * @param {Code} code
 * @param {readonly Uint8Array[]} streams
 * @returns {Float32Array}
 */
export function decode(code, streams) {
  const size = code.channels * code.height * code.width;
  const images = new Float32Array(streams.length * size);
  const [choice, inverse] = [room(code), new Inverse(code)];
  const coefficients = { place: code.order.slice(), value: choice.level.slice(), count: 0 };
  streams.forEach((stream, i) => {
    read(code, stream, choice);
    dequantise(code, choice, coefficients);
    const image = images.subarray(i * size, (i + 1) * size);
    inverse.write(coefficients, code.steps[choice.step], image);
  });
  return images;
}

/** Room for what any stream says. @param {Code} code @returns {Choice} */
export function room({ order: { length } }) {
  const [level, kind] = [new Int32Array(length), new Uint8Array(length)];
  return { step: 0, count: 0, level, kind, seen: new Uint8Array(length) };
}

/**
 * What a stream says; any bytes say something.
 *
 * @param {Code} code
 * @param {Uint8Array} stream
 * @param {Choice} choice written
 */
export function read(code, stream, choice) {
  const { ends, order, scan, steps, tables } = code;
  const { level, kind, seen } = choice;
  const coder = new Decoder(stream);
  choice.step = steps.length > 1 ? coder.get(code.stepTable, 0, steps.length) : 0;
  const end = coder.get(code.endTables, choice.step * (ends.length + 1), ends.length);
  choice.count = ends[end];
  scan.reach(choice.count);
  const first = choice.step * order.length;
  const expected = code.expected.subarray(first, first + order.length);
  for (let at = 0; at < choice.count; at++) {
    const own = scan.classOf(at, expected, seen);
    const symbol = coder.get(tables, own * (SYMBOLS + 1), SYMBOLS);
    const bucket = (symbol + 1) >> 1;
    const size = bucket > EXACT ? large(coder, bucket - EXACT) : bucket;
    level[at] = symbol & 1 ? size : -size;
    kind[at] = own;
    seen[at] = Math.min(size, MOST_SEEN);
  }
}

/** A magnitude that has more bits. @param {Decoder} coder @param {number} extra */
function large(coder, extra) {
  let rest = 0;
  for (let shift = 0; shift < extra; shift += PIECE) {
    rest |= coder.uniform(Math.min(PIECE, extra - shift)) << shift;
  }
  return EXACT - 1 + 2 ** extra + rest;
}

/**
 * @param {Code} code
 * @param {Choice} choice
 * @param {import("./transform.js").Coefficients} to
 */
function dequantise({ order, centres }, { count, level, kind }, to) {
  to.count = 0;
  for (let at = 0; at < count; at++) {
    const size = Math.abs(level[at]);
    if (!size) continue;
    const value = size * STEP_UNITS + centres[kind[at] * CENTRES + Math.min(size, CENTRES) - 1];
    to.place[to.count] = order[at];
    to.value[to.count++] = level[at] < 0 ? -value : value;
  }
}
