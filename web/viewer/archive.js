/**
 * An archive opened for reading: select, search, decode.
 *
 * `openArchive` reads the pointer and the generation, two requests, and stays on that
 * generation; nothing is ever listed.
 */

import * as candidates from "./candidates.js";
import { PLACE } from "./codes.js";
import { decodeRows } from "./decode.js";
import { BadInput, Missing, NotAnArchive } from "./errors.js";
import { parse } from "./exemplars.js";
import { makeFilter } from "./filters.js";
import { bounds, ChipGrid } from "./grid.js";
import { CACHE_BYTES } from "./held.js";
import * as manifest from "./manifest.js";
import { Overview } from "./overview.js";
import { simHashFromJson } from "./quantize.js";
import { Reader } from "./reader.js";
import { choose, planOf, readPlan, wholeWithin } from "./reads.js";
import { exemplarsOf, filterOf, sharedPlan, wholeCodes } from "./resolve.js";
import { take } from "./rows.js";
import { best, checkOptions, makeQuery, shortlist } from "./search.js";
import { Store, VerifiedObject } from "./store.js";
import { cellsOf, placesOf } from "./views.js";
import { Models } from "./weights.js";

/** @typedef {import("./exemplars.js").Place} Place */
/** @typedef {import("./filters.js").Filter} Filter */
/** @typedef {import("./manifest.js").Generation} Generation */
/** @typedef {import("./manifest.js").Space} Space */
/** @typedef {import("./parts.js").ShardRow} ShardRow */
/** @typedef {import("./reader.js").Watch} Watch */
/** @typedef {import("./reads.js").ReadPlan} ReadPlan */
/** @typedef {import("./rows.js").Table} Table */

/**
 * What to search for. like, unlike: GEOHASH, GEOHASH@DATE or LON,LAT; perPlace: 1 for the best
 * date of a place, 0 for all.
 *
 * @typedef {object} Wanted
 * @property {readonly string[]} like
 * @property {readonly string[]} [unlike]
 * @property {number} [k]
 * @property {"mean" | "min"} [op]
 * @property {boolean} [invert]
 * @property {readonly number[] | null} [bbox] west south east north, degrees
 * @property {string | null} [datetime]
 * @property {number} [perPlace]
 * @property {boolean} [exact]
 *
 * @typedef {Table & {score: Float64Array, hamming: Int32Array | null, bounds: Float64Array}} Hits
 *
 * @typedef {object} Found
 * @property {Hits} hits best first
 * @property {Table} exemplars the rows that stand for like, then for unlike
 * @property {import("./search.js").Heat | null} heat null without bits
 * @property {number} candidates rows that were ranked
 * @property {number} compared rows whose codes, bits or vectors were compared on the way there
 * @property {number} requests
 * @property {number} bytesRead
 * @property {number} seconds
 * @property {string} spaceId
 */

const SHORTLISTED = Object.freeze(["embedding", "model_id", "valid_fraction"]);

/**
 * Open the archive at a URL. deadline: seconds that one request, with its retries, may take.
 * Throws NotAnArchive, UnknownVersion, Damaged, StoreUnreachable.
 *
 * @param {URL | string} root
 * @param {{fetch?: typeof globalThis.fetch, deadline?: number}} [options]
 * @returns {Promise<Archive>}
 */
export async function openArchive(root, options = {}) {
  const store = new Store(root, options);
  const pointer = manifest.parsePointer(await readPointer(store));
  const path = manifest.objectPath("manifest-json", pointer.manifest);
  const body = await new VerifiedObject(store, path, pointer.manifest, pointer.length).whole();
  const name = `generation ${pointer.manifest.slice(0, 12)}`;
  const generation = manifest.parseGeneration(body, name);
  manifest.checkPair(pointer, generation);
  return new Archive(store, generation);
}

