/**
 * Parquet over bytes that are already here: a file's metadata, and columns as arrays.
 *
 * Reads what the archive's writers write: flat columns, one level of struct or list, data pages
 * of format 1, plain or by dictionary, unpacked or ZSTD. Anything else is an error.
 */

import { BadInput, Damaged, EmbarchiveError } from "./errors.js";
import { leavesOf, readGroup, size } from "./leaves.js";
import { allocate, countItems, even, pageValues, place, readPlain, split } from "./pages.js";
import { parquetHeader, parquetMetadata, readOffsetIndex, Unzstd } from "./vendor/hyparquet.js";

/**
 * @typedef {import("./pages.js").Kind} Kind
 * @typedef {import("./pages.js").Page} Page
 * @typedef {import("./pages.js").Values} Values
 * @typedef {import("./leaves.js").Chunk} Chunk
 * @typedef {import("./leaves.js").Group} Group
 * @typedef {import("./leaves.js").Leaf} Leaf
 * @typedef {import("./leaves.js").FileMetaData} FileMetaData
 */

/**
 * The pages of a column chunk: bytes [start, end) of each and its first row, one more entry being
 * the number of rows.
 *
 * @typedef {Readonly<{leaf: number, firsts: readonly number[],
 *   pages: readonly (readonly [start: number, end: number])[],
 *   dictionary: readonly [start: number, end: number] | null}>} PageIndex
 */

const MAX_HEADER = 1 << 16;
// What every reader of Zstandard frames should take, whatever they hold.
const MAX_WINDOW = 1 << 23;
const UTF8 = new TextDecoder();
const PARSERS = {
  timestampFromMicroseconds: Number,
  stringFromBytes: (/** @type {Uint8Array} */ bytes) => UTF8.decode(bytes),
};

/**
 * The metadata in a file's last bytes; offsets are absolute in the file. Throws Damaged.
 *
 * @param {Uint8Array} tail at least the metadata, its length and the magic
 * @param {string} name of the object, for errors
 * @returns {FileMetaData}
 */
export function readMetadata(tail, name) {
  return guarded(`${name}: expected a Parquet footer`, () => {
    const raw = parquetMetadata(tail, { parsers: PARSERS, geoparquet: false });
    const leaves = leavesOf(raw.schema);
    const groups = raw.row_groups.map((group) => readGroup(group, leaves));
    const rows = size(raw.num_rows);
    const sum = groups.reduce((total, group) => total + group.rows, 0);
    if (sum !== rows) throw new RangeError(`${sum} rows in its groups instead of ${rows}`);
    const pairs = (raw.key_value_metadata ?? []).map(
      ({ key, value }) => /** @type {const} */ ([key, value ?? ""]),
    );
    return Object.freeze({ name, rows, groups, leaves, texts: new Map(pairs) });
  });
}

/**
 * Top-level columns of row groups, one array each over all groups in order: texts as string[],
 * fixed binary and lists of int8 and int16 flat, timestamps as microseconds in a Float64Array,
 * int32 and int64 as Float64Array (NaN for null), structs of numbers flat and row by row, lists of
 * texts as string[][], binary as (Uint8Array | null)[]. Throws Damaged; BadInput on an unknown column.
 *
 * @param {FileMetaData} metadata
 * @param {readonly number[]} groups
 * @param {readonly string[]} columns
 * @param {(start: number, end: number) => Uint8Array} bytesAt bytes of the file, already fetched
 * @returns {Promise<Record<string, any>>}
 */
export async function readColumns(metadata, groups, columns, bytesAt) {
  /** @type {Record<string, any>} */
  const found = {};
  const chosen = groups.map((group) => metadata.groups[group]);
  for (const column of columns) {
    const own = metadata.leaves.flatMap((leaf, i) => (leaf.path[0] === column ? [i] : []));
    if (!own.length)
      throw new BadInput(`column: expected one of ${metadata.name}, found ${column}`);
    const arrays = own.map((i) =>
      guarded(`${metadata.name}: expected a readable column ${column}`, () =>
        readLeaf(
          metadata.leaves[i],
          chosen,
          chosen.map((group) => group.chunks[i]),
          bytesAt,
        ),
      ),
    );
    found[column] = metadata.leaves[own[0]].path.length === 2 ? interleaved(arrays) : arrays[0];
  }
  return found;
}

// ---------------------------------------------------------------- single pages

