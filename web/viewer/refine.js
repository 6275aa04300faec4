/**
 * A small network that mends a coded picture, step by step in WebAssembly: what transform codes lose is
 * foretold from what is left, as learned filters behind video codecs do (Dong et al. 2015).
 */

import { kernel } from "./kernels.js";
import { eights, mapLength, packKernel, packVector, place, TILES } from "./packing.js";

const [BLOCKS, STRIDE] = [2, 2];
export const WIDTHS = Object.freeze([64, 48, 32, 24, 16, 8]);
const CONVOLUTIONS = ["in", "block0.a", "block0.b", "block1.a", "block1.b", "out"];

/**
 * What fixes every tensor: bands, height and width of the pictures, both even, channels inside.
 *
 * @typedef {Readonly<{bands: number, height: number, width: number, channels: number}>} Shape
 * @typedef {Readonly<Record<string, Float32Array>>} Weights
 */

/** Names and shapes. @param {Shape} shape @returns {import("./model.js").Shapes} */
export function tensors({ bands, channels: k }) {
  const outer = bands * STRIDE ** 2;
  /** @type {import("./model.js").Shapes} */
  const found = { mean: [bands], std: [bands], noise: [1] };
  for (const name of CONVOLUTIONS) {
    const outputs = name === "out" ? outer : k;
    found[name] = [outputs, name === "in" ? outer : k, 3, 3];
    found[`${name}_bias`] = [outputs];
  }
  return found;
}

/** Multiply-adds of one picture. @param {Shape} shape */
export function multiplyAdds({ bands, height, width, channels: k }) {
  const outer = bands * STRIDE ** 2;
  return ((height * width) / STRIDE ** 2) * 9 * k * (2 * outer + 2 * BLOCKS * k);
}

/**
 * Mend pictures (n, bands, height, width), recipe units, in place.
 *
 * @param {Weights} weights
 * @param {Shape} shape
 * @param {Float32Array} images
 */
export function refine(weights, shape, images) {
  if (resident?.weights !== weights) {
    resident = { weights, shape, at: placed(weights, shape), places: placesOf(shape) };
  }
  const size = shape.bands * shape.height * shape.width;
  for (let start = 0; start < images.length; start += size) {
    mend(resident, images.subarray(start, start + size));
  }
}

/**
 * at: where everything lies in the kernel's memory; places: of pixels in maps.
 *
 * @typedef {{weights: Weights, shape: Shape, at: Record<string, number>, places: Int32Array}} Resident
 */

/** The network in the kernel's memory. @type {Resident | null} */
let resident = null;

/**
 * Sizes as the kernel sees them; a map that has an odd side gets one row or column more.
 *
 * @param {Shape} shape
 */
function padded({ bands, height, width, channels }) {
  const [rows, columns] = [height / STRIDE, width / STRIDE];
  const [down, across] = [Math.ceil(rows / 2), Math.ceil(columns / 2)];
  return { rows, columns, down, across, outer: eights(bands * STRIDE ** 2), k: eights(channels) };
}

/** Where everything lies, with the weights there and the rest zero. @type {(weights: Weights,
 *   shape: Shape) => Record<string, number>} */
function placed(weights, shape) {
  const memory = kernel("refine");
  const { at, end } = place(lengths(shape), memory.start);
  memory.reach(end);
  resident = null;
  memory.bytes(memory.start, end - memory.start).fill(0);
  for (const [name, [outputs, inputs]] of Object.entries(tensors(shape))) {
    if (!CONVOLUTIONS.includes(name)) continue;
    const length = 16 * eights(inputs) * eights(outputs);
    packKernel(weights[name], inputs, memory.floats(at[name], length));
    packVector(weights[`${name}_bias`], (row) => row, memory.floats(at[`${name}_bias`], outputs));
  }
  return at;
}

/** Numbers of everything, by name: weights, then maps. @param {Shape} shape */
function lengths(shape) {
  const { down, across, outer, k } = padded(shape);
  const weights = CONVOLUTIONS.flatMap((name) => {
    const [inputs, outputs] = [name === "in" ? outer : k, name === "out" ? outer : k];
    return [
      [name, 16 * inputs * outputs],
      [`${name}_bias`, outputs],
    ];
  });
  const [outside, inside] = [outer, k].map((channels) => mapLength(down, across, channels));
  const maps = { x: outside, g: inside, bent: inside, t: inside, y: outside };
  const scratch = 16 * TILES * (k + Math.max(k, outer));
  return { ...Object.fromEntries(weights), ...maps, scratch };
}

/** @param {Resident} resident @param {Float32Array} image */
function mend({ weights, shape, at, places }, image) {
  const { rows, columns, down, across, outer, k } = padded(shape);
  const memory = kernel("refine");
  const { conv, bend } = memory.steps;
  /** @type {(from: string, name: string, to: string) => void} */
  const add = (from, name, to) => {
    const [inputs, outputs] = [name === "in" ? outer : k, name === "out" ? outer : k];
    const [kernels, bias] = [at[name], at[`${name}_bias`]];
    conv(at[from], down, across, inputs, outputs, kernels, bias, 0, at.scratch, at[to]);
  };
  /** @type {(map: string, channels: number) => Float32Array} */
  const map = (name, channels) => memory.floats(at[name], mapLength(down, across, channels));
  const x = map("x", outer);
  const y = map("y", outer);
  const size = shape.height * shape.width;
  weights.mean.forEach((mean, band) => {
    const std = weights.std[band];
    for (let i = band * size; i < (band + 1) * size; i++) x[places[i]] = (image[i] - mean) / std;
  });
  map("g", k).fill(0);
  add("x", "in", "g");
  for (let i = 0; i < BLOCKS; i++) {
    map("t", k).fill(0);
    bend(at.g, across, k, rows, columns, at.bent);
    add("bent", `block${i}.a`, "t");
    bend(at.t, across, k, rows, columns, at.bent);
    add("bent", `block${i}.b`, "g");
  }
  bend(at.g, across, k, rows, columns, at.bent);
  y.fill(0);
  add("bent", "out", "y");
  const [noise] = weights.noise;
  for (let i = 0; i < image.length; i++) image[i] += noise * y[places[i]];
}

/**
 * Where each pixel of an image lies in a map of its 2 x 2 patches.
 *
 * @param {Shape} shape
 */
function placesOf(shape) {
  const { bands, height, width } = shape;
  const { across, outer } = padded(shape);
  const found = new Int32Array(bands * height * width);
  for (let band = 0, pixel = 0; band < bands; band++) {
    for (let row = 0; row < height; row++) {
      for (let column = 0; column < width; column++) {
        const cell = ((row >> 1) + 1) * (2 * across + 2) + (column >> 1) + 1;
        found[pixel++] = cell * outer + 4 * band + 2 * (row & 1) + (column & 1);
      }
    }
  }
  return found;
}
