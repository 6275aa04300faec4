import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { join } from "node:path";
import { test } from "node:test";
import { blockDigests } from "../viewer/digests.js";
import { BadInput, Damaged, GenerationExpired } from "../viewer/errors.js";
import { makeFilter } from "../viewer/filters.js";
import { MAX_HEAD } from "../viewer/heads.js";
import { Cache, Held, Once } from "../viewer/held.js";
import { Reader } from "../viewer/reader.js";
import { pageIndex, pagesWith, readPages } from "../viewer/parquet.js";
import { planOf } from "../viewer/reads.js";
import { compareTexts, merge, take } from "../viewer/rows.js";
import { parseFooter } from "../viewer/shards.js";
import { Store } from "../viewer/store.js";
import { bytesOf, GOLDEN } from "./faults.js";
import { bytesFetch, ROOT } from "./folders.js";

const BLOCK = 16_384;
const LENGTH = 3_000_000;

/**
 * A head with ranges of an object.
 *
 * @param {Uint8Array} data
 * @param {[number, number][]} ranges
 */
function packed(data, ranges) {
  const table = new DataView(new ArrayBuffer(4 + 16 * ranges.length));
  table.setUint32(0, ranges.length, true);
  ranges.flat().forEach((at, i) => table.setBigUint64(4 + 8 * i, BigInt(at), true));
  const pieces = ranges.map(([start, end]) => data.subarray(start, end));
  return Buffer.concat([Buffer.from(table.buffer), ...pieces]);
}

/**
 * A shard of so many bytes that are no Parquet, and where they are kept.
 *
 * @param {(data: Uint8Array) => Uint8Array} [head] what follows the digests
 */
async function someShard(head = () => new Uint8Array(0)) {
  const data = new Uint8Array(LENGTH).map((_, i) => (i * 2_654_435_761) >>> 24);
  const outboard = Buffer.concat([await blockDigests(data), head(data)]);
  const [sha256, blocks] = [data, outboard].map((some) =>
    createHash("sha256").update(some).digest("hex"),
  );
  const objects = new Map([
    [`embeddings/gh=u/${sha256}.parquet`, data],
    [`blocks/${blocks}`, new Uint8Array(outboard)],
  ]);
  const { fetch, asked } = bytesFetch((path) => objects.get(path) ?? null);
  /** @type {any} */
  const shard = {
    sha256,
    prefix: "u",
    length: LENGTH,
    blocks,
    footer_length: 9,
    rows: 9,
    space_id: "s",
  };
  return { data, shard, asked, objects, store: new Store(ROOT, { fetch, deadline: 0.2 }) };
}

test("ranges that lie close are one request, and asking twice costs none", async () => {
  const { data, shard, asked, store } = await someShard();
  const held = new Held(store);
  const ranges = /** @type {[number, number][]} */ ([
    [100, 200],
    [200_000, 200_010],
    [2_000_000, 2_050_000],
  ]);
  for (let turn = 0; turn < 2; turn++) {
    const bytesAt = await held.ranges(shard, ranges);
    for (const [start, end] of ranges)
      assert.deepEqual(bytesAt(start, end), data.slice(start, end));
  }
  assert.equal(asked.length, 3);
  assert.match(asked[0], /^blocks/);
  assert.deepEqual(
    asked.slice(1).map((one) => one.split(" ")[1]),
    [`bytes=0-${13 * BLOCK - 1}`, `bytes=${122 * BLOCK}-${126 * BLOCK - 1}`],
  );
});

test("what the head of a shard holds takes no request of its own", async () => {
  const pieces = /** @type {[number, number][]} */ ([
    [100, 300],
    [2_999_000, LENGTH],
  ]);
  const { data, shard, asked, store } = await someShard((data) => packed(data, pieces));
  const held = new Held(store);
  const [footerAt, keysAt] = await Promise.all([
    held.ranges(shard, [[2_999_000, LENGTH]]),
    held.ranges(shard, [
      [100, 200],
      [150, 300],
    ]),
  ]);
  assert.deepEqual(footerAt(2_999_990, LENGTH), data.slice(2_999_990));
  assert.deepEqual(keysAt(150, 300), data.slice(150, 300));
  assert.deepEqual(asked, [`blocks/${shard.blocks}`]);
  const bytesAt = await held.ranges(shard, [
    [100, 200],
    [250, 301],
    [40_000, 40_001],
  ]);
  assert.deepEqual(bytesAt(250, 301), data.slice(250, 301));
  assert.deepEqual(bytesAt(40_000, 40_001), data.slice(40_000, 40_001));
  assert.deepEqual(
    asked.slice(1).map((one) => one.split(" ")[1]),
    [`bytes=0-${3 * BLOCK - 1}`],
  );
});

