/**
 * Verified bytes of one generation as rows.
 */

import { BadInput } from "./errors.js";
import { isEverything, rowMask } from "./filters.js";
import { Cache, Held, Once } from "./held.js";
import { readColumns } from "./parquet.js";
import { parsePart } from "./parts.js";
import { CELL_COLUMNS, checkRef, groupsOf, parsePyramid, readCells } from "./pyramid.js";
import { fetchQuantiser } from "./quantisers.js";
import { pageIndex, pagesWith, readPages } from "./parquet.js";
import { fewCells, rowGroups } from "./reads.js";
import { concat, merge, take, withColumns } from "./rows.js";
import { columnNames, columnRanges, ORDER, parseFooter, readRows } from "./shards.js";

/** @typedef {import("./filters.js").Filter} Filter */
/** @typedef {import("./parts.js").PartRef} PartRef */
/** @typedef {import("./parts.js").ShardRow} ShardRow */
/** @typedef {import("./reads.js").ReadPlan} ReadPlan */
/** @typedef {import("./reads.js").ShardRead} ShardRead */
/** @typedef {import("./rows.js").Table} Table */
/** @typedef {import("./shards.js").FileMetaData} FileMetaData */

/**
 * What a caller hears of a long reading, and how it ends one.
 *
 * @typedef {{onProgress?: (step: {done: number, total: number}) => void,
 *   signal?: AbortSignal}} Watch
 */

const AT_ONCE = 6;
const PARSED_BYTES = 64 * 2 ** 20;

/** Reads one generation. */
export class Reader {
  #held;
  #once = new Once();
  /** @type {Cache<Table>} Row groups, so that a search like the last one parses nothing. */
  #parsed = new Cache(PARSED_BYTES);

  /**
   * @param {import("./store.js").Store} store
   * @param {{dim: number, bits: number, packed?: number, precision?: number}} settings
   * @param {number} [cacheBytes]
   * @param {readonly import("./manifest.js").Space[]} [spaces] whose codes are decoded
   */
  constructor(store, settings, cacheBytes, spaces = []) {
    this.store = store;
    this.settings = settings;
    this.spaces = spaces;
    this.#held = new Held(store, cacheBytes);
  }

