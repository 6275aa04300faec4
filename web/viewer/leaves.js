/**
 * What a Parquet footer says: the columns of a file, and where their bytes lie in each row group.
 * Every size is checked before anybody relies on it.
 */

import { Damaged } from "./errors.js";

/**
 * @typedef {import("hyparquet").SchemaElement} SchemaElement
 * @typedef {import("./pages.js").Kind} Kind
 */

/**
 * A column as the file stores it. type: for comparing, such as "string", "float?" (nullable),
 * "fixed(16)", "timestamp?", "int8 list"; width: bytes of a fixed value.
 *
 * @typedef {Readonly<{path: readonly string[], type: string, kind: Kind | "other", width: number,
 *   nullable: boolean, repeated: boolean}>} Leaf
 */

/**
 * A column of a row group: bytes [start, end) of the file. limits: least and greatest value,
 * where the footer says them (texts, numbers, timestamps as microseconds); data: where its first
 * data page begins; index: bytes [start, end) of what says where its pages are, null without.
 *
 * @typedef {Readonly<{start: number, end: number, values: number, unpacked: number,
 *   codec: string, limits: [any, any] | null, data: number,
 *   index: readonly [start: number, end: number] | null}>} Chunk
 */

/** @typedef {Readonly<{rows: number, bytes: number, chunks: readonly Chunk[]}>} Group chunks in
 *   the order of the leaves; bytes: unpacked */

/** @typedef {Readonly<{name: string, rows: number, groups: readonly Group[],
 *   leaves: readonly Leaf[], texts: ReadonlyMap<string, string>}>} FileMetaData texts: the
 *   footer's key-value metadata */

const MAX_FILE = 256 << 20;
// Of numbers a list, and of texts in all lists of a row group together.
const MAX_LIST = 4096;
const MAX_ITEMS = 1 << 24;

/**
 * Throws Damaged unless a file has these columns: path and type, such as "mse float?".
 *
 * @param {FileMetaData} metadata
 * @param {readonly string[]} expected
 */
export function checkSchema({ name, leaves }, expected) {
  const found = leaves.map((leaf) => `${leaf.path.join(".")} ${leaf.type}`);
  if (found.join() === expected.join()) return;
  const odd = found.find((leaf, i) => leaf !== expected[i]) ?? "fewer";
  const want = expected.find((leaf, i) => leaf !== found[i]) ?? "no more";
  throw new Damaged(`${name}: expected the column ${want}, found ${odd.slice(0, 80)}`);
}

/**
 * What the footer's `embarchive` key says; an empty object when it says nothing.
 *
 * @param {FileMetaData} metadata
 * @returns {Record<string, unknown>}
 */
export function stampOf(metadata) {
  try {
    const stamp = JSON.parse(metadata.texts.get("embarchive") ?? "null");
    return typeof stamp === "object" && stamp !== null ? stamp : {};
  } catch {
    return {};
  }
}

/**
 * @param {readonly SchemaElement[]} schema depth first, the root first
 * @returns {Leaf[]}
 */
export function leavesOf(schema) {
  const leaves = [];
  const root = {
    left: schema[0].num_children ?? 0,
    path: /** @type {string[]} */ ([]),
    repeated: 0,
    nullable: 0,
  };
  const open = [root];
  for (const element of schema.slice(1)) {
    while (open.length && !open[open.length - 1].left) open.pop();
    const above = open[open.length - 1];
    if (!above || open.length > 3) throw new RangeError("a schema of another depth");
    above.left -= 1;
    const here = {
      left: element.num_children ?? 0,
      path: [...above.path, element.name],
      repeated: above.repeated + Number(element.repetition_type === "REPEATED"),
      nullable: above.nullable + Number(element.repetition_type === "OPTIONAL"),
    };
    if (here.repeated + here.nullable > 1) throw new RangeError("nested lists or nullable groups");
    if (element.num_children) open.push(here);
    else leaves.push(leafOf(element, here.path, here.nullable > 0, here.repeated > 0));
  }
  return leaves;
}

/**
 * @param {SchemaElement} element
 * @param {string[]} path
 * @param {boolean} nullable
 * @param {boolean} repeated
 * @returns {Leaf}
 */
