// Times the page's kernels beside what others do, in one worker, one after the other.

import * as ort from "./ort/ort.wasm.min.mjs";
import { openArchive } from "./viewer/archive.js";
import { loadKernels } from "./viewer/kernels.js";
import { Codes } from "./viewer/quantize.js";

const ROWS = 1_000_000;
const TILES = 64;
const TIMES = 7;

run().then((found) => postMessage(found), (error) => postMessage({ error: String(error.stack ?? error) }));

async function run() {
  await loadKernels();
  const rows = [];
  for (const bits of [128, 1024]) rows.push(...hamming(bits));
  rows.push(...(await decoding()));
  return { rows };
}

/** Milliseconds: the median of several runs. @param {() => any} work */
async function timed(work) {
  await work();
  const found = [];
  for (let i = 0; i < TIMES; i++) {
    const began = performance.now();
    await work();
    found.push(performance.now() - began);
  }
  return found.sort((a, b) => a - b)[TIMES >> 1];
}

function timedNow(work) {
  work();
  const found = [];
  for (let i = 0; i < TIMES; i++) {
    const began = performance.now();
    work();
    found.push(performance.now() - began);
  }
  return found.sort((a, b) => a - b)[TIMES >> 1];
}

/** One query against a million codes, three ways. */
function hamming(bits) {
  postMessage({ step: `hamming ${bits}` });
  const width = bits / 8;
  const codes = new Codes(ROWS, width);
  let state = 1;
  const words = new Uint32Array(codes.bytes.buffer, codes.bytes.byteOffset, (ROWS * width) / 4);
  for (let i = 0; i < words.length; i++) words[i] = state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  const copy = words.slice();
  const query = codes.bytes.slice(0, width);
  const ours = timedNow(() => codes.distances(query));
  const expected = codes.distances(query);

  const wanted = new Uint32Array(query.buffer);
  const plain = timedNow(() => plainWords(copy, wanted));
  same(expected, plainWords(copy, wanted));

  const bytes = new Uint8Array(copy.buffer);
  const apart = Array.from({ length: ROWS }, (_, i) => bytes.slice(i * width, (i + 1) * width));
  const table = Uint8Array.from({ length: 256 }, (_, i) => popcount(i));
  const loop = timedNow(() => byteTable(apart, query, table));
  same(expected, byteTable(apart, query, table));
  codes.free();
  const metric = `Hamming, 1M codes of ${bits} bits`;
  return [
    { metric, value: ours, baseline: plain, "baseline is": "plain JavaScript on Uint32Array", unit: "ms" },
    { metric, value: ours, baseline: loop, "baseline is": "byte table over separate arrays", unit: "ms" },
  ];
}

function plainWords(codes, query) {
  const width = query.length;
  const found = new Uint16Array(codes.length / width);
  for (let row = 0, at = 0; row < found.length; row++) {
    let total = 0;
    for (let i = 0; i < width; i++) total += popcount(codes[at++] ^ query[i]);
    found[row] = total;
  }
  return found;
}

function byteTable(codes, query, table) {
  const found = new Uint16Array(codes.length);
  for (let row = 0; row < codes.length; row++) {
    const code = codes[row];
    let total = 0;
    for (let i = 0; i < code.length; i++) total += table[code[i] ^ query[i]];
    found[row] = total;
  }
  return found;
}

function popcount(x) {
  x -= (x >>> 1) & 0x55555555;
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return (Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24);
}

function same(a, b) {
  if (a.some((value, i) => value !== b[i])) throw new Error("the ways to count differ");
}

/** 64 tiles of one region, by the page's kernel and by onnxruntime-web. */
async function decoding() {
  postMessage({ step: "decoding" });
  const root = new URL("./archive/", import.meta.url);
  const archive = await openArchive(root);
  const all = await archive.select({ columns: ["embedding", "model_id", "code"] });
  const model = all.model_id[0];
  const { network, scale, adapter } = await archive.models.decoder(model);
  const { dim } = archive.settings;
  const z = new Float32Array(TILES * dim);
  const chosen = all.model_id.flatMap((one, i) => (one === model ? [i] : []));
  for (let t = 0; t < TILES; t++) {
    const row = chosen[t % chosen.length];
    for (let i = 0; i < dim; i++) z[t * dim + i] = all.embedding[row * dim + i] * scale;
  }
  const ours = await timed(() => network.decode(z));

  postMessage({ step: "onnxruntime-web" });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const space = archive.space();
  const session = await ort.InferenceSession.create(new URL(`models/${space.onnx}.onnx`, root).href);
  const feeds = { embedding: new ort.Tensor("float32", z, [TILES, dim]) };
  for (const [name, values] of Object.entries(adapter)) {
    feeds[name] = new ort.Tensor("float32", values, [values.length]);
  }
  const theirs = await timed(() => session.run(feeds));
  const expected = (await session.run(feeds)).image.data;
  const found = network.decode(z);
  const worst = found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
  const size = expected.length / TILES;
  const of = `${space.architecture.bands} x ${space.architecture.height} x ${space.architecture.width}`;
  if (size === 0) throw new Error("nothing was decoded");
  return [
    { metric: `decode of ${TILES} tiles, ${of}`, value: ours, baseline: theirs, "baseline is": "onnxruntime-web 1.30, one thread", unit: "ms" },
    { metric: "largest difference of a decoded pixel", value: worst, baseline: 1e-3, "baseline is": "allowed", unit: archive.settings.units },
  ];
}
