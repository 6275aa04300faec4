/**
 * Rows to images, and images to pictures: true colour and NDVI.
 *
 * An image is float32 (bands, height, width) in recipe units, north up; images are several, one
 * after another, and `shape` ends in bands, height, width for both. Pictures are RGBA.
 */

import { apply } from "./codes.js";
import { BadInput, Damaged } from "./errors.js";

// Names under which the three visible bands go, in Sentinel-2, Landsat 8/9, Landsat 4-7 and
// plainly; the first set that the archive holds whole is used.
const VISIBLE = [
  ["red", "green", "blue"],
  ["b04", "b03", "b02"],
  ["b4", "b3", "b2"],
  ["sr_b4", "sr_b3", "sr_b2"],
  ["sr_b3", "sr_b2", "sr_b1"],
  ["b3", "b2", "b1"],
  ["r", "g", "b"],
];
const NEAR_AND_RED = [
  ["b08", "b04"],
  ["b8", "b4"],
  ["nir", "red"],
  ["n", "r"],
  ["sr_b5", "sr_b4"],
];
const [LOW, HIGH] = [0.02, 0.98];
// Brown at -0.2, white at 0.2, green at 1, a stop every 0.1; even steps of lightness in OKLab.
const NDVI_START = -0.2;
const NDVI_STOPS = [
  [107, 62, 18],
  [141, 105, 73],
  [175, 149, 124],
  [210, 195, 178],
  [245, 243, 234],
  [215, 221, 206],
  [186, 200, 180],
  [158, 179, 153],
  [130, 158, 128],
  [102, 138, 103],
  [75, 118, 78],
  [47, 98, 55],
  [11, 79, 31],
];
const NDVI_STEPS = 240;
const BLACK = [0, 0, 0, 255];

/** @typedef {import("./network.js").Network} Network */
/** @typedef {readonly number[]} Shape ends in bands, height, width */
/** @typedef {readonly [number, number]} Limits least and greatest of a band */
/**
 * One model ready to decode. scale: one step of an embedding; codeScale: for a region's own
 * network, one step of the vector with which a row's code begins; codes: the space's fidelity codes,
 * of which is the rest of it; quantiser: whose decoded codes the embeddings are.
 *
 * @typedef {Readonly<{network: Network, scale: number, codeScale: number | null,
 *   codes?: import("./codes.js").Codes | null,
 *   quantiser?: import("./quantisers.js").Quantiser | null}>} Decoder
 */
/**
 * @typedef {Readonly<{embedding: Int8Array | Float32Array, model_id: readonly string[],
 *   code?: readonly (Uint8Array | null)[], datetime?: Float64Array}>} Coded rows that can be decoded
 */

/**
 * Images of rows, in the rows' order. `load` gives the decoder of a model and is asked once for
 * each. Throws what `load` throws.
 *
 * @param {(modelId: string) => Promise<Decoder>} load
 * @param {Coded} rows
 * @param {number} dim
 * @returns {Promise<Float32Array>}
 */
export async function decodeRows(load, rows, dim) {
  const owners = byModel(rows.model_id);
  const decoders = await Promise.all([...owners.keys()].map(load));
  let images = new Float32Array(0);
  for (const [i, chosen] of [...owners.values()].entries()) {
    const found = imagesOf(decoders[i], rows, chosen, dim);
    const pixels = found.length / chosen.length;
    if (!images.length) images = new Float32Array(rows.model_id.length * pixels);
    if (images.length !== rows.model_id.length * pixels) {
      throw new BadInput("decode: expected rows of one space, found chips of two sizes");
    }
    chosen.forEach((row, at) => {
      images.set(found.subarray(at * pixels, (at + 1) * pixels), row * pixels);
    });
  }
  return images;
}

/** Rows of each model. @param {readonly string[]} names @returns {Map<string, number[]>} */
function byModel(names) {
  const found = new Map();
  names.forEach((name, row) => {
    const rows = found.get(name);
    if (rows) rows.push(row);
    else found.set(name, [row]);
  });
  return found;
}