test("a head is fetched again where it is not kept, digests alone are not", async () => {
  for (const [pieces, expected] of /** @type {[[number, number][], number][]} */ ([
    [[[100, 300]], 2],
    [[], 1],
  ])) {
    const made = (/** @type {Uint8Array} */ data) =>
      pieces.length ? packed(data, pieces) : new Uint8Array(0);
    const { shard, asked, store } = await someShard(made);
    const held = new Held(store, 10);
    for (let turn = 0; turn < 2; turn++) await held.ranges(shard, [[20_000 * turn, 20_001]]);
    assert.equal(asked.filter((one) => /^blocks/.test(one)).length, expected);
  }
});

test("a head that is none, or beyond all measure, is damage", async () => {
  for (const [size, said] of /** @type {[number, RegExp][]} */ ([
    [3, /expected a head, found 3 bytes for 0 ranges/],
    [40, /expected a head, found 40 bytes for 0 ranges/],
    [MAX_HEAD + 1, /expected a body of \d+ bytes, found/],
  ])) {
    const { shard, store } = await someShard(() => new Uint8Array(size));
    await assert.rejects(new Held(store).ranges(shard, [[7, 8]]), (/** @type {Error} */ error) => {
      return error instanceof Damaged && said.test(error.message);
    });
  }
});

test("a shard of which more than half is wanted is fetched whole", async () => {
  const { data, shard, asked, store } = await someShard();
  const held = new Held(store);
  const bytesAt = await held.ranges(shard, [[0, 1_600_000]]);
  assert.deepEqual(bytesAt(7, 1_600_000), data.slice(7, 1_600_000));
  assert.ok(held.has(shard));
  assert.equal(asked.length, 1);
});

test("one object asked for at once by many is fetched once", async () => {
  const { shard, asked, store } = await someShard();
  const held = new Held(store);
  await Promise.all([held.shard(shard), held.shard(shard), held.ranges(shard, [[0, LENGTH]])]);
  assert.equal(asked.length, 1);
});

test("a range outside the shard is damage, a missing object an expired generation", async () => {
  const { shard, objects, store } = await someShard();
  const held = new Held(store);
  await assert.rejects(held.ranges(shard, [[0, LENGTH + 1]]), Damaged);
  objects.clear();
  await assert.rejects(held.shard(shard), (/** @type {Error} */ error) => {
    assert.ok(error instanceof GenerationExpired);
    return /^generation expired, open the archive again: https/.test(error.message);
  });
});

test("what failed once is fetched again", async () => {
  const { data, shard, objects, store } = await someShard();
  const held = new Held(store);
  const path = `embeddings/gh=u/${shard.sha256}.parquet`;
  objects.delete(path);
  await assert.rejects(held.shard(shard), GenerationExpired);
  objects.set(path, data);
  assert.deepEqual(await held.shard(shard), data);
});

test("the least recently used thing goes first", () => {
  const cache = new Cache(10);
  cache.put("a", "A", 4);
  cache.put("b", "B", 4);
  cache.get("a");
  cache.put("c", "C", 4);
  cache.put("d", "D", 11);
  assert.deepEqual(
    ["a", "b", "c", "d"].map((key) => cache.get(key)),
    ["A", undefined, "C", undefined],
  );
  cache.put("a", "A", 6);
  assert.deepEqual([cache.get("a"), cache.get("c")], ["A", "C"]);
});

test("what is being made is made once", async () => {
  const once = new Once();
  let made = 0;
  const make = async () => ++made;
  assert.deepEqual(await Promise.all([once.get("x", make), once.get("x", make)]), [1, 1]);
});

test("a search that was ended begins no more reading", async () => {
  const { shard, asked, store } = await someShard();
  const reader = new Reader(store, { dim: 4, bits: 8 });
  const plan = planOf([{ shard, whole: true, requests: 1 }]);
  await assert.rejects(reader.rows(plan, makeFilter(), [], { signal: AbortSignal.abort() }), {
    name: "AbortError",
  });
  assert.equal(asked.length, 0);
});

test("bytes that are no shard are damage, unknown columns bad input", async () => {
  const { shard, store } = await someShard();
  const reader = new Reader(store, { dim: 4, bits: 8 });
  const plan = planOf([{ shard: { ...shard, footer_length: 100 }, whole: false, requests: 1 }]);
  await assert.rejects(reader.rows(plan, makeFilter(), []), Damaged);
  assert.throws(() => reader.checkColumns(["geohash", "height"]), BadInput);
  assert.deepEqual(reader.checkColumns(["source", "bits", "source"]), ["bits", "source"]);
});