function leafOf(element, path, nullable, repeated) {
  const [kind, said] = kindOf(element);
  const type = `${said}${repeated ? " list" : ""}${nullable ? "?" : ""}`;
  const width = kind === "fixed" ? (element.type_length ?? 0) : 1;
  if (width < 1 || width > MAX_LIST) throw new RangeError(`fixed binary of ${width} bytes`);
  return Object.freeze({ path, type, kind, width, nullable, repeated });
}

/**
 * @param {SchemaElement} element
 * @returns {[kind: Kind | "other", type: string]}
 */
function kindOf({ type, type_length: width, converted_type: converted, logical_type: logical }) {
  const plain = !logical && !converted;
  if (type === "BYTE_ARRAY") {
    if (logical?.type === "STRING" || converted === "UTF8") return ["string", "string"];
    if (plain) return ["binary", "binary"];
  }
  if (type === "FIXED_LEN_BYTE_ARRAY" && plain) return ["fixed", `fixed(${width})`];
  if (type === "INT32" && logical?.type === "INTEGER" && logical.isSigned) {
    if (logical.bitWidth === 8) return ["int8", "int8"];
    if (logical.bitWidth === 16) return ["int16", "int16"];
  }
  if (type === "INT32" && plain) return ["int32", "int32"];
  if (type === "INT64") {
    if (plain) return ["int64", "int64"];
    const utc = logical?.type === "TIMESTAMP" && logical.isAdjustedToUTC;
    if (utc && logical.unit === "MICROS") return ["int64", "timestamp"];
  }
  if (type === "FLOAT" && plain) return ["float", "float"];
  if (type === "DOUBLE" && plain) return ["double", "double"];
  return ["other", String(type)];
}

/**
 * @param {import("hyparquet").RowGroup} group
 * @param {readonly Leaf[]} leaves
 * @returns {Group}
 */
export function readGroup(group, leaves) {
  const rows = size(group.num_rows);
  const bytes = size(group.total_byte_size);
  if (group.columns.length !== leaves.length) throw new RangeError("row groups of other columns");
  const chunks = group.columns.map(({ meta_data: raw, ...about }, i) => {
    if (raw?.path_in_schema.join("\n") !== leaves[i].path.join("\n")) {
      throw new RangeError("row groups of other columns");
    }
    return Object.freeze({ ...readChunk(raw, leaves[i], rows), index: indexOf(about) });
  });
  const sum = chunks.reduce((total, chunk) => total + chunk.unpacked, 0);
  if (sum > bytes) throw new RangeError(`columns of ${sum} bytes in a row group of ${bytes}`);
  return Object.freeze({ rows, bytes, chunks });
}

/**
 * @param {import("hyparquet").ColumnMetaData} raw
 * @param {Leaf} leaf
 * @param {number} rows
 * @returns {Omit<Chunk, "index">}
 */
function readChunk(raw, leaf, rows) {
  const first = size(raw.data_page_offset);
  const start =
    raw.dictionary_page_offset === undefined
      ? first
      : Math.min(first, size(raw.dictionary_page_offset));
  const end = start + size(raw.total_compressed_size);
  if (!(start >= 4 && start < end && end <= MAX_FILE)) {
    throw new RangeError(`a column at bytes ${start} to ${end}`);
  }
  const values = size(raw.num_values);
  const numbers = leaf.kind === "int8" || leaf.kind === "int16";
  const most = numbers ? rows * MAX_LIST : MAX_ITEMS;
  if (leaf.repeated ? values > most : values !== rows) {
    throw new RangeError(`${values} values of ${leaf.path.join(".")} in ${rows} rows`);
  }
  const [low, high] = [raw.statistics?.min_value, raw.statistics?.max_value].map(plain);
  const limits =
    low === undefined || high === undefined ? null : /** @type {[any, any]} */ ([low, high]);
  const unpacked = size(raw.total_uncompressed_size);
  return { start, end, values, unpacked, codec: raw.codec, limits, data: first };
}

/**
 * @param {Omit<import("hyparquet").ColumnChunk, "meta_data">} about
 * @returns {Chunk["index"]}
 */
function indexOf({ offset_index_offset: at, offset_index_length: length }) {
  return at === undefined || !length ? null : [size(at), size(at) + length];
}

/** @param {unknown} value */
function plain(value) {
  return typeof value === "bigint" ? Number(value) : value;
}

/**
 * @param {bigint | undefined} value
 * @returns {number}
 */
export function size(value) {
  const found = Number(value);
  if (!Number.isSafeInteger(found) || found < 0) throw new RangeError(`a size of ${value}`);
  return found;
}
