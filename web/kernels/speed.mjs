/**
 * How fast the kernels are: `node web/kernels/speed.mjs`.
 *
 * The cases are functions, so that a page can run them too; compare numbers of one run only.
 */

import { architecture, shapes } from "../viewer/model.js";
import { Network } from "../viewer/network.js";
import { Codes } from "../viewer/quantize.js";

const CHIP = { bands: 4, height: 64, width: 64, dim: 64 };
const LAYERS = { style: 8, basis: 48, channels: 32, blocks: 2, stride: 8 };
const ONES = Uint8Array.from({ length: 256 }, (_, byte) => onesOf(byte));

/** @typedef {Record<string, () => ArrayLike<number>>} Cases what to time; `kernel` is ours */

/** Distances of n codes of width bytes (a multiple of 4) to the first of them, all into one array
 * that is there already. @returns {Cases} */
export function hammingCases(n, width) {
  const codes = new Codes(n, width);
  codes.bytes.set(randomBytes(n * width));
  const bytes = codes.bytes.slice();
  const words = new Uint32Array(bytes.buffer);
  const rows = Array.from({ length: n }, (_, row) => bytes.slice(row * width, (row + 1) * width));
  const found = new Uint16Array(n);
  return {
    kernel: () => codes.distances(rows[0], found),
    "Uint32Array in JavaScript": () => byWords(words, words.subarray(0, width / 4), found),
    "byte table over n arrays": () => byTable(rows, rows[0], found),
  };
}

/** Decoding n vectors of the usual network. @returns {Cases} */
export function decodeCases(n) {
  const arch = architecture({ ...CHIP, ...LAYERS });
  const weights = Object.fromEntries(
    Object.entries(shapes(arch, "backbone")).map(([name, [rows, ...rest]]) => {
      const inputs = rest.reduce((a, b) => a * b, 1);
      return [name, randomFloats(rows * inputs, 1 / Math.sqrt(inputs))];
    }),
  );
  const [network, z] = [new Network(arch, weights, null), randomFloats(n * arch.dim, 3)];
  return { kernel: () => network.decode(z) };
}

/** The median of several runs of each case, milliseconds; cases take turns. */
export function medians(cases, runs = 9) {
  const times = Object.fromEntries(Object.keys(cases).map((name) => [name, []]));
  for (const run of Object.values(cases)) run();
  for (let i = 0; i < runs; i++) {
    for (const [name, run] of Object.entries(cases)) {
      const start = performance.now();
      run();
      times[name].push(performance.now() - start);
    }
  }
  const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];
  return Object.fromEntries(Object.entries(times).map(([name, values]) => [name, middle(values)]));
}

function byWords(words, query, found) {
  const width = query.length;
  for (let row = 0, at = 0; row < found.length; row++) {
    let sum = 0;
    for (let i = 0; i < width; i++, at++) sum += onesOf(words[at] ^ query[i]);
    found[row] = sum;
  }
  return found;
}

function onesOf(word) {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}

function byTable(rows, query, found) {
  for (let at = 0; at < rows.length; at++) {
    const row = rows[at];
    let sum = 0;
    for (let i = 0; i < row.length; i++) sum += ONES[row[i] ^ query[i]];
    found[at] = sum;
  }
  return found;
}

function randomBytes(n) {
  const found = new Uint8Array(n);
  let state = 1;
  for (let i = 0; i < n; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    found[i] = state >>> 24;
  }
  return found;
}

function randomFloats(n, spread) {
  return Float32Array.from(randomBytes(n), (byte) => (byte / 128 - 1) * spread);
}

function report(title, times) {
  console.log(title);
  for (const [name, time] of Object.entries(times)) {
    const ratio = (time / times.kernel).toFixed(1);
    console.log(`  ${time.toFixed(2).padStart(9)} ms  ${ratio.padStart(6)} x  ${name}`);
  }
}

async function main() {
  const { readFile } = await import("node:fs/promises");
  const { loadKernels } = await import("../viewer/kernels.js");
  await loadKernels((name) => readFile(new URL(`../viewer/${name}`, import.meta.url)));
  for (const width of [16, 128]) {
    const times = medians(hammingCases(1_000_000, width));
    report(`distances of 1,000,000 codes of ${8 * width} bits`, times);
  }
  report("64 tiles of 4 x 64 x 64 decoded", medians(decodeCases(64), 25));
}

if (globalThis.process?.argv[1]?.endsWith("speed.mjs")) await main();