/**
 * Images of the rows of one model, one after another.
 *
 * @param {Decoder} decoder
 * @param {Coded} rows
 * @param {readonly number[]} chosen
 * @param {number} dim
 */
function imagesOf({ network, scale, codeScale, codes, quantiser }, rows, chosen, dim) {
  const texts = codeScale !== null || codes ? chosen.map((row) => codeOf(rows, row)) : [];
  const step = Math.fround(codeScale ?? scale);
  const width = rows.embedding.length / rows.model_id.length;
  const z = new Float32Array(chosen.length * dim);
  chosen.forEach((row, i) => {
    const own = rows.embedding.subarray(row * width, (row + 1) * width);
    const q = codeScale === null ? own : vectorOf(texts[i], dim, !codes);
    const isCode = quantiser && codeScale === null;
    z.set(
      isCode ? quantiser.restore(own) : Float32Array.from(q, (number) => number * step),
      i * dim,
    );
  });
  const images = network.decode(z);
  if (codes) {
    const skip = codeScale === null ? 0 : dim;
    const rest = texts.map((text) => text.subarray(skip));
    apply(codes, images, network.arch, rest, datesOf(rows, chosen, codes));
  }
  return images;
}

/** Dates of rows, where something is coded by date. @param {Coded} rows
 * @param {readonly number[]} chosen @param {import("./codes.js").Codes} codes */
function datesOf({ datetime }, chosen, { place }) {
  if (!place) return [];
  if (datetime) return chosen.map((row) => datetime[row]);
  throw new BadInput(
    "decode: expected the column datetime, by which these rows decode, found none",
  );
}

/** @param {Coded} rows @param {number} row */
function codeOf({ code }, row) {
  if (!code) {
    throw new BadInput(
      "decode: expected the column code, which these rows decode from, found none",
    );
  }
  const bytes = code[row];
  if (bytes) return bytes;
  throw new Damaged("code column: expected a code in every row, found null");
}

/**
 * The int8 vector with which a code begins, or that it is.
 *
 * @param {Uint8Array} code
 * @param {number} dim
 * @param {boolean} alone
 */
function vectorOf(code, dim, alone) {
  if (code.length >= dim && !(alone && code.length > dim)) {
    return Int8Array.from(code.subarray(0, dim));
  }
  throw new Damaged(`code column: expected ${dim} bytes a row of a region's own network`);
}

/**
 * Positions of red, green and blue by name; else the first three, or one thrice.
 *
 * @param {readonly string[]} names
 * @returns {[number, number, number]}
 */
export function visibleBands(names) {
  const plain = names.length >= 3 ? [0, 1, 2] : [0, 0, 0];
  const [red, green, blue] = positions(names, VISIBLE) ?? plain;
  return [red, green, blue];
}

/**
 * Positions of near infrared and red, where the names tell.
 *
 * @param {readonly string[]} names
 * @returns {[number, number] | null}
 */
export function ndviBands(names) {
  const found = positions(names, NEAR_AND_RED);
  return found && [found[0], found[1]];
}

/**
 * Positions of the first set of names that is there whole.
 *
 * @param {readonly string[]} names
 * @param {readonly (readonly string[])[]} sets
 */
function positions(names, sets) {
  const lower = names.map((name) => name.toLowerCase());
  const found = sets.find((set) => set.every((name) => lower.includes(name)));
  return found ? found.map((name) => lower.indexOf(name)) : null;
}

/**
 * The 2nd and 98th percentile of each chosen band over all images, NaN ignored; one stretch for
 * several pictures keeps them comparable.
 *
 * @param {Float32Array} images
 * @param {Shape} shape
 * @param {readonly number[]} bands
 * @returns {Limits[]}
 */
export function stretchLimits(images, shape, bands) {
  return bands.map((band) => {
    const values = bandValues(images, shape, band).filter(Number.isFinite).sort();
    return values.length ? [percentile(values, LOW), percentile(values, HIGH)] : [0, 1];
  });
}

/**
 * One band of all images.
 *
 * @param {Float32Array} images
 * @param {Shape} shape
 * @param {number} band
 */
