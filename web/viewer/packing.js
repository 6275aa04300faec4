/**
 * A decoder in the memory of its kernel: what lies where, and weights in the order in which
 * decode.c reads them. Outputs are padded with zeros to eights, and so are what they feed.
 */

import { blockNames } from "./model.js";

/** @typedef {import("./model.js").Architecture} Architecture */
/** @typedef {Readonly<Record<string, Float32Array>>} Weights */
/** @typedef {Record<string, number>} Numbers by name */
/** @typedef {ReturnType<typeof padded>} Padded */

/** Vectors decoded at once, a multiple of four; maps are of one tile at a time. */
export const BATCH = 16;
/** As TILES in decode.c. */
export const TILES = 16;

/**
 * Sizes as the kernel sees them; cells: patches of a chip, film: numbers of all blocks, patch and
 * head: numbers that a cell and a pixel of a map become.
 *
 * @param {Architecture} a
 */
export function padded(a) {
  const [down, across] = [a.height / a.stride, a.width / a.stride];
  const [dim, basis, channels] = [eights(a.dim), eights(a.basis), eights(a.channels)];
  const [cells, patch] = [down * across, a.bands * a.stride ** 2];
  const film = 2 * a.blocks * channels;
  return { down, across, cells, dim, basis, channels, film, patch, head: patch / 4 };
}

/**
 * Where everything lies, in bytes: weights from `start`, room to work from `work`, until `end`.
 *
 * @param {Architecture} a
 * @param {number} start a multiple of 16
 */
export function layout(a, start) {
  const weights = place(weightLengths(a), start);
  const room = place(workLengths(a), weights.end);
  return Object.freeze({ at: { ...weights.at, ...room.at }, work: weights.end, end: room.end });
}

/**
 * Arrays of so many numbers, one after another: where each lies, in bytes, and where the last ends.
 *
 * @param {Numbers} lengths
 * @param {number} start a multiple of 16
 */
export function place(lengths, start) {
  /** @type {Numbers} */
  const at = {};
  let end = start;
  for (const [name, length] of Object.entries(lengths)) {
    at[name] = end;
    end += 16 * Math.ceil(length / 4);
  }
  return { at, end };
}

/** @param {Architecture} a @returns {Numbers} */
function weightLengths(a) {
  const p = padded(a);
  /** @type {(inputs: number, outputs: number, name: string) => [string, number][]} */
  const mix = (inputs, outputs, name) => [
    [name, inputs * outputs],
    [`${name}_bias`, outputs],
  ];
  return Object.fromEntries([
    ...mix(p.dim, p.cells * p.basis, "dense"),
    ...mix(p.dim, p.film, "film"),
    ...mix(p.basis, p.patch, "patch"),
    ...mix(p.basis, 4 * p.channels, "up"),
    ...mix(p.channels, p.head, "head"),
    ...blockNames(a).flatMap((name) => mix(16 * p.channels, p.channels, name)),
  ]);
}

/** @param {Architecture} a @returns {Numbers} */
function workLengths(a) {
  const p = padded(a);
  const cells = 4 * Math.ceil(p.cells / 4);
  const map = mapLength(p.down, p.across, p.channels);
  return {
    z: BATCH * p.dim,
    f: (BATCH * p.cells + 3) * p.basis,
    m: BATCH * p.film,
    coarse: cells * p.patch,
    upper: cells * 4 * p.channels,
    g: map,
    t: map,
    scratch: 2 * 16 * TILES * p.channels,
    flat: 4 * p.cells * p.channels,
    fine: 4 * p.cells * p.head,
    gain: a.bands,
    bias: a.bands,
    image: a.bands * a.height * a.width,
  };
}

/** Numbers of a map with its frame. @type {(down: number, across: number, k: number) => number} */
export const mapLength = (down, across, k) => (2 * down + 2) * (2 * across + 2) * k;