test("tables become one in the order of geohash, date and source", () => {
  const table = (/** @type {[string, number, string, number][]} */ rows) =>
    /** @type {any} */ ({
      n: rows.length,
      geohash: rows.map(([name]) => name),
      datetime: Float64Array.from(rows, ([, when]) => when),
      source: rows.map(([, , source]) => source),
      embedding: Int8Array.from(rows.flatMap(([, , , value]) => [value, -value])),
      shard: rows.map(() => null),
      at: Int32Array.from(rows.keys()),
    });
  const names = ["geohash", "datetime", "source", "embedding"];
  const both = merge(
    [
      table([
        ["u2", 5, "b", 1],
        ["u2", NaN, "a", 2],
      ]),
      table([
        ["u1", 9, "z", 3],
        ["u2", 5, "a", 4],
        ["u2", NaN, "a", 5],
      ]),
    ],
    names,
  );
  assert.deepEqual(both.geohash, ["u1", "u2", "u2", "u2", "u2"]);
  assert.deepEqual([...both.embedding], [3, -3, 4, -4, 1, -1, 2, -2, 5, -5]);
  assert.deepEqual([...take(both, Int32Array.of(4, 0)).embedding], [5, -5, 3, -3]);
  assert.deepEqual(merge([], names), {
    n: 0,
    ...Object.fromEntries(
      [...names, "shard", "at"].map((name) => [
        name,
        take(both, new Int32Array(0))[/** @type {"at"} */ (name)],
      ]),
    ),
  });
});

test("texts are in the order of their bytes", () => {
  const texts = ["", "a", "ab", "b", "é", "\uffff", "😀", "😁", "a😀", "a\uffff"];
  const bytes = (/** @type {string} */ text) => Buffer.from(text);
  for (const a of texts) {
    for (const b of texts) {
      assert.equal(Math.sign(compareTexts(a, b)), Buffer.compare(bytes(a), bytes(b)), `${a} ${b}`);
    }
  }
});

const SHARD = bytesOf(join(GOLDEN, "tables", "shard.parquet"));

/** A reader of the golden shard, its plan, and the names of its cells. @param {number} precision */
async function goldenShard(precision) {
  const sha256 = createHash("sha256").update(SHARD).digest("hex");
  const { length } = SHARD;
  const about = { prefix: "kq", length, footer_length: length, blocks: sha256, rows: 700 };
  /** @type {any} */
  const shard = { ...about, sha256, space_id: "s" };
  const { fetch } = bytesFetch(() => SHARD);
  const reader = new Reader(new Store(ROOT, { fetch }), { dim: 16, bits: 32, precision });
  const plan = planOf([{ shard, whole: false, requests: 3 }]);
  const { geohash } = await reader.rows(plan, makeFilter(), ["geohash"]);
  return { reader, plan, geohash };
}

test("rows of a few cells read by pages are those of whole columns", async () => {
  const columns = [
    "embedding",
    "bits",
    "code",
    "model_id",
    "input_digest",
    "valid_fraction",
    "mse",
  ];
  const [few, whole] = [await goldenShard(7), await goldenShard(9)];
  const cells = [...new Set(few.geohash)];
  for (const some of [[0], [89], [3, 4, 40], [...cells.keys()], []]) {
    const names = some.map((at) => cells[at]);
    const wanted = makeFilter({ geohash: names.length ? names : ["0000000"] });
    const found = await few.reader.rows(few.plan, wanted, columns);
    const expected = await whole.reader.rows(whole.plan, wanted, columns);
    const { shard: _own, ...rows } = found;
    const { shard: _other, ...others } = expected;
    assert.deepEqual(rows, others);
    assert.ok(some.length ? found.n > 0 : !found.n);
    const dated = makeFilter({ geohash: wanted.geohash, datetime: "2022-01-01" });
    const days = await few.reader.rows(few.plan, dated, columns);
    assert.deepEqual(days.at, (await whole.reader.rows(whole.plan, dated, columns)).at);
  }
});

test("a page index or a page with a turned bit gives damage or values, never another error", () => {
  const starts = parseFooter(SHARD, 16, 32).groups.flatMap(({ chunks }) =>
    chunks.flatMap(({ index, data }) => [...(index ?? []), data]),
  );
  for (const [turn, start] of starts.entries()) {
    const bytes = SHARD.slice();
    bytes[start + (turn % 9)] ^= 1 << (turn & 7);
    const bytesAt = (/** @type {number} */ a, /** @type {number} */ b) => bytes.subarray(a, b);
    const metadata = parseFooter(SHARD, 16, 32);
    for (const column of ["embedding", "code", "model_id", "bits"]) {
      try {
        const index = pageIndex(metadata, 1, column, bytesAt);
        const pages = pagesWith(index, [3, 255]);
        assert.ok(readPages(metadata, 1, index, pages, bytesAt).rows.length > 0);
      } catch (error) {
        assert.ok(error instanceof Damaged, String(error));
      }
    }
  }
  const odd = parseFooter(SHARD, 16, 32);
  const groups = odd.groups.map((group) => ({
    ...group,
    chunks: group.chunks.map((chunk) => ({ ...chunk, index: null })),
  }));
  const none = { ...odd, groups };
  assert.throws(() => pageIndex(none, 0, "bits", () => SHARD), /expected a page index of bits/);
});