function bandValues(images, shape, band) {
  const { bands, size } = sizes(shape);
  const found = new Float32Array(images.length / bands);
  for (let image = 0; image * size < found.length; image++) {
    const start = (image * bands + band) * size;
    found.set(images.subarray(start, start + size), image * size);
  }
  return found;
}

/**
 * Between the two values that lie beside the place, as numpy does.
 *
 * @param {Float32Array} sorted
 * @param {number} share
 */
function percentile(sorted, share) {
  const place = share * (sorted.length - 1);
  const below = sorted[Math.floor(place)];
  return below + (sorted[Math.ceil(place)] - below) * (place - Math.floor(place));
}

/**
 * An image stretched to limits, as RGBA; what is no number is black.
 *
 * @param {Float32Array} image
 * @param {Shape} shape
 * @param {readonly number[]} bands red, green and blue
 * @param {readonly Limits[]} limits of each of them
 * @returns {Uint8ClampedArray}
 */
export function picture(image, shape, bands, limits) {
  const { size } = sizes(shape);
  const found = new Uint8ClampedArray(4 * size).fill(255);
  bands.forEach((band, channel) => {
    const [low, high] = limits[channel];
    const span = high > low ? high - low : 1;
    for (let i = 0; i < size; i++) {
      const share = Math.max(0, Math.min(1, (image[band * size + i] - low) / span)) || 0;
      found[4 * i + channel] = Math.floor(share * 255 + 0.5);
    }
  });
  return found;
}

/**
 * NDVI of an image on a ramp from brown (-0.2 and less) by white (0.2) to green (1), as RGBA;
 * what is no number is black.
 *
 * @param {Float32Array} image
 * @param {Shape} shape
 * @param {readonly [number, number]} bands near infrared and red
 * @returns {Uint8ClampedArray}
 */
export function ndviPicture(image, shape, [near, red]) {
  const { size } = sizes(shape);
  const found = new Uint8ClampedArray(4 * size);
  const ramp = Array.from({ length: NDVI_STEPS + 1 }, (_, i) => rampColour(i / NDVI_STEPS));
  for (let i = 0; i < size; i++) {
    const value = ndvi(image[near * size + i], image[red * size + i]);
    const share = (value - NDVI_START) / (1 - NDVI_START);
    const step = Math.round(NDVI_STEPS * Math.max(0, Math.min(1, share)));
    found.set(ramp[step] ?? BLACK, 4 * i);
  }
  return found;
}

/**
 * Where the sum is not positive, the end of -1 to 1 on its side.
 *
 * @param {number} near
 * @param {number} red
 */
function ndvi(near, red) {
  const [gap, sum] = [near - red, near + red];
  return sum > 0 ? gap / sum : Math.sign(gap);
}

/**
 * The ramp at a share of its length, RGBA.
 *
 * @param {number} share
 */
function rampColour(share) {
  const place = share * (NDVI_STOPS.length - 1);
  const below = Math.min(NDVI_STOPS.length - 2, Math.floor(place));
  const [from, to] = [NDVI_STOPS[below], NDVI_STOPS[below + 1]];
  return [...from.map((value, i) => value + (to[i] - value) * (place - below)), 255];
}

/**
 * The rows r0 to r1 and columns c0 to c1 of an image, the ends left out.
 *
 * @param {Float32Array} image
 * @param {Shape} shape
 * @param {readonly [number, number, number, number]} crop r0, r1, c0, c1
 * @returns {{image: Float32Array, shape: [number, number, number]}}
 */
export function cropPixels(image, shape, [r0, r1, c0, c1]) {
  const { bands, height, width } = sizes(shape);
  const across = c1 - c0;
  const found = new Float32Array(bands * (r1 - r0) * across);
  for (let line = 0; line < bands * (r1 - r0); line++) {
    const [band, row] = [Math.floor(line / (r1 - r0)), r0 + (line % (r1 - r0))];
    const start = (band * height + row) * width + c0;
    found.set(image.subarray(start, start + across), line * across);
  }
  return { image: found, shape: [bands, r1 - r0, across] };
}

/** @param {Shape} shape */
function sizes(shape) {
  const [bands, height, width] = shape.slice(-3);
  return { bands, height, width, size: height * width };
}
