/**
 * The archive in a worker: answers the page's calls, see `Verbs` of `client.js`.
 */

import { paintAfar } from "./afar.js";
import { openArchive } from "./archive.js";
import { ndviBands } from "./decode.js";
import { BadInput, toPlain } from "./errors.js";
import { bounds } from "./grid.js";
import { makeShades, paint } from "./heat.js";
import { loadKernels } from "./kernels.js";
import { makeRaster } from "./mercator.js";
import { paste } from "./mosaic.js";
import { BATCH, Painter } from "./painter.js";
import { concat, take } from "./rows.js";
import { extentOf } from "./views.js";

/** @typedef {import("./archive.js").Archive} Archive */
/** @typedef {import("./client.js").RowKey} RowKey */
/** @typedef {import("./client.js").Step} Step */
/** @typedef {import("./client.js").Summary} Summary */
/** @typedef {import("./client.js").Tile} Tile */
/** @typedef {import("./rows.js").Table} Table */

/**
 * @typedef {(step: Step, transfer?: ArrayBuffer[]) => void} Tell
 * @typedef {{fetch?: typeof globalThis.fetch, kernels?: import("./kernels.js").Source}} Sources
 *   where bytes come from, other than the network
 */

// What pictures are made of.
const LISTED = Object.freeze("geohash datetime source embedding model_id shard at".split(" "));

/**
 * Answer the calls that come over a line.
 *
 * @param {import("./client.js").Line} line
 * @param {Sources} [sources]
 */
export function serve(line, sources = {}) {
  const desk = new Desk(sources);
  line.onmessage = async ({ data: { id, verb, args, root } }) => {
    /** @type {Tell} */
    const tell = (progress, transfer = []) => line.postMessage({ id, progress }, transfer);
    try {
      const result = await desk.answer(verb, { ...args, root }, tell);
      line.postMessage({ id, result }, result?.pixels ? [result.pixels.buffer] : []);
    } catch (error) {
      line.postMessage({ id, error: toPlain(error) });
    }
  };
}

/** What one page sees of an archive. */
class Desk {
  #sources;
  /** @type {Promise<void> | null} */
  #kernels = null;
  /** @type {Archive | null} */
  #archive = null;
  /** @type {Promise<unknown> | null} Others wait for an open that has not ended. */
  #opening = null;
  /** @type {Set<Promise<unknown>>} Answers under way; decoding a whole view gives way to them. */
  #urgent = new Set();
  /** @type {import("./heat.js").Shades | null} */
  #shades = null;
  /** @type {{rows: Table, painter: Painter} | null} What is listed. */
  #listed = null;
  #listing = new AbortController();
  #painting = new AbortController();
  #mosaic = new AbortController();
  #afar = new AbortController();

  /** @param {Sources} sources */
  constructor(sources) {
    this.#sources = sources;
  }

  /**
   * @param {string} verb
   * @param {any} args
   * @param {Tell} tell
   * @returns {Promise<any>}
   */
  async answer(verb, args, tell) {
    if (verb === "open") return (this.#opening = this.open(args));
    await this.#opening;
    if (verb === "mosaic") return this.mosaic(args);
    if (verb === "afar") return this.afar(args);
    const answer = this.#answerOf(verb, args, tell);
    this.#urgent.add(answer);
    try {
      return await answer;
    } finally {
      this.#urgent.delete(answer);
    }
  }

  /**
   * @param {string} verb
   * @param {any} args
   * @param {Tell} tell
   * @returns {Promise<any>}
   */
  async #answerOf(verb, args, tell) {
    switch (verb) {
      case "cells":
        return this.archive.cells(args);
      case "tiles":
        return this.tiles(args, tell);
      case "cost":
        return this.archive.cost(args);
      case "search":
        return this.search(args, tell);
      case "heat":
        return this.heat(args);
      case "pictures":
        return this.pictures(args, tell);
      case "stop":
        return this.stop(args);
      default:
        throw new BadInput(`worker: expected a verb it knows, found ${String(verb)}`);
    }
  }

