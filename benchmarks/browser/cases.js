// Times the page's kernels beside what others do, in one worker, one after the other.

import { hammingCases, medians } from "./kernels/speed.mjs";
import * as ort from "./ort/ort.wasm.min.mjs";
import { openArchive } from "./viewer/archive.js";
import { loadKernels } from "./viewer/kernels.js";
import { apply, loadLayer } from "./viewer/layer.js";

const ROWS = 1_000_000;
const TILES = 64;
const BATCH = 12;
const TIMES = 7;

run().then(
  (rows) => postMessage({ rows }),
  (error) => postMessage({ error: String(error.stack ?? error) }),
);

async function run() {
  await loadKernels();
  return [...hamming(128), ...hamming(1024), ...(await decoding()), ...(await coding())];
}

/** One query against a million codes, three ways that must agree. */
function hamming(bits) {
  postMessage({ step: `hamming ${bits}` });
  const cases = hammingCases(ROWS, bits / 8);
  const { kernel: value, ...others } = medians(cases, TIMES);
  const expected = cases.kernel().slice();
  return Object.entries(others).map(([name, baseline]) => {
    const found = cases[name]();
    if (expected.some((one, row) => one !== found[row])) throw new Error(`${name} differs`);
    const metric = `Hamming, 1M codes of ${bits} bits`;
    return { metric, value, baseline, "baseline is": name, unit: "ms" };
  });
}

/** 64 tiles of one region of an archive, by the page's kernel and by onnxruntime-web. */
async function decoding() {
  postMessage({ step: "decoding" });
  const root = new URL("./archive/", import.meta.url);
  const archive = await openArchive(root);
  const rows = await archive.select({ columns: ["embedding", "model_id"] });
  const [model] = rows.model_id;
  const { network, scale } = await archive.models.decoder(model);
  const own = rows.model_id.flatMap((one, row) => (one === model ? [row] : []));
  const { dim } = archive.settings;
  const z = Float32Array.from({ length: TILES * dim }, (_, i) => {
    const row = own[Math.floor(i / dim) % own.length];
    return rows.embedding[row * dim + (i % dim)] * scale;
  });

  postMessage({ step: "onnxruntime-web" });
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmPaths = new URL("./ort/", import.meta.url).href;
  const space = archive.space();
  const session = await ort.InferenceSession.create(new URL(`models/${space.onnx}.onnx`, root).href);
  // In batches, as the page decodes.
  const batches = [];
  for (let at = 0; at < z.length; at += BATCH * dim) batches.push(z.slice(at, at + BATCH * dim));
  const adapter = Object.fromEntries(
    Object.entries(network.adapter).map(([name, values]) => [
      name,
      new ort.Tensor("float32", values, [values.length]),
    ]),
  );
  const theirs = async (batch) => {
    const embedding = new ort.Tensor("float32", batch, [batch.length / dim, dim]);
    return (await session.run({ embedding, ...adapter })).image.data;
  };
  const times = { ours: [], theirs: [] };
  for (let i = 0; i <= TIMES; i++) {
    const began = performance.now();
    for (const batch of batches) network.decode(batch);
    const between = performance.now();
    for (const batch of batches) await theirs(batch);
    times.ours.push(between - began);
    times.theirs.push(performance.now() - between);
  }
  const middle = (values) => values.slice(1).sort((a, b) => a - b)[TIMES >> 1];
  const pixels = await theirs(z);
  const worst = network
    .decode(z)
    .reduce((most, value, i) => Math.max(most, Math.abs(value - pixels[i])), 0);
  const { bands, height, width } = space.architecture;
  if (pixels.length !== TILES * bands * height * width) throw new Error("not all was decoded");
  return [
    {
      metric: `decode of ${TILES} tiles of ${bands} x ${height} x ${width}`,
      value: middle(times.ours),
      baseline: middle(times.theirs),
      "baseline is": "onnxruntime-web 1.30, one thread",
      unit: "ms",
    },
    {
      metric: "largest difference of a decoded pixel",
      value: worst,
      baseline: 1e-3,
      "baseline is": "allowed, to onnxruntime-web",
      unit: archive.settings.units,
    },
  ];
}

/** Streams of the fidelity code to pixels, which must be Python's: to the last bit without a filter. */
async function coding() {
  postMessage({ step: "fidelity code" });
  const response = await fetch(new URL("./codes.json", import.meta.url));
  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return (await response.json()).map(({ chip, filtered, layer, streams, pixels, ms }) => {
    const [made, codes] = [loadLayer(bytes(layer), chip), streams.map(bytes)];
    const expected = new Float32Array(bytes(pixels).buffer);
    const found = new Float32Array(expected.length);
    const { kernel: value } = medians({ kernel: () => apply(made, found, chip, codes) }, TIMES);
    const most = filtered ? 1e-2 : 0;
    if (found.some((one, i) => !(Math.abs(one - expected[i]) <= most))) {
      throw new Error("fidelity code: pixels differ");
    }
    const { bands, height, width } = chip;
    const what = filtered ? " and filter" : "";
    return {
      metric: `fidelity code${what}, ${TILES} tiles of ${bands} x ${height} x ${width}`,
      value,
      baseline: ms,
      "baseline is": "Python with numpy",
      unit: "ms",
    };
  });
}
