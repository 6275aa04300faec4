/** Kernels as files, and networks with the random weights of tests/golden/model.py. */

import { readFile } from "node:fs/promises";
import { loadKernels } from "../viewer/kernels.js";
import { shapes } from "../viewer/model.js";

/** @typedef {import("../viewer/model.js").Architecture} Architecture */

/** Load the kernels from the folder of the page. */
export function kernelsFromFiles() {
  return loadKernels((name) => readFile(new URL(`../viewer/${name}`, import.meta.url)));
}

/**
 * A golden file.
 *
 * @param {string} topic
 * @returns {Promise<any>}
 */
export async function golden(topic) {
  const path = new URL(`../../tests/golden/${topic}.json`, import.meta.url);
  return JSON.parse(await readFile(path, "utf8"));
}

/**
 * n numbers, multiples of 1/128 from -1 to 1.
 *
 * @param {number} seed
 * @param {number} n
 * @returns {Float32Array}
 */
export function randomNumbers(seed, n) {
  let state = seed;
  return Float32Array.from({ length: n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state >>> 24) / 128 - 1;
  });
}

/**
 * @param {Architecture} arch
 * @param {string} kind
 * @param {number} seed
 * @returns {Record<string, Float32Array>}
 */
export function randomWeights(arch, kind, seed) {
  const tensors = Object.entries(shapes(arch, kind)).map(([name, shape], number) => {
    const inputs = shape.slice(1).reduce((a, b) => a * b, 1);
    const values = randomNumbers(1000 * seed + number, shape[0] * inputs);
    const spread = 2 ** Math.round(Math.log2(1.2 / Math.sqrt(inputs)));
    const positive = ["std", "z_scale", "gain"].includes(name);
    return [name, values.map((value) => (positive ? 1 + value / 2 : value * spread))];
  });
  return Object.fromEntries(tensors);
}

/**
 * Weights as a safetensors file of float32.
 *
 * @param {Architecture} arch
 * @param {string} kind
 * @param {Record<string, Float32Array>} weights
 * @returns {Uint8Array}
 */
export function safetensors(arch, kind, weights) {
  /** @type {Record<string, object>} */
  const header = {};
  let end = 0;
  for (const [name, shape] of Object.entries(shapes(arch, kind))) {
    const start = end;
    end += weights[name].byteLength;
    header[name] = { dtype: "F32", shape, data_offsets: [start, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
  const data = Object.keys(header).map((name) => new Uint8Array(weights[name].buffer));
  return new Uint8Array(Buffer.concat([length, text, ...data]));
}
