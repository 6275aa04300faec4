import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { Damaged } from "../viewer/errors.js";
import { ALPHABET } from "../viewer/grid.js";
import { parseIndex, spell, unpackSegment } from "../viewer/inverted.js";
import { bytesOf, GOLDEN } from "./faults.js";
import { made } from "./overviews.js";

const table = (/** @type {string} */ name) => bytesOf(join(GOLDEN, "tables", `${name}.parquet`));

test("an index has a row a segment", async () => {
  const segments = await parseIndex(table("overview"));
  assert.equal(segments.length, made.ref.rows);
  assert.deepEqual(new Set(segments.map((one) => one.space_id)), new Set(["mapped-1", "plain-1"]));
  assert.ok(segments.every((one) => Object.isFrozen(one) && one.digest.length === 16));
  const rows = segments.reduce((sum, one) => sum + one.rows, 0);
  assert.equal(rows, made.spaces[0].rows + made.spaces[1].rows);
});

test("indexes that Python refuses are refused, and the error names what is wrong", async () => {
  const names = { list: "list in 0", file: "file to be", end: "inside", coarse: "one coarse" };
  for (const [name, word] of Object.entries(names)) {
    await assert.rejects(parseIndex(table(`overview-${name}`)), (/** @type {Error} */ error) => {
      assert.equal(error.name, made.tables[`overview-${name}`]);
      assert.ok(error.message.startsWith("overview: ") && error.message.includes(word));
      return true;
    });
  }
  await assert.rejects(
    parseIndex(table("part")),
    /overview: expected embarchive overview, found "embarchive" "part"/,
  );
});

test("an index with any bit turned is refused or an index", async () => {
  const whole = table("overview");
  for (let at = 0; at < whole.length; at += 97) {
    const bytes = whole.slice();
    bytes[at] ^= 1 << (at & 7);
    const found = await parseIndex(bytes).catch((error) => error);
    assert.ok(Array.isArray(found) || /^(Damaged|UnknownVersion)$/.test(found.name), String(found));
  }
});

test("cells are sums of numbers of 7 bits a byte", () => {
  const body = [5, 0, 0x80 | 3, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
  const { codes, cells } = unpackSegment(Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, ...body), 4, 2);
  assert.deepEqual([...codes], [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.deepEqual([...cells], [5n, 5n, 136n, 136n + 2n ** 60n - 1n]);
});

test("a list of another number of cells, or of longer numbers, is damage", () => {
  const bad = [
    [[1, 2], 1],
    [[1, 2], 3],
    [[1, 0x80], 2],
    [[1, 2, 0x80], 2],
    [[...new Array(9).fill(0x80), 1], 1],
    [[], 1],
  ];
  for (const [body, rows] of /** @type {[number[], number][]} */ (bad)) {
    const data = Uint8Array.from([...new Array(3 * rows).fill(0), ...body]);
    assert.throws(() => unpackSegment(data, rows, 3), Damaged);
  }
  assert.throws(() => unpackSegment(new Uint8Array(4), 2 ** 26, 64), Damaged);
});

test("a cell is spelled five bits a letter", () => {
  for (const name of ["0", "z", "u2ed", "u2edk1", "u2edk1c", "zzzzzzzzzzzz", "0bcdefghjkmn"]) {
    const cell = [...name].reduce((sum, one) => sum * 32n + BigInt(ALPHABET.indexOf(one)), 0n);
    assert.equal(spell(cell, name.length), name);
  }
});