/** One generation of an archive, read-only. */
export class Archive {
  /**
   * @param {Store} store
   * @param {Generation} generation
   */
  constructor(store, generation) {
    const { precision, gsd, height, width } = generation.settings;
    this.store = store;
    this.generation = generation;
    this.reader = new Reader(store, generation.settings, undefined, generation.spaces);
    this.models = new Models(this.reader, generation);
    this.overview = new Overview(this.reader, generation.overview);
    this.chips = new ChipGrid(precision, gsd, height, width);
    Object.freeze(this);
  }

  /** What every tile of the archive shares. */
  get settings() {
    return this.generation.settings;
  }

  /** How many rows there are. */
  get tiles() {
    return this.generation.tiles;
  }

  /** West south east north of all tiles, degrees; zeros when there is none.
   * @returns {[number, number, number, number]} */
  get bounds() {
    const boxes = this.generation.parts.map((part) => part.bbox);
    if (!boxes.length) return [0, 0, 0, 0];
    const side = (/** @type {number} */ i) => boxes.map((box) => box[i]);
    const [west, south] = [Math.min(...side(0)), Math.min(...side(1))];
    return [west, south, Math.max(...side(2)), Math.max(...side(3))];
  }

  /** Whether rows of the newest space can be decoded. */
  get decodes() {
    return (this.generation.spaces.at(-1)?.backbone ?? null) !== null;
  }

  /** First and last date in microseconds since 1970; null when no tile has one.
   * @returns {[number, number] | null} */
  get datetimes() {
    const { parts } = this.generation;
    const dates = parts.flatMap((part) => [part.datetime_min, part.datetime_max]);
    const found = dates.filter((date) => date !== null);
    return found.length ? [Math.min(...found), Math.max(...found)] : null;
  }

  /**
   * A space by its id; the newest when null. Throws BadInput.
   *
   * @param {string | null} [spaceId]
   * @returns {Space}
   */
  space(spaceId = null) {
    const { spaces } = this.generation;
    const found = spaces.filter((space) => spaceId === null || space.space_id === spaceId);
    if (found.length) return found[found.length - 1];
    const known = spaces.map((space) => space.space_id).join(", ");
    throw new BadInput(`space: expected one of ${known}, found ${spaceId}`);
  }

  /**
   * The shards of the manifest parts that a filter needs.
   *
   * @param {Filter} wanted
   */
  shards(wanted) {
    return this.reader.shards(choose(this.generation.parts, wanted));
  }

  /**
   * What a filter will read of a space, by default the newest; fetches the manifest parts it needs.
   *
   * @param {Filter} wanted
   * @param {string | null} [spaceId]
   * @returns {Promise<ReadPlan>}
   */
  async plan(wanted, spaceId = null) {
    const here = spaceId ?? this.generation.spaces.at(-1)?.space_id;
    return readPlan(await this.shards(wanted), wanted, here);
  }

  /**
   * Rows that match, sorted by geohash, datetime, source. Throws BadInput.
   *
   * @param {{bbox?: readonly number[] | null, geohash?: string | readonly string[] | null,
   *   datetime?: string | null, columns?: readonly string[]}} [wanted]
   * @returns {Promise<Table>}
   */
  async select({ columns = [], ...wanted } = {}) {
    const filter = makeFilter(wanted);
    return this.reader.rows(await this.plan(filter), filter, columns);
  }

  /**
   * Distinct cells that meet a box, at most `limit`, from the geohash column alone.
   *
   * @param {{bbox?: readonly number[] | null, limit: number}} wanted
   * @param {Watch} [watch]
   * @returns {Promise<{geohash: string[], more: boolean}>}
   */
  cells(wanted, watch) {
    return cellsOf(this, wanted, watch);
  }

  /**
   * The first `limit` places that match, of each its latest good date.
   *
   * @param {{bbox?: readonly number[] | null, datetime?: string | null, limit: number}} wanted
   * @param {Watch} [watch]
   * @returns {Promise<{rows: Table, more: boolean}>}
   */
  places(wanted, watch) {
    return placesOf(this, wanted, watch);
  }

