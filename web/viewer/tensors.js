/**
 * Weights from safetensors bytes, believed only when they are what the architecture asks for.
 *
 * The bytes: the header's length as 8 bytes, little end first; the header, JSON that gives each
 * tensor's type, shape and place; the tensors, one after another without a gap.
 */

import { Damaged } from "./errors.js";
import { shapes } from "./model.js";
import { parseStrictJson } from "./strictjson.js";

export const MAX_WEIGHTS = 64 << 20;
// Hundred tensors take 10 KB.
const MAX_HEADER = 1 << 20;
const METADATA = "__metadata__";
const KEYS = "data_offsets,dtype,shape";
/** Bytes a number. @type {Readonly<Record<string, number>>} */
const WIDTHS = Object.freeze({ F64: 8, F32: 4, I32: 4, F16: 2, I16: 2, U16: 2, I8: 1 });

/** @typedef {import("./model.js").Architecture} Architecture */
/** @typedef {Readonly<{type: string, shape: number[], bytes: Uint8Array}>} Tensor */
/** @typedef {Map<string, Tensor>} Tensors */

/**
 * Weights of one model as float32; the file has float32, float16, or int8 with a float32
 * `<name>.scale` a row. Throws Damaged when names, shapes, types or values are not those of the
 * architecture.
 *
 * @param {Uint8Array} bytes
 * @param {Architecture} arch
 * @param {string} kind encoder, backbone, adapter, shared or full
 * @returns {Record<string, Float32Array>}
 */
export function loadWeights(bytes, arch, kind) {
  const what = `${kind} weights`;
  if (bytes.length > MAX_WEIGHTS) {
    throw new Damaged(`${what}: expected at most ${MAX_WEIGHTS} bytes, found ${bytes.length}`);
  }
  return tensorsOf(readFile(bytes, what).tensors, shapes(arch, kind), what);
}

/**
 * Tensors of the expected names and shapes, as float32; see `loadWeights`. Throws Damaged.
 *
 * @param {Tensors} found
 * @param {import("./model.js").Shapes} expected
 * @param {string} what
 * @returns {Record<string, Float32Array>}
 */
export function tensorsOf(found, expected, what) {
  checkNames(found, Object.keys(expected), what);
  const weights = Object.entries(expected).map(([name, shape]) => [
    name,
    numbersOf(found, name, shape, `${what}: ${name}`),
  ]);
  return Object.fromEntries(weights);
}

/**
 * @param {Tensors} found
 * @param {string[]} expected
 * @param {string} what
 */
function checkNames(found, expected, what) {
  const scales = expected.map((name) => `${name}.scale`).filter((name) => found.has(name));
  const known = new Set([...expected, ...scales]);
  const odd = [...known].filter((name) => !found.has(name));
  odd.push(...[...found.keys()].filter((name) => !known.has(name)));
  if (!odd.length) return;
  const some = odd
    .sort()
    .slice(0, 4)
    .map((name) => name.slice(0, 40))
    .join(", ");
  throw new Damaged(`${what}: expected the architecture's tensors, differing in ${some}`);
}

/**
 * The numbers of a tensor, checked.
 *
 * @param {Tensors} found
 * @param {string} name
 * @param {number[]} shape
 * @param {string} what
 */
function numbersOf(found, name, shape, what) {
  const tensor = /** @type {Tensor} */ (found.get(name));
  const scale = found.get(`${name}.scale`);
  if (!equal(tensor.shape, shape)) {
    throw new Damaged(`${what}: expected shape (${shape}), found (${tensor.shape})`);
  }
  if (!(scale ? ["I8"] : ["F16", "F32"]).includes(tensor.type)) {
    const expected = scale ? "int8 beside its scale" : "float16 or float32";
    throw new Damaged(`${what}: expected ${expected}, found ${tensor.type}`);
  }
  if (scale && (scale.type !== "F32" || !equal(scale.shape, shape.slice(0, 1)))) {
    throw new Damaged(`${what}: expected int8 and a float32 scale a row`);
  }
  const values = plain(tensor);
  if (scale) spread(values, plain(scale));
  if (!values.every(Number.isFinite)) {
    throw new Damaged(`${what}: expected finite numbers, found others`);
  }
  return values;
}

/** Multiply each row by its scale. @type {(values: Float32Array, scales: Float32Array) => void} */
function spread(values, scales) {
  const columns = values.length / scales.length;
  for (let i = 0; i < values.length; i++) values[i] *= scales[Math.floor(i / columns)];
}