/**
 * The weights of a backbone, packed; `film_bias` is left to `packFilm`.
 *
 * @param {Architecture} a
 * @param {Weights} weights
 * @param {(name: string, length: number) => Float32Array} room zeros to fill, by name
 */
export function pack(a, weights, room) {
  const p = padded(a);
  const lengths = weightLengths(a);
  /** @type {(name: string, inputs: number, place: Place) => void} */
  const mix = (name, inputs, place) => {
    packMatrix(weights[name], inputs, place, room(name, lengths[name]));
    packVector(weights[`${name}_bias`], place, room(`${name}_bias`, lengths[`${name}_bias`]));
  };
  mix("dense", a.dim, (row) => (row % p.cells) * p.basis + Math.floor(row / p.cells));
  packMatrix(weights.film, a.dim, filmPlace(a), room("film", lengths.film));
  mix("patch", a.basis, same);
  mix("up", a.basis, (row) => (row % 4) * p.channels + (row >> 2));
  mix("head", a.channels, same);
  for (const name of blockNames(a)) {
    packKernel(weights[name], a.channels, room(name, lengths[name]));
    packVector(weights[`${name}_bias`], same, room(`${name}_bias`, lengths[`${name}_bias`]));
  }
}

/** @typedef {(row: number) => number} Place of a row of weights among the padded outputs */

/** @type {Place} */
const same = (row) => row;

/** The place of a row of film. @param {Architecture} a @returns {Place} */
export function filmPlace({ channels }) {
  const k = eights(channels);
  return (row) => Math.floor(row / channels) * k + (row % channels);
}

/**
 * @param {ArrayLike<number>} vector
 * @param {Place} place
 * @param {Float32Array} to
 */
export function packVector(vector, place, to) {
  for (let row = 0; row < vector.length; row++) to[place(row)] = vector[row];
}

/**
 * For every eight outputs, for every input, eight numbers.
 *
 * @param {Float32Array} matrix (outputs, inputs)
 * @param {number} inputs
 * @param {Place} place
 * @param {Float32Array} to
 */
function packMatrix(matrix, inputs, place, to) {
  const step = 8 * eights(inputs);
  for (let row = 0; row * inputs < matrix.length; row++) {
    const out = place(row);
    const at = (out >> 3) * step + (out & 7);
    for (let i = 0; i < inputs; i++) to[at + 8 * i] = matrix[row * inputs + i];
  }
}

/**
 * A 3 x 3 convolution (outputs, inputs, 3, 3) as 16 matrices, see decode.c.
 *
 * @param {Float32Array} kernel
 * @param {number} inputs
 * @param {Float32Array} to
 */
export function packKernel(kernel, inputs, to) {
  const [apart, step] = [to.length / 16, 8 * eights(inputs)];
  const found = new Float64Array(16);
  for (let pair = 0; 9 * pair < kernel.length; pair++) {
    sixteen(kernel.subarray(9 * pair, 9 * pair + 9), found);
    const [out, input] = [Math.floor(pair / inputs), pair % inputs];
    const at = (out >> 3) * step + 8 * input + (out & 7);
    for (let i = 0; i < 16; i++) to[i * apart + at] = found[i];
  }
}

// G of F(2 x 2, 3 x 3): how 3 numbers become 4.
const G = [
  [1, 0, 0],
  [0.5, 0.5, 0.5],
  [0.5, -0.5, 0.5],
  [0, 0, 1],
];

/**
 * G g G': what becomes of 3 x 3 weights.
 *
 * @param {Float32Array} g
 * @param {Float64Array} to 4 x 4
 */
function sixteen(g, to) {
  for (let i = 0; i < 16; i++) {
    const [a, b] = [G[i >> 2], G[i & 3]];
    let sum = 0;
    for (let j = 0; j < 9; j++) sum += a[Math.floor(j / 3)] * g[j] * b[j % 3];
    to[i] = sum;
  }
}

/** @param {number} n */
export function eights(n) {
  return 8 * Math.ceil(n / 8);
}
