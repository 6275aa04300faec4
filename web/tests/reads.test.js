import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { makeFilter } from "../viewer/filters.js";
import { choose, namesMeet, readPlan, rowGroups, wholeWithin } from "../viewer/reads.js";

const golden = JSON.parse(
  await readFile(new URL("../../tests/golden/reads.json", import.meta.url), "utf8"),
);

/** @returns {any} metadata that says of its groups what the golden file says */
function metadata() {
  const paths = Object.keys(golden.groups[0]);
  const chunks = (/** @type {Record<string, any>} */ limits) =>
    paths.map((path) => ({ limits: limits[path] }));
  return {
    leaves: paths.map((path) => ({ path: path.split(".") })),
    groups: golden.groups.map((/** @type {any} */ limits) => ({
      rows: 40,
      chunks: chunks(limits),
    })),
  };
}

/**
 * Shards of so many bytes.
 *
 * @param {number[]} lengths
 * @returns {any[]}
 */
function shards(lengths) {
  const same = { ...golden.extents[0], rows: 25_000, space_id: "s" };
  return lengths.map((length, i) => ({ ...same, length, sha256: String(i).padStart(64, "0") }));
}

for (const { filter, extents, groups } of golden.cases) {
  test(`the same is read as in Python: ${JSON.stringify(filter)}`, () => {
    const wanted = makeFilter(filter);
    const found = choose(golden.extents, wanted);
    assert.deepEqual(
      found.map((one) => golden.extents.indexOf(one)),
      extents,
    );
    assert.deepEqual(rowGroups(metadata(), wanted), groups);
  });
}

test("names meet a range as in Python", () => {
  for (const [names, low, high, meets] of golden.names) {
    assert.equal(namesMeet(names, low, high), meets, `${names} ${low} ${high}`);
  }
});

for (const [lengths, requests] of /** @type {[number[], number][]} */ ([
  [[100_000], 1],
  [[700_000], 2],
  [[3_000_000, 3_000_000, 3_000_000], 6],
  [[3_000_000, 3_000_000, 3_000_000, 3_000_000], 6],
  [[100_000, 100_000, 100_000, 100_000, 100_000, 100_000], 6],
  [[30_000_000, 30_000_000, 30_000_000, 30_000_000], 8],
])) {
  test(`shards of ${lengths} bytes take ${requests} requests`, () => {
    assert.equal(readPlan(shards(lengths), makeFilter()).requests, requests);
  });
}

test("who wants nearly all of a shard fetches it whole", () => {
  const [west, south, east, north] = golden.extents[0].bbox;
  const inside = makeFilter({ bbox: [west - 1, south, east, north] });
  const narrow = makeFilter({ bbox: [west, south, (west + east) / 2, north] });
  const requests = [makeFilter(), inside, narrow].map((wanted) => {
    return wholeWithin(readPlan(shards([3_000_000, 3_000_000]), wanted), wanted).requests;
  });
  assert.deepEqual(requests, [2, 2, 4]);
});

test("a plan is of one space, in geohash order, and says its sums", () => {
  const [a, b] = shards([20, 10]);
  const plan = readPlan([{ ...a, geohash_min: "z", geohash_max: "z" }, b], makeFilter(), "s");
  assert.deepEqual(
    plan.reads.map(({ shard }) => shard.length),
    [10, 20],
  );
  assert.deepEqual([plan.bytes, plan.rows], [30, 50_000]);
  assert.equal(readPlan([a, b], makeFilter(), "t").reads.length, 0);
});