/**
 * Where the pages of a column of a row group lie, of one leaf. Throws Damaged.
 *
 * @param {FileMetaData} metadata
 * @param {number} group
 * @param {string} column
 * @param {(start: number, end: number) => Uint8Array} bytesAt bytes of the footer
 * @returns {PageIndex}
 */
export function pageIndex(metadata, group, column, bytesAt) {
  return guarded(`${metadata.name}: expected a page index of ${column}`, () => {
    const leaf = metadata.leaves.findIndex(({ path }) => path[0] === column);
    const { rows, chunks } = metadata.groups[group];
    const { start, end, data, index } = chunks[leaf];
    if (!index) throw new RangeError("none");
    const bytes = bytesAt(...index);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const places = readOffsetIndex({ view, offset: 0 }).page_locations;
    const firsts = [...places.map((one) => size(one.first_row_index)), rows];
    const pages = places.map(({ offset, compressed_page_size: length }) => {
      return /** @type {[number, number]} */ ([size(offset), size(offset) + length]);
    });
    const sound = pages.every(([a, b], i) => {
      return a >= data && a < b && b <= end && firsts[i] < firsts[i + 1];
    });
    if (!sound || firsts[0] !== 0 || !pages.length) throw new RangeError("pages out of order");
    return { leaf, firsts, pages, dictionary: start < data ? [start, data] : null };
  });
}

/**
 * The pages that hold some of ascending rows.
 *
 * @param {PageIndex} index
 * @param {ArrayLike<number>} rows
 * @returns {number[]}
 */
export function pagesWith({ firsts }, rows) {
  const found = new Set();
  for (let i = 0, page = 0; i < rows.length; i++) {
    while (firsts[page + 1] <= rows[i]) page += 1;
    found.add(page);
  }
  return [...found];
}

/**
 * A column of some pages, and the numbers of their rows. Throws Damaged.
 *
 * @param {FileMetaData} metadata
 * @param {number} group
 * @param {PageIndex} index
 * @param {readonly number[]} pages
 * @param {(start: number, end: number) => Uint8Array} bytesAt
 * @returns {{values: any, rows: number[]}}
 */
export function readPages(
  metadata,
  group,
  { leaf, firsts, pages: all, dictionary },
  pages,
  bytesAt,
) {
  const spans = [...(dictionary ? [dictionary] : []), ...pages.map((page) => all[page])];
  const parts = spans.map(([start, end]) => bytesAt(start, end));
  const body = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  parts.reduce((at, part) => (body.set(part, at), at + part.length), 0);
  const rows = pages.flatMap((page) =>
    Array.from({ length: firsts[page + 1] - firsts[page] }, (_, i) => firsts[page] + i),
  );
  const own = metadata.groups[group];
  const chunk = own.chunks[leaf];
  const values = (chunk.values / own.rows) * rows.length;
  const few = { ...chunk, start: 0, end: body.length, values };
  return guarded(`${metadata.name}: expected readable pages`, () => ({
    values: readLeaf(metadata.leaves[leaf], [{ ...own, rows: rows.length }], [few], () => body),
    rows,
  }));
}

// ---------------------------------------------------------------- columns

/**
 * @param {Leaf} leaf
 * @param {readonly Group[]} groups
 * @param {readonly Chunk[]} chunks
 * @param {(start: number, end: number) => Uint8Array} bytesAt
 * @returns {any}
 */
function readLeaf(leaf, groups, chunks, bytesAt) {
  const { kind, width } = leaf;
  if (kind === "other") throw new RangeError(`the type ${leaf.type}`);
  const total = chunks.reduce((sum, chunk) => sum + chunk.values, 0);
  const values = allocate(kind, total, width);
  const counts = leaf.repeated
    ? new Uint32Array(groups.reduce((sum, group) => sum + group.rows, 0))
    : null;
  let at = 0;
  let row = -1;
  let last = -1;
  chunks.forEach((chunk, i) => {
    last += groups[i].rows;
    for (const page of pagesOf(chunk, kind, width, bytesAt(chunk.start, chunk.end))) {
      const { rep, def, present } = pageValues(page, leaf);
      if (counts && rep && def) row = countItems(rep, def, counts, row);
      at = place(values, at, width, present, counts ? null : def);
    }
    if (counts && row !== last) throw new RangeError("lists of another number of rows");
  });
  if (!counts) return values;
  return kind === "string" ? split(values, counts) : even(values, counts, at);
}