  /**
   * What a search will read at most, from the manifest alone; whole shards at hand cost nothing.
   * Of the cells that lists choose, about. Throws BadInput.
   *
   * @param {Wanted} wanted
   * @returns {Promise<{requests: number, bytes: number, rows: number}>}
   */
  async cost(wanted) {
    const { places, plan, space, lists } = await this.#prepare(wanted);
    const own = sharedPlan(await this.plan(filterOf(places), space.space_id), plan);
    const reads = new Map([...plan.reads, ...own.reads].map((read) => [read.shard.sha256, read]));
    const lacking = [...reads.values()].filter((read) => !this.reader.has(read.shard));
    const { requests, bytes } = planOf(lacking);
    if (!lists) return { requests, bytes, rows: plan.rows };
    const read = candidates.cost(lists, wanted.k ?? 50, this.generation);
    return { requests: requests + read.requests, bytes: bytes + read.bytes, rows: read.rows };
  }

  /**
   * The k tiles most like the exemplars, best first; see `search` for the definition. Throws
   * BadInput.
   *
   * @param {Wanted} wanted
   * @param {Watch} [watch]
   * @returns {Promise<Found>}
   */
  async search(wanted, watch = {}) {
    const began = performance.now();
    const { requests, bytesRead } = this.store;
    const asked = await this.#prepare(wanted);
    const { places, positives, space, lists } = asked;
    const { signal } = watch;
    const exemplars = await exemplarsOf(this, places, space.space_id, asked.plan, { signal });
    const dim = exemplars.embedding.length / exemplars.n;
    const vectors = places.map((_, i) => exemplars.embedding.slice(i * dim, (i + 1) * dim));
    const given = makeQuery({
      ...wanted,
      positives: vectors.slice(0, positives),
      negatives: vectors.slice(positives),
      exclude: places.map((place) => place.geohash),
    });
    const near = lists && (await this.#narrowed(lists, given, space));
    signal?.throwIfAborted();
    const { query, filter, plan, columns } = near ?? { ...asked, query: given };
    const { first, second, ahead } = columns;
    const rows = await this.reader.rows(plan, filter, first, { ...watch, ahead });
    const simhash = this.#simHash(space, dim);
    // Bits are of the vectors: of a few rows, computing them is less than fetching them.
    if (near && simhash) rows.bits = simhash.encode(rows.embedding);
    const list = shortlist(rows, query, simhash);
    const passed = take(rows, list.index);
    const full = second.length ? await this.reader.more(passed, second, { signal }) : passed;
    const { chosen, score } = best(full.geohash, full.embedding, query, space.scale);
    const found = take(full, chosen);
    const { hamming } = list;
    const own = hamming && chosen.map((row) => hamming[row]);
    return {
      hits: { ...found, score, hamming: own, bounds: bounds(found.geohash) },
      exemplars,
      heat: near ? near.heat : list.heat,
      candidates: list.candidates,
      compared: near ? near.compared : plan.rows,
      requests: this.store.requests - requests,
      bytesRead: this.store.bytesRead - bytesRead,
      seconds: (performance.now() - began) / 1000,
      spaceId: space.space_id,
    };
  }

  /**
   * Images of rows in recipe units, in the rows' order. extra: bytes that each was decoded from
   * beside its vector, and how many dates of its place share them.
   *
   * @param {Table} rows
   * @returns {Promise<{images: Float32Array, shape: [number, number, number, number],
   *   extra: [bytes: number, dates: number][]}>}
   */
  async decode(rows) {
    const { bands, height, width, dim } = this.settings;
    const full = await this.withVectors(rows);
    const images = await decodeRows((id) => this.models.decoder(id), full, dim);
    const decoders = await Promise.all(full.model_id.map((id) => this.models.decoder(id)));
    const extra = decoders.map((decoder, row) => extraOf(decoder, full.code?.[row], dim));
    return { images, shape: [rows.n, bands.length, height, width], extra };
  }

  /**
   * The rows with what decoding takes, read where they lack it.
   *
   * @param {Table} rows
   * @returns {Promise<Table>}
   */
  async withVectors(rows) {
    const columns = ["embedding", "model_id"];
    // Only a region's own network and a fidelity layer decode from the code.
    const layered = this.generation.spaces.filter(({ code }) => code).map((one) => one.space_id);
    const coded = rows.shard.some(({ space_id: id }) => layered.includes(id));
    if (coded || ["full", "auto"].includes(this.settings.codec)) columns.push("code");
    const missing = columns.filter((name) => !(name in rows));
    return wholeCodes(this, missing.length ? await this.reader.more(rows, missing) : rows);
  }

  /**
   * The exemplars, the filter and the reads of a search. first: columns of every row, second:
   * of those that pass the shortlist, whose bytes are fetched along with the first where
   * they can be kept. Without bits, or when it is exact, every row is asked for its vector.
   * lists: those that choose the cells whose rows are read, null where all are.
   *
   * @param {Wanted} wanted
   */
  async #prepare(wanted) {
    checkOptions(wanted);
    const { like, unlike = [], bbox = null, datetime = null, exact = false } = wanted;
    const places = [...like, ...unlike].map((text) => parse(text, this.settings.precision));
    if (!like.length) {
      throw new BadInput("search: expected at least one exemplar in like, found none");
    }
    const filter = makeFilter({ bbox, datetime });
    const space = this.space();
    const bits = this.settings.bits ? ["bits"] : [];
    const found = candidates.serves(wanted, filter) ? await this.overview.lists(space) : null;
    const lists = found && candidates.pays(found, wanted.k ?? 50, this.settings) ? found : null;
    const asked = { places, positives: like.length, filter, space, lists };
    const every = { first: [...bits, ...SHORTLISTED], second: [], ahead: [] };
    if (lists) return { ...asked, plan: planOf([]), columns: every };
    const ranged = await this.plan(filter, space.space_id);
    // What the cache cannot hold would be fetched twice.
    const kept = ranged.bytes <= CACHE_BYTES;
    const plan = kept ? wholeWithin(ranged, filter) : ranged;
    const columns =
      exact || !bits.length
        ? every
        : { first: ["bits"], second: SHORTLISTED, ahead: kept ? SHORTLISTED : [] };
    return { ...asked, plan, columns };
  }

