/**
 * The values inside Parquet pages: levels, dictionary indices, plain values. Pure: unpacked bytes
 * in, arrays out. Every count is checked against the bytes that must hold it.
 */

/** @typedef {"string" | "binary" | "fixed" | "int8" | "int16" | "int32" | "int64" | "float" |
 *   "double"} Kind */
/** @typedef {any[] | Uint8Array | Int8Array | Int16Array | Float32Array | Float64Array} Values */
/** @typedef {import("./leaves.js").Leaf} Leaf */

/**
 * @typedef {{values: number, encoding: string | undefined, body: Uint8Array,
 *   dictionary: Values | null}} Page
 */

const ASCII = new TextDecoder("latin1");
const UTF8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const MAX_INDEX_BITS = 20;
// Bytes of a plain value, at least.
const LEAST = Object.freeze({
  string: 4,
  binary: 4,
  int8: 4,
  int16: 4,
  int32: 4,
  int64: 8,
  float: 4,
  double: 8,
});

/**
 * An array for n values; those never set are null, NaN or 0.
 *
 * @param {Kind} kind
 * @param {number} n
 * @param {number} width bytes of a fixed value
 * @returns {Values}
 */
export function allocate(kind, n, width) {
  if (kind === "fixed") return new Uint8Array(n * width);
  if (kind === "int8") return new Int8Array(n);
  if (kind === "int16") return new Int16Array(n);
  if (kind === "float") return new Float32Array(n).fill(NaN);
  if (kind === "string" || kind === "binary") return new Array(n).fill(null);
  return new Float64Array(n).fill(NaN);
}

/**
 * Levels of a page, where its column has them, and the values that are present.
 *
 * @param {Page} page
 * @param {Leaf} leaf
 */
export function pageValues(
  { values, encoding, body, dictionary },
  { kind, width, nullable, repeated },
) {
  if (kind === "other") throw new RangeError("an unknown type");
  const rep = repeated ? readLevels(body, 0, values) : null;
  const def = repeated || nullable ? readLevels(body, rep?.end ?? 0, values) : null;
  const count = def ? def.levels.reduce((sum, level) => sum + level, 0) : values;
  const rest = body.subarray(def?.end ?? 0);
  return {
    rep: rep?.levels,
    def: def?.levels ?? null,
    present: decoded(kind, width, encoding, rest, count, dictionary),
  };
}

/**
 * @param {Kind} kind
 * @param {number} width
 * @param {string | undefined} encoding
 * @param {Uint8Array} body
 * @param {number} count
 * @param {Values | null} dictionary
 * @returns {Values}
 */
function decoded(kind, width, encoding, body, count, dictionary) {
  if (encoding === "PLAIN") return readPlain(kind, body, count, width);
  if (!["RLE_DICTIONARY", "PLAIN_DICTIONARY"].includes(encoding ?? "") || !dictionary) {
    throw new RangeError(`the encoding ${encoding}`);
  }
  const indices = readIndices(body, count, dictionary.length / width);
  const out = allocate(kind, count, width);
  for (let i = 0, at = 0; i < count; i++) {
    for (let byte = 0; byte < width; byte++) out[at++] = dictionary[indices[i] * width + byte];
  }
  return out;
}

/**
 * Put a page's values where they belong; without a value stands null or NaN.
 *
 * @param {Values} values
 * @param {number} at
 * @param {number} width
 * @param {Values} present
 * @param {Uint8Array | null} def
 * @returns {number} the next place
 */
export function place(values, at, width, present, def) {
  if (def && width > 1) throw new RangeError("nullable fixed binary");
  if (!def && !Array.isArray(values)) {
    values.set(/** @type {Uint8Array} */ (present), at * width);
    return at + present.length / width;
  }
  const n = def ? def.length : present.length;
  for (let i = 0, next = 0; i < n; i++) if (!def || def[i]) values[at + i] = present[next++];
  return at + n;
}

/**
 * Add the items of a page's rows to `counts`.
 *
 * @param {Uint8Array} rep 0 where a row begins
 * @param {Uint8Array} def 0 for an empty list
 * @param {Uint32Array} counts
 * @param {number} row the last one begun
 * @returns {number} the last row begun now
 */
export function countItems(rep, def, counts, row) {
  for (let i = 0; i < rep.length; i++) {
    if (rep[i] === 0) row += 1;
    if (row < 0 || row >= counts.length) throw new RangeError("lists of another number of rows");
    counts[row] += def[i];
  }
  return row;
}

/**
 * @param {Values} values
 * @param {Uint32Array} counts
 */
export function split(values, counts) {
  let at = 0;
  return Array.from(counts, (count) => Array.from(values.slice(at, (at += count))));
}

/**
 * @param {Values} values
 * @param {Uint32Array} counts
 * @param {number} total
 */
export function even(values, counts, total) {
  if (counts.some((count) => count !== counts[0]) || total !== values.length) {
    throw new RangeError("lists of different lengths");
  }
  return values;
}

/**
 * Levels of 0 and 1 at the start of a page of format 1, and where they end.
 *
 * @param {Uint8Array} body
 * @param {number} at
 * @param {number} count
 * @returns {{levels: Uint8Array, end: number}}
 */
function readLevels(body, at, count) {
  const length = viewOf(body).getUint32(at, true);
  const end = at + 4 + length;
  if (end > body.length) throw new RangeError("levels beyond their page");
  const levels = new Uint8Array(count);
  readHybrid(body.subarray(at + 4, end), 1, levels);
  return { levels, end };
}

