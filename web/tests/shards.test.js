import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { sha256 } from "../viewer/digests.js";
import { Damaged, UnknownVersion } from "../viewer/errors.js";
import * as shards from "../viewer/shards.js";
import { DEMO, GOLDEN, bytesOf, golden } from "./faults.js";

const said = golden("shards");
const below = join(DEMO, "embeddings", "gh=d");
const files = {
  demo: bytesOf(join(below, readdirSync(below)[0])),
  shard: bytesOf(join(GOLDEN, "tables", "shard.parquet")),
};
const cut =
  (/** @type {Uint8Array} */ data) => (/** @type {number} */ start, /** @type {number} */ end) =>
    data.subarray(start, end);

/**
 * Row `i` of a column as the golden file spells it.
 *
 * @param {any} values
 * @param {string} name
 * @param {number} i
 * @param {number} n
 */
function spelled(values, name, i, n) {
  const width = values.length / n;
  const hex = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString("hex");
  if (name === "bits" || name === "input_digest")
    return hex(values.subarray(i * width, (i + 1) * width));
  if (width > 1) return [...values.subarray(i * width, (i + 1) * width)];
  const value = values[i];
  if (value instanceof Uint8Array) return hex(value);
  return Number.isNaN(value) ? null : value;
}

for (const [key, data] of Object.entries(files)) {
  const { dim, bits, rows: n, names, ranges, limits, few, nulls, ...sums } = said[key];
  const metadata = shards.parseFooter(data, dim, bits, key);
  const groups = [...metadata.groups.keys()];

  test(`${key}: the footer says what Python finds in it`, () => {
    assert.equal(metadata.rows, n);
    assert.deepEqual(shards.columnNames(bits), names);
    assert.deepEqual(shards.columnRanges(metadata, groups, ["geohash", "bits"]), ranges);
    assert.deepEqual(
      groups.map((group) => shards.groupLimits(metadata, group)),
      limits,
    );
  });

  test(`${key}: every column has Python's values`, async () => {
    /** @type {Record<string, any>} */
    const rows = await shards.readRows(metadata, groups, names, cut(data));
    assert.equal(rows.n, n);
    for (const name of names) {
      const found = said.at.map((/** @type {number} */ i) => spelled(rows[name], name, i, n));
      assert.deepEqual(found, few[name], name);
      const gone = [...rows[name]].filter((value) => value === null || Number.isNaN(value));
      assert.equal(gone.length, nulls[name], name);
    }
    const text = (/** @type {string[]} */ column) => new TextEncoder().encode(column.join("\n"));
    assert.equal(await sha256(new Uint8Array(rows.embedding.buffer)), sums.embedding);
    assert.equal(await sha256(rows.bits), sums.bits_sha256);
    assert.equal(await sha256(text(rows.geohash)), sums.geohash);
    assert.equal(await sha256(text(rows.source)), sums.source);
    const days = Array.from(rows.datetime, (day) => (Number.isNaN(day) ? "None" : String(day)));
    assert.equal(await sha256(text(days)), sums.datetime);
  });

  test(`${key}: the last bytes are enough for the footer`, () => {
    const length = new DataView(data.buffer).getUint32(data.length - 8, true) + 8;
    const tail = data.subarray(data.length - length);
    assert.deepEqual(shards.parseFooter(tail, dim, bits, key), metadata);
    assert.throws(() => shards.parseFooter(tail.subarray(1), dim, bits), Damaged);
  });

  test(`${key}: other settings than the shard's are refused`, () => {
    assert.throws(() => shards.parseFooter(data, dim + 1, bits), /expected embeddings of/);
    assert.throws(() => shards.parseFooter(data, dim, bits + 8), /expected the column bits/);
    assert.throws(() => shards.parseFooter(data, dim, 0), /expected the column code binary/);
  });
}

test("some row groups are read alone, in the order asked for", async () => {
  const data = files.shard;
  const metadata = shards.parseFooter(data, 16, 32);
  const asked = new Set(shards.columnRanges(metadata, [2, 1], ["geohash", "mse"]).map(String));
  const bytesAt = (/** @type {number} */ start, /** @type {number} */ end) => {
    assert.ok(asked.has(String([start, end])));
    return data.subarray(start, end);
  };
  const both = await shards.readRows(metadata, [1, 2], ["geohash", "mse"], bytesAt);
  const last = await shards.readRows(metadata, [2], ["geohash", "mse"], bytesAt);
  assert.equal(both.n, 444);
  assert.deepEqual(both.geohash.slice(256), last.geohash);
  assert.deepEqual(both.mse.slice(256), last.mse);
  assert.equal((await shards.readRows(metadata, [], ["geohash"], bytesAt)).n, 0);
});

test("a table that is no shard, or of another version, is refused by name", () => {
  const part = bytesOf(join(GOLDEN, "tables", "part.parquet"));
  assert.throws(
    () => shards.parseFooter(part, 64, 128, "shard x"),
    /^Damaged: shard x: expected the column/,
  );
  const text = '"version":1';
  const at = Buffer.from(files.shard).lastIndexOf(text.slice(0, -1)) + text.length - 1;
  const other = files.shard.slice();
  other[at] = "7".charCodeAt(0);
  assert.throws(() => shards.parseFooter(other, 16, 32), UnknownVersion);
  assert.throws(() => shards.parseFooter(other, 16, 32), /version 1, found "embarchive" 7/);
  assert.throws(
    () => shards.parseFooter(new Uint8Array((4 << 20) + 1), 16, 32),
    /12 to 4194304 bytes/,
  );
});