  get archive() {
    if (this.#archive) return this.#archive;
    throw new BadInput("worker: expected open first, found no archive");
  }

  /** @param {{root: string}} args */
  async open({ root }) {
    const { fetch, kernels } = this.#sources;
    const options = fetch ? { fetch } : {};
    // A second time would take the memory away from what lies in it.
    const loading = (this.#kernels ??= loadKernels(kernels));
    loading.catch(() => (this.#kernels = null));
    this.#archive = await openArchive(root, options);
    await loading;
    return { ...summaryOf(this.#archive), ...(await extentOf(this.#archive)) };
  }

  /**
   * @param {{bbox?: number[] | null, datetime?: string | null, limit: number}} args
   * @param {Tell} tell
   */
  async tiles(args, tell) {
    const signal = this.#startListing();
    const { rows, more } = await this.archive.places(args, { signal, onProgress: tell });
    this.#list(rows);
    return { tiles: tilesOf(rows), more };
  }

  /**
   * @param {import("./archive.js").Wanted} wanted
   * @param {Tell} tell
   */
  async search(wanted, tell) {
    const signal = this.#startListing();
    const found = await this.archive.search(wanted, { signal, onProgress: tell });
    const { hits, exemplars, heat, ...spent } = found;
    this.#list(concat([exemplars, hits], LISTED));
    this.#shades = heat && makeShades(heat);
    const listed = { hits: tilesOf(hits, hits), exemplars: tilesOf(exemplars) };
    return { ...spent, ...listed };
  }

  /** @param {{bbox: number[], width: number, height: number}} args */
  heat({ bbox, width, height }) {
    const nothing = { box: new Float64Array(0), shade: new Uint8Array(0) };
    return { pixels: paint(this.#shades ?? nothing, bbox, width, height) };
  }

  /**
   * Pictures of rows, told as they are decoded; a later call ends this one.
   *
   * @param {{rows: RowKey[], show: "colour" | "ndvi"}} args
   * @param {Tell} tell
   */
  async pictures({ rows: keys, show }, tell) {
    this.#painting.abort();
    this.#painting = new AbortController();
    const { signal } = this.#painting;
    const { rows, painter } = await this.#rowsOf(keys);
    let done = 0;
    for await (const pictures of painter.paint(rows, show, signal)) {
      done += pictures.length;
      const transfer = pictures.map(({ pixels }) => pixels.buffer);
      tell({ done, total: rows.n, pictures }, transfer);
    }
    return { decoded: done };
  }

  /**
   * The tiles of a view decoded; no pixels where there are too many. A later call ends this one.
   *
   * @param {{bbox: number[], datetime?: string | null, limit: number, width: number,
   *   height: number, show: "colour" | "ndvi"}} args
   */
  async mosaic({ bbox, datetime = null, limit, width, height, show }) {
    this.#mosaic.abort();
    this.#mosaic = new AbortController();
    const { signal } = this.#mosaic;
    const { rows, more } = await this.archive.places({ bbox, datetime, limit }, { signal });
    if (more || !rows.n) return { pixels: null, tiles: rows.n, more };
    const mosaic = makeRaster(bbox, width, height);
    const spread = take(rows, spreadOut(rows.n));
    const cells = bounds(spread.geohash);
    for await (const pictures of new Painter(this.archive).paint(spread, show, signal)) {
      for (const tile of pictures) {
        paste(mosaic, tile, cells.subarray(tile.index * 4, tile.index * 4 + 4));
      }
      await this.#turn();
    }
    signal.throwIfAborted();
    return { pixels: new Uint8ClampedArray(mosaic.pixels.buffer), tiles: rows.n, more };
  }

  /**
   * Cells of the pyramid in a view, each in one colour; no pixels where there are none. A later
   * call ends this one.
   *
   * @param {import("./afar.js").View} view
   */
  async afar(view) {
    this.#afar.abort();
    this.#afar = new AbortController();
    const { signal } = this.#afar;
    return paintAfar(this.archive, view, { signal, turn: () => this.#turn() });
  }

  /** Until nobody waits for an answer. */
  async #turn() {
    while (this.#urgent.size) await Promise.allSettled(this.#urgent);
  }

  /** @param {{what: "listing" | "mosaic"}} args */
  stop({ what }) {
    if (what === "mosaic") this.#mosaic.abort();
    else this.#startListing();
    return {};
  }

  #startListing() {
    this.#listing.abort();
    this.#painting.abort();
    this.#listing = new AbortController();
    return this.#listing.signal;
  }

  /** @param {Table} rows */
  #list(rows) {
    this.#listed = { rows, painter: new Painter(this.archive) };
  }

  /**
   * The rows that keys name: those listed, or else read.
   *
   * @param {RowKey[]} keys
   */
  async #rowsOf(keys) {
    const names = keys.map(nameOf);
    let listed = this.#listed;
    let where = places(listed?.rows);
    if (!listed || !names.every((name) => where.has(name))) {
      const rows = await this.archive.select({ geohash: keys.map(({ geohash }) => geohash) });
      where = places(rows);
      listed = { rows, painter: new Painter(this.archive) };
    }
    const index = names.map((name) => where.get(name) ?? -1);
    const lost = index.indexOf(-1);
    if (lost < 0) return { ...listed, rows: take(listed.rows, Int32Array.from(index)) };
    const found = names[lost].slice(0, 80);
    throw new BadInput(`pictures: expected tiles of the archive, found ${found}`);
  }
}

/** @param {Archive} archive @returns {Omit<Summary, "bounds" | "footprint">} */
function summaryOf(archive) {
  const { settings: s, generation } = archive;
  return {
    title: s.title,
    attribution: generation.attribution || s.attribution,
    licence: s.licence,
    generation: generation.number,
    tiles: generation.tiles,
    bands: s.bands,
    gsd: s.gsd,
    precision: s.precision,
    bits: s.bits,
    datetimes: archive.datetimes,
    ndvi: ndviBands(s.bands) !== null,
    decodes: archive.decodes,
    afar: generation.pyramid !== null,
  };
}

/**
 * Rows one by one.
 *
 * @param {Table} rows
 * @param {{score: Float64Array}} [ranked]
 * @returns {Tile[]}
 */
function tilesOf(rows, ranked) {
  const box = bounds(rows.geohash);
  return rows.geohash.map((geohash, i) => ({
    geohash,
    datetime: rows.datetime[i],
    source: rows.source[i],
    valid: rows.valid_fraction[i],
    score: ranked ? ranked.score[i] : null,
    bounds: /** @type {any} */ (Array.from(box.subarray(i * 4, i * 4 + 4))),
  }));
}

/**
 * Positions 0..n in steps, so that the first batch is of everywhere: the stretch of colours is
 * its.
 *
 * @param {number} n
 */
function spreadOut(n) {
  const step = Math.max(1, Math.ceil(n / BATCH));
  const order = [];
  for (let first = 0; first < step; first++) {
    for (let at = first; at < n; at += step) order.push(at);
  }
  return Int32Array.from(order);
}

/** @param {RowKey} key */
function nameOf({ geohash, datetime, source }) {
  return `${geohash} ${datetime} ${source}`;
}

/** Where rows are, by name. @param {Table} [rows] */
function places(rows) {
  /** @type {Map<string, number>} */
  const found = new Map();
  for (let i = 0; rows && i < rows.n; i++) {
    const [geohash, datetime, source] = [rows.geohash[i], rows.datetime[i], rows.source[i]];
    found.set(nameOf({ geohash, datetime, source }), i);
  }
  return found;
}

// In a worker this module answers its page; imported elsewhere it only offers `serve`.
if ("WorkerGlobalScope" in globalThis) serve(/** @type {any} */ (globalThis));