  /**
   * The search of the cells that lists choose.
   *
   * @param {import("./overview.js").Lists} lists
   * @param {import("./search.js").Query} query
   * @param {Space} space
   */
  async #narrowed(lists, query, space) {
    const { precision } = this.settings;
    const { cells, rows, heat } = await candidates.find(this.overview, lists, query, precision);
    const filter = makeFilter({ geohash: cells.length ? cells : "0".repeat(12) });
    const plan = await this.plan(filter, space.space_id);
    const columns = { first: SHORTLISTED, second: [], ahead: [] };
    return { query: { ...query, exact: true }, filter, plan, columns, compared: rows, heat };
  }

  /**
   * The SimHash of a space; null in an archive without bits.
   *
   * @param {Space} space
   * @param {number} dim of its vectors
   */
  #simHash(space, dim) {
    const { bits } = this.settings;
    return bits ? simHashFromJson(space.simhash, dim, bits) : null;
  }
}

/**
 * How many bytes a row decodes from beside its vector, and how many dates share them.
 *
 * @param {import("./decode.js").Decoder} decoder
 * @param {Uint8Array | null | undefined} code
 * @param {number} dim
 * @returns {[bytes: number, dates: number]}
 */
function extraOf({ codes, codeScale }, code, dim) {
  if (!codes || !code) return [0, 1];
  const rest = code.subarray(codeScale === null ? 0 : dim);
  const { place } = codes;
  return [rest.length, place && rest[0] === PLACE ? place.dates.length : 1];
}

/** @param {Store} store */
async function readPointer(store) {
  try {
    return await store.get(manifest.POINTER, { limit: manifest.MAX_POINTER });
  } catch (error) {
    if (!(error instanceof Missing)) throw error;
    throw new NotAnArchive(`${store.root}: expected ${manifest.POINTER}, found none`);
  }
}