/**
 * The data pages of a column chunk, unpacked, with its dictionary.
 *
 * @param {Chunk} chunk
 * @param {Kind} kind
 * @param {number} width
 * @param {Uint8Array} bytes
 * @returns {Generator<Page>}
 */
function* pagesOf(chunk, kind, width, bytes) {
  if (bytes.length !== chunk.end - chunk.start) throw new RangeError("another number of bytes");
  /** @type {Values | null} */
  let dictionary = null;
  let left = chunk.values;
  let room = chunk.unpacked;
  for (let at = 0; left > 0;) {
    const { header, start } = pageHeader(bytes, at);
    at = start + header.compressed_page_size;
    room -= header.uncompressed_page_size;
    if (!(at > start && at <= bytes.length && room >= 0 && header.uncompressed_page_size >= 0)) {
      throw new RangeError("a page beyond its column");
    }
    const body = unpacked(bytes.subarray(start, at), header.uncompressed_page_size, chunk.codec);
    const about = header.dictionary_page_header ?? header.data_page_header;
    const values = about?.num_values ?? -1;
    if (header.type === "DICTIONARY_PAGE" && values >= 0 && !dictionary) {
      dictionary = readPlain(kind, body, values, width);
    } else if (header.type === "DATA_PAGE" && values > 0 && values <= left) {
      left -= values;
      yield { values, encoding: about?.encoding, body, dictionary };
    } else throw new RangeError(`a page ${header.type} of ${values} values`);
  }
}

/**
 * @param {Uint8Array} bytes
 * @param {number} at
 */
function pageHeader(bytes, at) {
  const most = Math.min(bytes.length - at, MAX_HEADER);
  const reader = { view: new DataView(bytes.buffer, bytes.byteOffset + at, most), offset: 0 };
  const header = parquetHeader(reader);
  return { header, start: at + reader.offset };
}

/**
 * @param {Uint8Array} packed
 * @param {number} length
 * @param {string} codec
 */
function unpacked(packed, length, codec) {
  if (codec === "ZSTD") return unzstd(packed, length);
  if (codec !== "UNCOMPRESSED" || packed.length !== length) {
    throw new RangeError(`${codec} pages of ${packed.length} and ${length} bytes`);
  }
  return packed;
}

/**
 * @param {any[]} arrays
 * @returns {any}
 */
function interleaved(arrays) {
  const out = new arrays[0].constructor(arrays[0].length * arrays.length);
  arrays.forEach((array, side) => {
    for (let i = 0; i < array.length; i++) out[i * arrays.length + side] = array[i];
  });
  return out;
}

/**
 * What a frame of Zstandard holds. Throws an error of any kind unless it is `length` bytes.
 *
 * @param {Uint8Array} packed
 * @param {number} length
 * @returns {Uint8Array}
 */
export function unzstd(packed, length) {
  checkWindow(packed, length);
  const found = new Uint8Array(length);
  let at = 0;
  const stream = new Unzstd((chunk) => {
    found.set(chunk, at);
    at += chunk.length;
  });
  stream.push(packed, true);
  if (at === length) return found;
  throw new RangeError(`${at} bytes packed instead of ${length}`);
}

/**
 * The memory that a frame asks for by its header (RFC 8878, 3.1.1.1): a window, or all at once.
 *
 * @param {Uint8Array} packed
 * @param {number} length
 */
function checkWindow(packed, length) {
  const [flags, exponent] = packed.subarray(4);
  const start = 5 + [0, 1, 2, 4][flags & 3];
  const size = packed.subarray(start, start + 2 ** (flags >> 6));
  const said = size.reduceRight((sum, byte) => sum * 256 + byte, 0);
  const [window, most] =
    flags & 32
      ? [said + (size.length === 2 ? 256 : 0), length]
      : [(8 + (exponent & 7)) * 2 ** (7 + (exponent >> 3)), MAX_WINDOW];
  if (window > most) throw new RangeError(`a window of ${window} instead of ${most} bytes`);
}

/**
 * @template Made
 * @param {string} expected
 * @param {() => Made} work
 * @returns {Made}
 */
function guarded(expected, work) {
  try {
    return work();
  } catch (error) {
    if (error instanceof EmbarchiveError) throw error;
    const reason =
      error instanceof Error ? error.message.split("\n")[0].slice(0, 160) : "another error";
    throw new Damaged(`${expected}, found ${reason}`);
  }
}
