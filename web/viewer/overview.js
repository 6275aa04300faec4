/**
 * The overview of a generation: for each space that it covers the lists of an inverted file.
 */

import { loadCoarse } from "./coarse.js";
import { Damaged } from "./errors.js";
import { Once } from "./held.js";
import { parseIndex, unpackSegment } from "./inverted.js";

/** @typedef {import("./inverted.js").Segment} Segment */
/** @typedef {import("./reader.js").Reader} Reader */

/**
 * The lists of a space: its coarse quantiser; its segments in the order of their lists; the rows
 * that each of its lists holds; rows of all lists, which are those of the space; bytes of a row in
 * the lists, on average.
 *
 * @typedef {Readonly<{coarse: import("./coarse.js").Coarse, segments: readonly Segment[],
 *   rows: Float64Array, total: number, width: number}>} Lists
 */

/** What a generation's overview holds, fetched when it is first asked for; verified. */
export class Overview {
  #reader;
  #ref;
  #once = new Once();

  /**
   * @param {Pick<Reader, "object" | "pieces" | "quantiser" | "settings">} reader
   * @param {import("./manifest.js").TableRef | null} ref
   */
  constructor(reader, ref) {
    this.#reader = reader;
    this.#ref = ref;
  }

  /**
   * The lists of a space; null where it has none. Throws Damaged, GenerationExpired.
   *
   * @param {import("./manifest.js").Space} space
   * @returns {Promise<Lists | null>}
   */
  async lists({ space_id: id, dim }) {
    const ref = this.#ref;
    if (!ref) return null;
    const index = await this.#once.get("index", async () => {
      return parseIndex(await this.#reader.object("overview", ref.sha256, ref.length));
    });
    return this.#once.get(`lists ${id}`, async () => {
      const segments = index.filter((one) => one.space_id === id);
      if (!segments.length) return null;
      const quantiser = await this.#reader.quantiser(id);
      const { coarse: sha256, coarse_length: length } = segments[0];
      const data = await this.#reader.object("model", sha256, length);
      const coarse = loadCoarse(data, quantiser?.dim ?? dim);
      const most = segments.reduce((sofar, { list }) => Math.max(sofar, list), 0);
      if (most < coarse.count) return makeLists(coarse, segments);
      throw new Damaged(`overview: expected lists below ${coarse.count}, found ${most}`);
    });
  }

  /**
   * Some lists, a segment after another: of each its list, codes by columns and cells. Throws
   * Damaged, GenerationExpired.
   *
   * @param {Lists} lists
   * @param {Iterable<number>} numbers
   */
  async read({ coarse, segments }, numbers) {
    const wanted = new Set(numbers);
    const { precision = 12 } = this.#reader.settings;
    /** @type {Map<string, Segment[]>} */
    const byFile = new Map();
    for (const one of segments) {
      if (!wanted.has(one.list)) continue;
      const own = byFile.get(one.file);
      if (own) own.push(one);
      else byFile.set(one.file, [one]);
    }
    const found = await Promise.all(
      [...byFile].map(async ([file, own]) => {
        const pieces = own.map((one) => ({ ...one, name: `list ${one.list}` }));
        const bodies = await this.#reader.pieces("overview", file, pieces);
        return own.map(({ list, rows }, i) => {
          return { list, rows, ...unpackSegment(bodies[i], rows, coarse.dim, precision) };
        });
      }),
    );
    return found.flat();
  }
}

/**
 * @param {import("./coarse.js").Coarse} coarse
 * @param {readonly Segment[]} segments
 * @returns {Lists}
 */
function makeLists(coarse, segments) {
  const rows = new Float64Array(coarse.count);
  let bytes = 0;
  for (const one of segments) {
    rows[one.list] += one.rows;
    bytes += one.length;
  }
  const total = rows.reduce((sum, one) => sum + one, 0);
  return Object.freeze({ coarse, segments, rows, total, width: bytes / Math.max(1, total) });
}
