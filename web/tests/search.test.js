import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, test } from "node:test";
import { BadInput } from "../viewer/errors.js";
import { loadKernels } from "../viewer/kernels.js";
import { simHashFromJson } from "../viewer/quantize.js";
import { best, least, makeQuery, shortlist } from "../viewer/search.js";

const golden = JSON.parse(
  await readFile(new URL("../../tests/golden/search.json", import.meta.url), "utf8"),
);
const table = {
  geohash: golden.geohash,
  bits: new Uint8Array(Buffer.from(golden.bits, "base64")),
  embedding: new Int8Array(Buffer.from(golden.embedding, "base64")),
};
const simhash = simHashFromJson(golden.simhash, golden.dim, golden.simhash.bits);
const exemplars = golden.exemplars.map((/** @type {number[]} */ one) => Int8Array.from(one));

before(() => loadKernels((name) => readFile(new URL(`../viewer/${name}`, import.meta.url))));

/**
 * The hits of a ranking: row, score, Hamming number.
 *
 * @param {{geohash: string[], bits: Uint8Array, embedding: Int8Array}} rows
 * @param {import("../viewer/search.js").Query} query
 * @param {import("../viewer/search.js").Encoder | null} encoder
 * @param {number} scale
 */
function rank(rows, query, encoder, scale) {
  const dim = query.positives[0].length;
  const { index, hamming } = shortlist(rows, query, encoder);
  const vectors = new Int8Array(index.length * dim);
  index.forEach((row, at) =>
    vectors.set(rows.embedding.subarray(row * dim, row * dim + dim), at * dim),
  );
  const geohash = Array.from(index, (row) => rows.geohash[row]);
  const { chosen, score } = best(geohash, vectors, query, scale);
  return Array.from(chosen, (at, i) => [index[at], score[i], hamming ? hamming[at] : null]);
}

/** @param {Record<string, any>} asked as in the golden file */
function queryOf({ like, unlike = [], per_place: perPlace, k, op, invert, exact, exclude }) {
  const [positives, negatives] = [like, unlike].map((some) =>
    some.map((/** @type {number} */ i) => exemplars[i]),
  );
  return makeQuery({ positives, negatives, perPlace, k, op, invert, exact, exclude });
}

for (const { hits, bits = true, ...asked } of golden.cases) {
  test(`hits are those of Python: ${JSON.stringify(asked).slice(0, 120)}`, () => {
    assert.deepEqual(rank(table, queryOf(asked), bits ? simhash : null, golden.scale), hits);
  });
}

test("heat has the least Hamming number of each candidate place", () => {
  const query = queryOf({ like: [0, 1], exclude: [table.geohash[0]] });
  const { heat, candidates } = shortlist(table, query, simhash);
  assert.ok(heat);
  assert.deepEqual(heat.geohash, [...new Set(table.geohash)].slice(1));
  assert.equal(
    candidates,
    table.geohash.filter((/** @type {string} */ name) => name !== table.geohash[0]).length,
  );
  const all = rank(table, queryOf({ like: [0, 1], k: 1000, per_place: 0 }), simhash, 1);
  for (const [at, name] of heat.geohash.entries()) {
    const own = all.filter(([row]) => table.geohash[Number(row)] === name);
    assert.equal(heat.value[at], Math.min(...own.map(([, , votes]) => Number(votes))));
  }
});

test("the least values are those of a sort, ties by position", () => {
  let seed = 1;
  const random = () => (seed = (seed * 48_271) % 2_147_483_647);
  for (let turn = 0; turn < 300; turn++) {
    const values = Int32Array.from({ length: random() % 60 }, () => (random() % 9) - 4);
    const count = random() % 70;
    const order = Array.from(values.keys()).sort((a, b) => values[a] - values[b] || a - b);
    assert.deepEqual(
      [...least(values, count)],
      order.slice(0, count).sort((a, b) => a - b),
    );
  }
});

test("options that cannot be are refused", () => {
  const like = [0];
  for (const [options, message] of /** @type {[object, RegExp][]} */ ([
    [{ like, k: 0 }, /k must be at least 1, found 0/],
    [{ like, k: 2.5 }, /k must be at least 1, found 2.5/],
    [{ like, op: "max" }, /op must be one of mean, min, found 'max'/],
    [{ like, per_place: 2 }, /per_place must be 0 or 1, found 2/],
    [{ like: [] }, /expected at least one exemplar in like/],
  ])) {
    assert.throws(
      () => queryOf(options),
      (error) => error instanceof BadInput && message.test(error.message),
    );
  }
  const short = { positives: [exemplars[0]], negatives: [new Int8Array(3)] };
  assert.throws(() => makeQuery(short), /vectors of one length, found 16, 3/);
});

test("fifty thousand rows rank in a blink", () => {
  const n = 50_000;
  const geohash = Array.from({ length: n }, (_, row) => (row >> 1).toString(36).padStart(6, "0"));
  const embedding = Int8Array.from({ length: n * 64 }, (_, i) => ((i * 2_654_435_761) >>> 8) & 127);
  const bits = Uint8Array.from({ length: n * 16 }, (_, i) => ((i * 40_503) >>> 3) & 255);
  const planes = Buffer.from(embedding.slice(0, 128 * 64)).toString("base64");
  const encoder = simHashFromJson(
    { bits: 128, dim: 64, planes, offsets: new Array(128).fill(260_000) },
    64,
    128,
  );
  const query = makeQuery({ positives: [embedding.slice(64, 128)], k: 50 });
  rank({ geohash, bits, embedding }, query, encoder, 1);
  const began = performance.now();
  const found = rank({ geohash, bits, embedding }, query, encoder, 1);
  const spent = performance.now() - began;
  console.log(`ranking ${n} rows: ${spent.toFixed(1)} ms`);
  assert.equal(found.length, 50);
  // the limit only catches a change of order
  assert.ok(spent < 500);
});
