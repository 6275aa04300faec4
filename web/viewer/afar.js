/**
 * The archive from afar: which level of the pyramid a view shows, and the colours of its cells.
 *
 * A cell has the mean colour of what its mean embedding decodes to. Where nothing decodes, its
 * colour is where it lies along the three directions in which the cells of the view differ most.
 */

import {
  decodeRows,
  ndviBands,
  ndviPicture,
  picture,
  stretchLimits,
  visibleBands,
} from "./decode.js";
import { makeFilter } from "./filters.js";
import { bounds } from "./grid.js";
import { makeRaster } from "./mercator.js";
import { paste } from "./mosaic.js";
import { FINE } from "./pyramid.js";

/** @typedef {import("./archive.js").Archive} Archive */
/** @typedef {import("./pyramid.js").Cells} Cells */
/**
 * @typedef {{bbox: readonly number[], datetime?: string | null, width: number, height: number,
 *   show: "colour" | "ndvi"}} View
 */

// So many are decoded within a second or two.
const MOST_CELLS = 2000;
const BATCH = 96;
const TURNS = 40;

/**
 * A picture of a view, one colour a cell; null where the archive has no cell there. turn: waits
 * for what is more urgent. Throws Damaged.
 *
 * @param {Archive} archive
 * @param {View} view
 * @param {{signal: AbortSignal, turn: () => Promise<void>}} watch
 * @returns {Promise<{pixels: Uint8ClampedArray<ArrayBuffer> | null, level: number, cells: number}>}
 */
export async function paintAfar(archive, view, { signal, turn }) {
  const { pyramid } = archive.generation;
  const level = pyramid ? levelOf(pyramid.level, view.bbox, archive.bounds) : 0;
  const nothing = { pixels: null, level, cells: 0 };
  if (!pyramid || !level) return nothing;
  const { space_id: space } = archive.space();
  const wanted = makeFilter({ bbox: view.bbox });
  const cells = await archive.reader.level(pyramid, space, level, wanted);
  signal.throwIfAborted();
  if (!cells.n) return nothing;
  const colours = await coloursOf(archive, cells, view.show, { signal, turn });
  const raster = makeRaster(view.bbox, view.width, view.height);
  const boxes = bounds(cells.geohash);
  for (let cell = 0; cell < cells.n; cell++) {
    const own = colours.subarray(cell * 4, cell * 4 + 4);
    paste(raster, { pixels: own, width: 1, height: 1 }, boxes.subarray(cell * 4, cell * 4 + 4));
  }
  return { pixels: new Uint8ClampedArray(raster.pixels.buffer), level, cells: cells.n };
}

/**
 * The finest level of which a view can have at most 2,000 cells; 1 where none has so few.
 *
 * @param {number} finest
 * @param {readonly number[]} view west south east north, degrees; west > east across the antimeridian
 * @param {readonly number[]} whole bounds of the archive
 */
export function levelOf(finest, view, whole) {
  const turned = view[0] > view[2];
  const across = turned
    ? Math.min(view[2] + 360 - view[0], whole[2] - whole[0])
    : Math.min(view[2], whole[2]) - Math.max(view[0], whole[0]);
  const up = Math.min(view[3], whole[3]) - Math.max(view[1], whole[1]);
  const cells = (/** @type {number} */ side, /** @type {number} */ step) =>
    Math.max(side, 0) / step + 1;
  for (let level = finest; level > 1; level--) {
    const wide = 360 / 2 ** ((5 * level + 1) >> 1);
    const tall = 180 / 2 ** ((5 * level) >> 1);
    if (cells(across, wide) * cells(up, tall) <= MOST_CELLS) return level;
  }
  return 1;
}

/**
 * RGBA of each cell, with one stretch for all.
 *
 * @param {Archive} archive
 * @param {Cells} cells
 * @param {View["show"]} show
 * @param {{signal: AbortSignal, turn: () => Promise<void>}} watch
 * @returns {Promise<Uint8ClampedArray<ArrayBuffer>>}
 */