  /**
   * The shards of manifest parts, fetching those not yet seen.
   *
   * @param {readonly PartRef[]} parts
   * @returns {Promise<ShardRow[]>}
   */
  async shards(parts) {
    const found = await inParallel(parts, (part) =>
      this.#once.get(`part ${part.sha256}`, async () => {
        return parsePart(await this.object("manifest-parquet", part.sha256, part.length), part);
      }),
    );
    return found.flat();
  }

  /**
   * Rows of the plan's shards that match, sorted; the columns asked for, the three that rows
   * are sorted by, and where each row lies.
   *
   * @param {ReadPlan} plan
   * @param {Filter} wanted
   * @param {readonly string[]} columns
   * @param {Watch & {ahead?: readonly string[]}} [watch] ahead: columns to fetch along, for `more`
   * @returns {Promise<Table>}
   */
  async rows(plan, wanted, columns, { ahead = [], ...watch } = {}) {
    const names = this.checkColumns([...columns, ...ORDER]);
    const fetched = this.checkColumns([...names, ...ahead]);
    const work = (/** @type {ShardRead} */ read) => this.#shardRows(read, wanted, names, fetched);
    return merge((await inParallel(plan.reads, work, watch)).flat(), names);
  }

  /**
   * The rows with further columns, read from where they lie.
   *
   * @param {Table} rows
   * @param {readonly string[]} columns
   * @param {Watch} [watch]
   * @returns {Promise<Table>}
   */
  async more(rows, columns, watch) {
    const names = this.checkColumns(columns);
    /** @type {Map<ShardRow, number[]>} */
    const byShard = new Map(rows.shard.map((shard) => [shard, []]));
    rows.shard.forEach((shard, row) => byShard.get(shard)?.push(row));
    const places = [...byShard.values()];
    const work = (/** @type {number[]} */ own) => this.#pick(rows, own, names);
    return withColumns(rows, places, await inParallel(places, work, watch), names);
  }

  /**
   * The names in the shard's order, each once. Throws BadInput on an unknown one.
   *
   * @param {readonly string[]} columns
   */
  checkColumns(columns) {
    const known = columnNames(this.settings.bits);
    const odd = columns.find((name) => !known.includes(name));
    if (odd === undefined) return known.filter((name) => columns.includes(name));
    throw new BadInput(`columns: expected some of ${known.join(", ")}, found ${odd}`);
  }

  /**
   * Whether a whole shard is at hand.
   *
   * @param {ShardRow} shard
   */
  has(shard) {
    return this.#held.has(shard);
  }

  /**
   * A whole object, verified by hash and length, from the cache when it is at hand.
   *
   * @param {Parameters<Held["object"]>[0]} kind
   * @param {string} sha256
   * @param {number} length
   * @returns {Promise<Uint8Array>}
   */
  object(kind, sha256, length) {
    return this.#held.object(kind, sha256, length);
  }

  /**
   * Pieces of an object, each verified by its digest.
   *
   * @param {Parameters<Held["pieces"]>[0]} kind
   * @param {string} sha256
   * @param {Parameters<Held["pieces"]>[2]} pieces
   */
  pieces(kind, sha256, pieces) {
    return this.#held.pieces(kind, sha256, pieces);
  }

  /**
   * @param {ShardRead} read
   * @param {Filter} wanted
   * @param {string[]} names
   * @param {string[]} fetched names and more
   * @returns {Promise<Table[]>}
   */
  async #shardRows({ shard, whole }, wanted, names, fetched) {
    if (whole) await this.#held.shard(shard);
    const metadata = await this.#footer(shard);
    const groups = rowGroups(metadata, wanted);
    if (fewCells(wanted, this.settings.precision ?? 0) && !names.includes("bbox")) {
      return this.#cellRows(shard, groups, wanted, names);
    }
    await this.#held.ranges(shard, columnRanges(metadata, groups, this.#stored(fetched)));
    const tables = await this.#groups(shard, metadata, groups, names);
    if (isEverything(wanted)) return tables;
    return tables.map((rows) => {
      const mask = rowMask(rows, wanted);
      return take(
        rows,
        rows.at.map((_, row) => row).filter((row) => mask[row] > 0),
      );
    });
  }

  /**
   * Rows of a few cells: the columns that say which they are, then of others their pages.
   *
   * @param {ShardRow} shard
   * @param {number[]} groups
   * @param {Filter} wanted
   * @param {string[]} names
   * @returns {Promise<Table[]>}
   */
  async #cellRows(shard, groups, wanted, names) {
    const metadata = await this.#footer(shard);
    const keys = await this.#groups(shard, metadata, groups, [...ORDER]);
    const some = groups.flatMap((group, i) => {
      const mask = rowMask(keys[i], wanted);
      const rows = Array.from(mask.keys()).filter((row) => mask[row] > 0);
      return rows.length ? [{ group, rows, table: take(keys[i], Int32Array.from(rows)) }] : [];
    });
    const others = this.#stored(names).filter((name) => !ORDER.includes(name));
    if (!some.length || !others.length) return some.map(({ table }) => table);
    const start = shard.length - shard.footer_length;
    const footerAt = await this.#held.ranges(shard, [[start, shard.length]]);
    const read = some.flatMap(({ group, rows, table }) =>
      others.map((name) => {
        const index = pageIndex(metadata, group, name, footerAt);
        return { group, rows, table, name, index, pages: pagesWith(index, rows) };
      }),
    );
    const spans = read.flatMap(({ index, pages }) => [
      ...(index.dictionary ? [index.dictionary] : []),
      ...pages.map((page) => index.pages[page]),
    ]);
    const bytesAt = await this.#held.ranges(
      shard,
      spans.map(([a, b]) => /** @type {[number, number]} */ ([a, b])).sort((a, b) => a[0] - b[0]),
    );
    const quantiser = others.includes("packed") ? await this.quantiser(shard.space_id) : null;
    for (const { group, rows, table, name, index, pages } of read) {
      const held = readPages(metadata, group, index, pages, bytesAt);
      const places = new Map(held.rows.map((row, at) => [row, at]));
      const at = Int32Array.from(rows, (row) => places.get(row) ?? 0);
      const { values } = take({ n: held.rows.length, values: held.values }, at);
      if (name === "packed" && quantiser) table.embedding = quantiser.decode(values);
      else /** @type {Record<string, any>} */ (table)[name] = values;
    }
    return some.map(({ table }) => table);
  }

  /**
   * Further columns of rows of one shard.
   *
   * @param {Table} rows
   * @param {number[]} own positions
   * @param {string[]} names
   * @returns {Promise<Table>}
   */
  async #pick(rows, own, names) {
    const shard = rows.shard[own[0]];
    const metadata = await this.#footer(shard);
    const starts = groupStarts(metadata);
    const groupOf = own.map((row) => starts.findLastIndex((start) => start <= rows.at[row]));
    const groups = [...new Set(groupOf)].sort((a, b) => a - b);
    const tables = await this.#groups(shard, metadata, groups, names);
    // How far a row of a group moves when only these groups are joined.
    const shifts = new Map();
    let filled = 0;
    groups.forEach((group, i) => {
      shifts.set(group, filled - starts[group]);
      filled += tables[i].n;
    });
    const index = Int32Array.from(own, (row, i) => rows.at[row] + shifts.get(groupOf[i]));
    return take(concat(tables, names), index);
  }

  /**
   * All rows of row groups, one table each.
   *
   * @param {ShardRow} shard
   * @param {FileMetaData} metadata
   * @param {number[]} groups
   * @param {string[]} names
   * @returns {Promise<Table[]>}
   */
  async #groups(shard, metadata, groups, names) {
    const key = (/** @type {number} */ group) => `${shard.sha256} ${group} ${names}`;
    const tables = new Map(groups.map((group) => [group, this.#parsed.get(key(group))]));
    const lacking = groups.filter((group) => !tables.get(group));
    const stored = this.#stored(names);
    const bytesAt = await this.#held.ranges(shard, columnRanges(metadata, lacking, stored));
    const quantiser = stored.includes("packed") ? await this.quantiser(shard.space_id) : null;
    const starts = groupStarts(metadata);
    for (const group of lacking) {
      const { packed, ...rows } = await readRows(metadata, [group], stored, bytesAt);
      if (quantiser && packed) rows.embedding = quantiser.decode(packed);
      const at = Int32Array.from({ length: rows.n }, (_, row) => starts[group] + row);
      const table = { ...rows, shard: new Array(rows.n).fill(shard), at };
      this.#parsed.put(key(group), table, sizeOf(table));
      tables.set(group, table);
    }
    return groups.map((group) => /** @type {Table} */ (tables.get(group)));
  }

  /**
   * Cells of the pyramid of a space and level that meet a filter's box, sorted by geohash; reads
   * the footer, and the row groups that the filter needs. Throws Damaged.
   *
   * @param {import("./pyramid.js").PyramidRef} ref
   * @param {string} spaceId
   * @param {number} level
   * @param {Filter} wanted
   * @returns {Promise<import("./pyramid.js").Cells>}
   */
  async level(ref, spaceId, level, wanted) {
    checkRef(ref);
    const dim = (await this.quantiser(spaceId))?.dim ?? this.settings.dim;
    const metadata = await this.#once.get(`pyramid ${ref.sha256}`, async () => {
      const start = ref.length - ref.footer_length;
      const bytesAt = await this.#held.ranges(ref, [[start, ref.length]]);
      return parsePyramid(bytesAt(start, ref.length), dim, ref);
    });
    const own = groupsOf(metadata, spaceId, level);
    const groups = rowGroups(metadata, wanted).filter((group) => own.includes(group));
    const ranges = columnRanges(metadata, groups, CELL_COLUMNS);
    const bytesAt = await this.#held.ranges(ref, ranges);
    const columns = await readColumns(metadata, groups, CELL_COLUMNS, bytesAt);
    return readCells(columns, ref, { spaceId, level, wanted });
  }

  /**
   * What the codes of a space decode with, null where embeddings are plain.
   *
   * @param {string} spaceId
   */
  quantiser(spaceId) {
    return this.#once.get(`quantiser ${spaceId}`, () => {
      const space = this.spaces.find(({ space_id: id }) => id === spaceId);
      return fetchQuantiser(this, space, this.settings.packed);
    });
  }

  /** Columns as shards have them. @param {readonly string[]} names */
  #stored(names) {
    return names.map((name) => (this.settings.packed && name === "embedding" ? "packed" : name));
  }

  /** @param {ShardRow} shard */
  #footer(shard) {
    return this.#once.get(`footer ${shard.sha256}`, async () => {
      const start = shard.length - shard.footer_length;
      const bytesAt = await this.#held.ranges(shard, [[start, shard.length]]);
      const { dim, bits, packed } = this.settings;
      const name = `shard ${shard.sha256.slice(0, 12)}`;
      return parseFooter(bytesAt(start, shard.length), dim, bits, name, packed);
    });
  }
}