/** A tensor's numbers as float32, wherever its bytes lie. @param {Tensor} tensor */
function plain({ type, bytes }) {
  if (type === "I8") return Float32Array.from(bytes, (byte) => (byte << 24) >> 24);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const found = new Float32Array(bytes.length / WIDTHS[type]);
  for (let i = 0; i < found.length; i++) {
    found[i] = type === "F32" ? view.getFloat32(4 * i, true) : half(view.getUint16(2 * i, true));
  }
  return found;
}

/** A float16 of its 16 bits. @param {number} bits */
function half(bits) {
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  const sign = bits & 32768 ? -1 : 1;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
  return sign * size;
}

/**
 * The tensors of a file by name, each in its place, and its metadata. Throws Damaged.
 *
 * @param {Uint8Array} bytes
 * @param {string} what
 * @returns {{tensors: Tensors, metadata: Readonly<Record<string, string>>}}
 */
export function readFile(bytes, what) {
  const { header, data } = parts(bytes, what);
  const value = parseStrictJson(header, `${what}: header`, MAX_HEADER);
  if (!isObject(value)) throw new Damaged(`${what}: expected safetensors, found no header`);
  /** @type {[string, Tensor, number][]} */
  const placed = Object.entries(value)
    .filter(([name]) => name !== METADATA)
    .map(([name, entry]) => readTensor(data, name, entry, what));
  placed.sort(([, a, first], [, b, second]) => first - second || a.bytes.length - b.bytes.length);
  let end = 0;
  for (const [name, { bytes }, start] of placed) {
    if (start !== end) {
      throw new Damaged(`${what}: ${name}: expected it to start at byte ${end}, found ${start}`);
    }
    end += bytes.length;
  }
  if (end !== data.length) {
    throw new Damaged(`${what}: expected ${end} bytes of tensors, found ${data.length}`);
  }
  const tensors = new Map(placed.map(([name, tensor]) => [name, tensor]));
  return {
    tensors,
    metadata: Object.hasOwn(value, METADATA) ? metadata(value[METADATA], what) : {},
  };
}

/**
 * @param {Uint8Array} bytes
 * @param {string} what
 */
function parts(bytes, what) {
  if (bytes.length < 8) {
    throw new Damaged(`${what}: expected safetensors, found ${bytes.length} bytes`);
  }
  const length = new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true);
  const limit = Math.min(MAX_HEADER, bytes.length - 8);
  if (length > limit) {
    throw new Damaged(`${what}: expected a header of at most ${limit} bytes, found ${length}`);
  }
  const start = 8 + Number(length);
  return { header: bytes.subarray(8, start), data: bytes.subarray(start) };
}

/**
 * One entry of the header as name, tensor and where it starts.
 *
 * @param {Uint8Array} data
 * @param {string} name
 * @param {any} entry
 * @param {string} what
 * @returns {[string, Tensor, number]}
 */
function readTensor(data, name, entry, what) {
  const bad = `${what}: ${name.slice(0, 40)}: expected`;
  if (!isObject(entry) || Object.keys(entry).sort().join() !== KEYS) {
    throw new Damaged(`${bad} dtype, shape and data_offsets, found others`);
  }
  const { dtype: type, shape, data_offsets: offsets } = entry;
  if (typeof type !== "string" || !Object.hasOwn(WIDTHS, type)) {
    throw new Damaged(`${bad} one of ${Object.keys(WIDTHS)}, found ${String(type).slice(0, 9)}`);
  }
  if (!isCounts(shape) || shape.length > 8 || !isCounts(offsets) || offsets.length !== 2) {
    throw new Damaged(`${bad} a shape and two offsets, found others`);
  }
  const [start, end] = offsets;
  const length = shape.reduce((a, b) => a * b, WIDTHS[type]);
  if (end - start !== length || end > data.length) {
    throw new Damaged(`${bad} ${length} bytes of ${data.length}, found ${start} to ${end}`);
  }
  return [name, { type, shape, bytes: data.subarray(start, end) }, start];
}

/**
 * Metadata is text by name.
 *
 * @param {any} entry
 * @param {string} what
 */
function metadata(entry, what) {
  if (isObject(entry) && Object.values(entry).every((text) => typeof text === "string"))
    return entry;
  throw new Damaged(`${what}: expected metadata that is text, found others`);
}

/** @param {any} value */
function isObject(value) {
  return value !== null && typeof value === "object" && !Array.isArray(value);
}

/** @param {any} values @returns {values is number[]} */
function isCounts(values) {
  return Array.isArray(values) && values.every((n) => Number.isSafeInteger(n) && n >= 0);
}

/** @type {(a: number[], b: number[]) => boolean} */
function equal(a, b) {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}