async function coloursOf(archive, cells, show, watch) {
  const names = archive.settings.bands;
  const decodes = cells.model_id.every((name) => name !== "");
  const values = decodes ? await meanPixels(archive, cells, watch) : threeOf(cells);
  const bands = decodes ? visibleBands(names) : [0, 1, 2];
  const shape = [cells.n, values.length / cells.n, 1, 1];
  const near = show === "ndvi" && decodes ? ndviBands(names) : null;
  const limits = stretchLimits(values, shape, bands);
  const found = new Uint8ClampedArray(cells.n * 4);
  for (let cell = 0; cell < cells.n; cell++) {
    const own = values.subarray(cell * shape[1], (cell + 1) * shape[1]);
    const one = shape.slice(1);
    found.set(near ? ndviPicture(own, one, near) : picture(own, one, bands, limits), cell * 4);
  }
  return found;
}

/**
 * The mean pixel of what each cell decodes to: n * bands, recipe units.
 *
 * @param {Archive} archive
 * @param {Cells} cells
 * @param {{signal: AbortSignal, turn: () => Promise<void>}} watch
 */
export async function meanPixels({ models, settings }, cells, { signal, turn }) {
  const { dim, bands } = settings;
  const width = cells.mean.length / cells.n;
  const found = new Float32Array(cells.n * bands.length);
  for (let start = 0; start < cells.n; start += BATCH) {
    const end = Math.min(cells.n, start + BATCH);
    const numbers = cells.mean.subarray(start * width, end * width);
    const embedding = Float32Array.from(numbers, (number) => number / FINE);
    const some = { embedding, model_id: cells.model_id.slice(start, end) };
    const images = await decodeRows((name) => models.plainDecoder(name), some, dim);
    const size = images.length / ((end - start) * bands.length);
    for (let line = 0; line < (end - start) * bands.length; line++) {
      let sum = 0;
      for (let i = line * size; i < (line + 1) * size; i++) sum += images[i];
      found[start * bands.length + line] = sum / size;
    }
    // Decoding holds the worker: let it hear what the page says meanwhile.
    await new Promise((go) => setTimeout(go, 0));
    await turn();
    signal.throwIfAborted();
  }
  return found;
}

/**
 * Where each cell lies along the first three principal components of all of them: n * 3. By power
 * iteration; each points to where its largest number is positive.
 *
 * @param {Pick<Cells, "n" | "mean">} cells
 */
export function threeOf({ n, mean }) {
  const dim = mean.length / n;
  const centred = Float64Array.from(mean);
  for (let j = 0; j < dim; j++) {
    let sum = 0;
    for (let i = 0; i < n; i++) sum += centred[i * dim + j];
    for (let i = 0; i < n; i++) centred[i * dim + j] -= sum / n;
  }
  const found = new Float32Array(n * 3);
  for (let axis = 0; axis < 3; axis++) {
    const way = firstWay(centred, n, dim);
    for (let i = 0; i < n; i++) {
      const own = centred.subarray(i * dim, (i + 1) * dim);
      const along = way.reduce((sum, value, j) => sum + value * own[j], 0);
      found[i * 3 + axis] = along;
      way.forEach((value, j) => (own[j] -= along * value));
    }
  }
  return found;
}

/**
 * The direction in which rows vary most, of length 1 or, where they do not, 0.
 *
 * @param {Float64Array} rows centred, n * dim
 * @param {number} n
 * @param {number} dim
 */
function firstWay(rows, n, dim) {
  let way = Float64Array.from({ length: dim }, (_, j) => 1 / Math.sqrt(dim + j));
  for (let turn = 0; turn < TURNS; turn++) {
    const next = new Float64Array(dim);
    for (let i = 0; i < n; i++) {
      let along = 0;
      for (let j = 0; j < dim; j++) along += rows[i * dim + j] * way[j];
      for (let j = 0; j < dim; j++) next[j] += rows[i * dim + j] * along;
    }
    const length = Math.hypot(...next);
    if (!(length > 1e-9)) return next.fill(0);
    way = next.map((value) => value / length);
  }
  const most = way.reduce((best, value) => (Math.abs(value) > Math.abs(best) ? value : best), 0);
  return most < 0 ? way.map((value) => -value) : way;
}
