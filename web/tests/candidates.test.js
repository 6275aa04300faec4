import assert from "node:assert/strict";
import { test } from "node:test";
import { cost, find, pays, PROBED, serves } from "../viewer/candidates.js";
import { makeFilter } from "../viewer/filters.js";
import { makeQuery } from "../viewer/search.js";
import { made, openOverview, spaceOf } from "./overviews.js";

/** @param {any} space */
async function listsOf(space) {
  const { overview } = openOverview();
  const lists = await overview.lists(spaceOf(space));
  assert.ok(lists);
  return { overview, lists };
}

/** @param {any} space @param {any} asked as in the golden file */
function queryOf({ exemplars }, { like, unlike = [], k, op, exclude }) {
  const [positives, negatives] = [like, unlike].map((some) =>
    some.map((/** @type {number} */ i) => Int8Array.from(exemplars[i])),
  );
  return makeQuery({ positives, negatives, k, op, exclude });
}

for (const space of made.spaces) {
  for (const { found: cells, rows, ...asked } of space.cases) {
    const said = JSON.stringify({ ...asked, exclude: asked.exclude.length });
    test(`cells of ${space.space_id} are those of Python: ${said}`, async () => {
      const { overview, lists } = await listsOf(space);
      const found = await find(overview, lists, queryOf(space, asked), space.precision);
      assert.deepEqual([found.cells, found.rows], [cells, rows]);
    });
  }
}

test("heat has the cells that were compared, but for the exemplars'", async () => {
  const space = made.spaces[1];
  const { overview, lists } = await listsOf(space);
  const query = queryOf(space, { like: [0], k: 2, exclude: space.cells.slice(0, 90) });
  const { heat, cells } = await find(overview, lists, query, space.precision);
  assert.ok(heat.geohash.length > 30 && heat.geohash.every((one) => !query.exclude.includes(one)));
  assert.deepEqual(heat.geohash, [...new Set(heat.geohash)].sort());
  const order = [...heat.value.keys()].sort((a, b) => heat.value[a] - heat.value[b] || a - b);
  assert.deepEqual(
    order
      .slice(0, 4)
      .map((at) => heat.geohash[at])
      .sort(),
    cells,
  );
});

test("as many lists are read as Python reads", () => assert.equal(PROBED, made.probed));

test("lists serve a search of everything, and where they are fewer bytes", async () => {
  const all = makeFilter();
  assert.ok(serves({}, all));
  assert.ok(!serves({ exact: true }, all) && !serves({ invert: true }, all));
  for (const some of [{ bbox: [0, 0, 1, 1] }, { datetime: "2020-01-01" }]) {
    assert.ok(!serves({}, makeFilter(some)));
  }
  // Seventeen of ninety lists of the mean size, of 19 bytes a row.
  const { lists } = await listsOf(made.spaces[1]);
  const few = (17 / 90) * lists.width;
  assert.ok(few > 3 && few < 4);
  assert.ok(pays(lists, 1, { bits: 32, dim: 1 }) && !pays(lists, 1, { bits: 24, dim: 12 }));
  assert.ok(pays(lists, 1, { bits: 0, dim: 4 }) && !pays(lists, 1, { bits: 0, dim: 3 }));
  assert.ok(pays(lists, 1, { bits: 0, dim: 3, packed: 4 }));
});

/** A generation of so many shards of so many rows each. @param {number} shards @param {number} rows
 * @returns {any} */
function generationOf(shards, rows) {
  const part = { shards, rows: shards * rows, shard_bytes: shards * rows * 200 };
  return { settings: { dim: 64, bits: 128 }, parts: [part, part] };
}

test("what is foretold has the most of lists, and a row group a cell of what there is", async () => {
  const { lists } = await listsOf(made.spaces[1]);
  const none = { ...generationOf(1, 1), parts: [] };
  const [few, more] = [24, 100].map((k) => cost(lists, k, none));
  const plain = cost(lists, 24, generationOf(500, 20_000));
  assert.equal(plain.bytes - few.bytes, 44 * 256 * 1024);
  const many = cost(lists, 100, generationOf(500, 20_000));
  assert.equal(many.bytes - more.bytes, 180 * 8192 * (64 + 16 + 24));
  assert.equal(plain.requests - few.requests, 44 * 2);
  assert.equal(cost(lists, 24, generationOf(500, 1000)).bytes - few.bytes, 44 * 1000 * 104);
  assert.equal(cost(lists, 24, generationOf(1, 1000)).bytes - few.bytes, 2 * 1000 * 200);
  const { lists: exact } = await listsOf(made.spaces[0]);
  const least = cost(exact, 24, none);
  const own = cost(exact, 24, generationOf(500, 20_000));
  assert.equal(own.bytes - least.bytes, 24 * 256 * 1024);
});

test("no search reads more of lists at first than was foretold, and all but a list's rows", async () => {
  let [once, again] = [0, 0];
  for (const space of made.spaces) {
    const { overview, lists } = await listsOf(space);
    const bytes = (/** @type {any[]} */ some) => some.reduce((sum, { length }) => sum + length, 0);
    const longest = Math.max(...lists.rows);
    for (const asked of space.cases) {
      /** @type {number[][]} */
      const turns = [];
      const read = (/** @type {any} */ own, /** @type {Iterable<number>} */ some) => {
        turns.push([...some]);
        return overview.read(own, some);
      };
      const query = queryOf(space, asked);
      const most = cost(lists, query.k, { ...generationOf(1, 1), parts: [] });
      const { rows, cells } = await find(
        /** @type {any} */ ({ read }),
        lists,
        query,
        space.precision,
      );
      const numbers = turns.flat();
      assert.equal(new Set(numbers).size, numbers.length);
      const enough = Math.max((17 * space.rows) / lists.coarse.count, 64 * query.k);
      if (turns.length > 1) {
        again += 1;
        assert.ok(cells.length >= query.k || rows === space.rows);
        continue;
      }
      once += 1;
      assert.ok(rows > Math.min(enough, space.rows) - longest);
      assert.ok(rows <= Math.max(enough, longest) && rows <= most.rows);
      const own = lists.segments.filter(({ list }) => numbers.includes(list));
      assert.ok(bytes(own) <= most.bytes);
      assert.ok(new Set(own.map(({ list }) => list)).size <= most.requests);
    }
  }
  assert.ok(once > 9 && again > 0);
});
