/**
 * The fidelity codes of a space: of single tiles, and of all dates of a place together.
 *
 * Where a place has every date of a list, its rows share one stream, which stands in the row of the
 * first date after a mark; the other rows have none of their own. In a space with such codes the
 * streams of single tiles begin with a mark too.
 */

import { Damaged } from "./errors.js";
import { decode } from "./fidelity.js";
import { apply as applyLayer, put } from "./layer.js";

/** @typedef {import("./layer.js").Chip} Chip */
/** @typedef {import("./layer.js").Layer} Layer */
/**
 * tile: the code of single tiles; place: of dates together, null without.
 *
 * @typedef {Readonly<{tile: Layer, place: Layer | null}>} Codes
 */

const TILE = 0;
/** The mark of a stream that the dates of a place share. */
export const PLACE = 1;

/**
 * Put what the texts say into chips (n, bands, height, width), which are what the embeddings decode to.
 * Throws Damaged.
 *
 * @param {Codes} codes
 * @param {Float32Array} chips changed
 * @param {Chip} chip
 * @param {readonly Uint8Array[]} texts
 * @param {ArrayLike<number>} when microseconds since 1970
 */
export function apply({ tile, place }, chips, chip, texts, when) {
  if (!place) return applyLayer(tile, chips, chip, texts);
  const odd = texts.find(([mark]) => mark !== TILE && mark !== PLACE);
  if (odd) throw new Damaged("code column: expected a mark of a tile or a place, found another");
  const size = chip.bands * chip.height * chip.width;
  for (const [mark, layer] of /** @type {[number, Layer][]} */ ([
    [TILE, tile],
    [PLACE, place],
  ])) {
    const own = texts.flatMap((text, row) => (text[0] === mark ? [row] : []));
    const names = own.map((row) => texts[row].join());
    const streams = new Map(names.map((name, i) => [name, texts[own[i]].subarray(1)]));
    const coded = decode(layer.code, [...streams.values()]);
    const order = [...streams.keys()];
    const block = chip.bands * layer.code.height * layer.code.width;
    const dates = Math.max(1, layer.dates.length);
    own.forEach((row, i) => {
      const date = mark === PLACE ? dateOf(layer, when[row]) : 0;
      const start = (order.indexOf(names[i]) * dates + date) * block;
      const target = chips.subarray(row * size, (row + 1) * size);
      put(layer, target, chip, coded.slice(start, start + block));
    });
  }
}

/** The number of a date among those of a place. @param {Layer} layer @param {number} when */
function dateOf({ dates }, when) {
  const found = dates.indexOf(when);
  if (found >= 0) return found;
  throw new Damaged(`code column: expected one of ${dates.length} dates, found another`);
}