/**
 * `work` over items, at most six at a time, results in order; the first error is thrown.
 *
 * @template T, U
 * @param {readonly T[]} items
 * @param {(item: T) => Promise<U>} work
 * @param {Watch} [watch]
 * @returns {Promise<U[]>}
 */
async function inParallel(items, work, { onProgress, signal } = {}) {
  /** @type {U[]} */
  const results = new Array(items.length);
  let next = 0;
  let done = 0;
  const worker = async () => {
    while (next < items.length) {
      signal?.throwIfAborted();
      const at = next++;
      try {
        results[at] = await work(items[at]);
      } catch (error) {
        next = items.length;
        throw error;
      }
      onProgress?.({ done: ++done, total: items.length });
    }
  };
  signal?.throwIfAborted();
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, worker));
  signal?.throwIfAborted();
  return results;
}

/**
 * The number of the first row of each row group.
 *
 * @param {FileMetaData} metadata
 */
function groupStarts(metadata) {
  let end = 0;
  return metadata.groups.map(({ rows }) => (end += rows) - rows);
}

/** About how many bytes a table takes. @param {Table} table */
function sizeOf(table) {
  const columns = Object.values(table).filter((column) => typeof column === "object");
  const size = (/** @type {any} */ column) => column.byteLength ?? column.length * 24;
  return columns.reduce((sum, column) => sum + size(column), 0);
}
