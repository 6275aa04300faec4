import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { Damaged, GenerationExpired } from "../viewer/errors.js";
import { Overview } from "../viewer/overview.js";
import { made, openOverview, spaceOf } from "./overviews.js";

const [exact, stepped] = made.spaces;
const sha = (/** @type {Uint8Array} */ data) => createHash("sha256").update(data).digest();

test("a space's lists take its index, its centroids and a request a file, once", async () => {
  const { overview, asked } = openOverview();
  const lists = await overview.lists(spaceOf(stepped));
  assert.ok(lists);
  assert.deepEqual(
    asked.map((path) => path.split("/")[0]),
    ["overview", "models"],
  );
  for (const numbers of [[3, 4, 59], [4], [3, 59]]) {
    const found = await overview.read(lists, numbers);
    assert.deepEqual(new Set(found.map(({ list }) => list)), new Set(numbers));
    for (const { rows, codes, cells } of found) {
      assert.deepEqual([codes.length, cells.low.length], [rows * stepped.dim, rows]);
    }
    assert.equal(asked.length, 3);
  }
  assert.match(asked[2], /^overview\/\w+\.parquet bytes=\d+-\d+$/);
  assert.equal(await overview.lists(spaceOf(stepped)), lists);
  await overview.lists(spaceOf(exact));
  assert.equal(asked.length, 4);
});

test("lists know their rows, and what a row takes", async () => {
  const lists = await openOverview().overview.lists(spaceOf(stepped));
  assert.ok(lists);
  assert.deepEqual([lists.rows.length, lists.total], [90, stepped.rows]);
  assert.equal(
    lists.rows[5],
    lists.segments.reduce((sum, one) => sum + (one.list === 5 ? one.rows : 0), 0),
  );
  const bytes = lists.segments.reduce((sum, { length }) => sum + length, 0);
  assert.equal(lists.width, bytes / stepped.rows);
});

test("cells that no archive of so few letters has are damage", async () => {
  const { overview } = openOverview(5);
  const lists = await overview.lists(spaceOf(stepped));
  assert.ok(lists);
  await assert.rejects(overview.read(lists, [3]), /expected cells below 33554432 in a list/);
});

test("a space that is not covered has none, nor an archive without an overview", async () => {
  const { overview, reader, asked } = openOverview();
  assert.equal(await overview.lists(spaceOf({ space_id: "other", dim: 12 })), null);
  const before = asked.length;
  assert.equal(await new Overview(reader, null).lists(spaceOf(stepped)), null);
  assert.equal(asked.length, before);
});

test("a turned bit in the index, the centroids or a list is damage", async () => {
  for (const what of ["index", "centroids", "list"]) {
    const { overview, objects } = openOverview();
    const before = what === "list" ? await overview.lists(spaceOf(stepped)) : null;
    const file = before?.segments[0].file ?? "";
    const hash = { index: made.ref.sha256, centroids: made.coarse, list: file }[what] ?? "";
    const bytes = /** @type {Uint8Array} */ (objects.get(hash)).slice();
    bytes[Math.floor(bytes.length / 2)] ^= 4;
    objects.set(hash, bytes);
    const read = async () => {
      const lists = await overview.lists(spaceOf(stepped));
      return lists && overview.read(lists, Array(60).keys());
    };
    await assert.rejects(read(), (/** @type {Error} */ error) => {
      assert.ok(error instanceof Damaged && !error.message.includes("\n"));
      assert.match(error.message, what === "list" ? /: list \d+: expected digest/ : /sha256/);
      return true;
    });
  }
});

test("lists that are gone say that the generation expired", async () => {
  const { overview, objects } = openOverview();
  const lists = await overview.lists(spaceOf(stepped));
  assert.ok(lists);
  objects.delete(lists.segments[0].file);
  await assert.rejects(overview.read(lists, [1, 2]), GenerationExpired);
});

test("centroids of other vectors, or fewer than there are lists, are damage", async () => {
  const { overview } = openOverview();
  await assert.rejects(overview.lists(spaceOf({ ...stepped, dim: 11 })), /centroids of 11/);
});

test("pieces are fetched together up to 128 KiB apart, and checked each", async () => {
  const data = new Uint8Array(600_000).map((_, i) => (i * 2_654_435_761) >>> 24);
  const { reader, objects, asked } = openOverview();
  const file = sha(data).toString("hex");
  objects.set(file, data);
  const starts = [400_000, 4, 100, 131_272, 262_445];
  const pieces = starts.map((offset) => {
    const digest = sha(data.subarray(offset, offset + 100)).subarray(0, 16);
    return { name: `piece at ${offset}`, offset, length: 100, digest: new Uint8Array(digest) };
  });
  const found = await reader.pieces("overview", file, pieces);
  found.forEach((one, i) => assert.deepEqual(one, data.slice(starts[i], starts[i] + 100)));
  const ranges = asked.map((path) => path.split("bytes=")[1]).sort();
  assert.deepEqual(ranges, ["262445-262544", "4-131371", "400000-400099"]);
  await reader.pieces("overview", file, pieces);
  assert.equal(asked.length, 3);
});