/**
 * `count` dictionary indices, each less than `size`; their width stands before them.
 *
 * @param {Uint8Array} body
 * @param {number} count
 * @param {number} size of the dictionary
 * @returns {Uint8Array | Uint32Array}
 */
function readIndices(body, count, size) {
  const width = body.length ? body[0] : 0;
  if (width > MAX_INDEX_BITS) throw new RangeError(`dictionary indices of ${width} bits`);
  const out = width > 8 ? new Uint32Array(count) : new Uint8Array(count);
  if (width) readHybrid(body.subarray(1), width, out);
  let most = count ? 0 : -1;
  for (let i = 0; i < count; i++) if (out[i] > most) most = out[i];
  if (most >= size) throw new RangeError(`dictionary index ${most} of ${size}`);
  return out;
}

/**
 * Runs and packed groups of numbers of `width` bits, until `out` is full.
 *
 * @param {Uint8Array} bytes
 * @param {number} width 1 to 20
 * @param {Uint8Array | Uint32Array} out
 */
function readHybrid(bytes, width, out) {
  let at = 0;
  let n = 0;
  while (n < out.length) {
    let header = 0;
    for (let shift = 0, more = true; more; shift += 7) {
      if (at >= bytes.length || shift > 21) throw new RangeError("a run beyond its page");
      header |= (bytes[at] & 127) << shift;
      more = bytes[at++] > 127;
    }
    const size = header >> 1;
    if (size === 0) throw new RangeError("a run of no values");
    if (header & 1) {
      const count = Math.min(size * 8, out.length - n);
      if (at + Math.ceil((count * width) / 8) > bytes.length)
        throw new RangeError("packed bits beyond");
      unpack(bytes, at, width, out, n, count);
      at += size * width;
      n += count;
    } else {
      const end = at + Math.ceil(width / 8);
      if (end > bytes.length) throw new RangeError("a run beyond its page");
      let value = 0;
      for (let shift = 0; at < end; shift += 8) value |= bytes[at++] << shift;
      out.fill(value, n, n + size);
      n += size;
    }
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {number} at
 * @param {number} width
 * @param {Uint8Array | Uint32Array} out
 * @param {number} n
 * @param {number} count
 */
function unpack(bytes, at, width, out, n, count) {
  if (width === 8) {
    out.set(bytes.subarray(at, at + count), n);
    return;
  }
  const mask = (1 << width) - 1;
  let held = 0;
  let bits = 0;
  for (let i = n; i < n + count; i++) {
    for (; bits < width; bits += 8) held |= bytes[at++] << bits;
    out[i] = held & mask;
    held >>>= width;
    bits -= width;
  }
}

/**
 * `count` plain values.
 *
 * @param {Kind} kind
 * @param {Uint8Array} body
 * @param {number} count
 * @param {number} width bytes of a fixed value
 * @returns {Values}
 */
export function readPlain(kind, body, count, width) {
  const least = { ...LEAST, fixed: width }[kind];
  if (count * least > body.length) throw new RangeError(`${count} values in ${body.length} bytes`);
  if (kind === "string") return texts(body, count);
  if (kind === "binary") return binaries(body, count);
  const bytes = body.slice(0, count * least);
  if (kind === "fixed") return bytes;
  if (kind === "float") return new Float32Array(bytes.buffer);
  if (kind === "double") return new Float64Array(bytes.buffer);
  if (kind === "int8") return Int8Array.from(fitting(bytes, 128));
  if (kind === "int16") return Int16Array.from(fitting(bytes, 32_768));
  return kind === "int32" ? Float64Array.from(new Int32Array(bytes.buffer)) : int64s(bytes);
}

/** @param {Uint8Array} bytes of int32 @param {number} limit */
function fitting(bytes, limit) {
  const wide = new Int32Array(bytes.buffer);
  if (wide.some((value) => value < -limit || value >= limit)) {
    throw new RangeError(`a number that is not below ${limit}`);
  }
  return wide;
}

/** @param {Uint8Array} bytes */
function int64s(bytes) {
  const low = new Uint32Array(bytes.buffer);
  const high = new Int32Array(bytes.buffer);
  // Two words a number, the low one first; beyond 2**53 the nearest double.
  return Float64Array.from(
    { length: low.length / 2 },
    (_, i) => high[2 * i + 1] * 2 ** 32 + low[2 * i],
  );
}

/**
 * @param {Uint8Array} body
 * @param {number} count
 */
function texts(body, count) {
  const plain = ASCII.decode(body);
  return spans(body, count, (start, end) => {
    let bits = 0;
    for (let i = start; i < end; i++) bits |= body[i];
    return bits < 128 ? plain.slice(start, end) : UTF8.decode(body.subarray(start, end));
  });
}

/**
 * @param {Uint8Array} body
 * @param {number} count
 */
function binaries(body, count) {
  return spans(body, count, (start, end) => body.slice(start, end));
}

/**
 * @param {Uint8Array} body
 * @param {number} count
 * @param {(start: number, end: number) => any} take
 * @returns {any[]}
 */
function spans(body, count, take) {
  const view = viewOf(body);
  const out = new Array(count);
  let at = 0;
  for (let i = 0; i < count; i++) {
    const start = at + 4;
    at = start + view.getUint32(at, true);
    if (at > body.length) throw new RangeError("a value beyond its page");
    out[i] = take(start, at);
  }
  return out;
}

/** @param {Uint8Array} bytes */
function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
