import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { ALPHABET } from "../viewer/grid.js";
import { parseIndex, spell, unpackSegment } from "../viewer/inverted.js";
import { fromBase64 } from "./codefiles.js";
import { bytesOf, GOLDEN } from "./faults.js";
import { made } from "./overviews.js";

const table = (/** @type {string} */ name) => bytesOf(join(GOLDEN, "tables", `${name}.parquet`));

test("an index has a row a segment", async () => {
  const segments = await parseIndex(table("overview"));
  assert.equal(segments.length, made.ref.rows);
  assert.deepEqual(
    new Set(segments.map((one) => one.space_id)),
    new Set(["exact-1", "stepped-1", "uneven-1"]),
  );
  assert.ok(segments.every((one) => Object.isFrozen(one) && one.digest.length === 16));
  const rows = segments.reduce((sum, one) => sum + one.rows, 0);
  const expected = made.spaces.map((/** @type {any} */ one) => one.rows);
  assert.equal(
    rows,
    expected.reduce((/** @type {number} */ a, /** @type {number} */ b) => a + b),
  );
});

test("indexes that Python refuses are refused, and the error names what is wrong", async () => {
  const names = {
    list: "list in 0",
    file: "file to be",
    end: "inside",
    coarse: "one coarse",
    overlap: "beside",
  };
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

/** A list of codes in one block of a frame, as they are. @param {number[]} codes @param {number[]} cells */
function listOf(codes, cells) {
  const frame = [0x28, 0xb5, 0x2f, 0xfd, 0x20, codes.length, 1 + 8 * codes.length, 0, 0, ...codes];
  return Uint8Array.of(frame.length, 0, 0, 0, ...frame, ...cells);
}

test("cells are sums of numbers of 7 bits a byte", () => {
  const body = [5, 0, 0x80 | 3, 1, 0xf7, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
  const data = listOf([1, 2, 3, 4, 5, 6, 7, 255], body);
  const { codes, cells } = unpackSegment(data, 4, 2, 12);
  assert.deepEqual([...codes], [1, 2, 3, 4, 5, 6, 7, -1]);
  assert.deepEqual([...cells.low], [5, 5, 136, 2 ** 30 - 1]);
  assert.deepEqual([...cells.high], [0, 0, 0, 2 ** 30 - 1]);
});

for (const { name, data, rows, dim, precision, error } of made.segments) {
  test(`a list with ${name} is ${error ?? "as Python reads it"}`, () => {
    const unpack = () => unpackSegment(fromBase64(data), rows, dim, precision);
    if (error) assert.throws(unpack, { name: error, message: /^overview: expected .*, found / });
    else assert.equal(unpack().codes.length, rows * dim);
  });
}

test("a list is the same however its numbers are packed", () => {
  const names = ["packed numbers", "a frame that does not say its length", "two frames"];
  const codes = [...names, "numbers in blocks"].map((name) => {
    const { data, rows, dim, precision } = made.segments.find(
      (/** @type {any} */ one) => one.name === name,
    );
    return unpackSegment(fromBase64(data), rows, dim, precision).codes;
  });
  for (const one of codes) assert.deepEqual(one, codes[0]);
  assert.deepEqual(new Set(codes[0]), new Set([-2, -1, 0, 1, 2]));
});

test("a cell is spelled five bits a letter", () => {
  const digits = (/** @type {string} */ some) =>
    [...some].reduce((sum, one) => sum * 32 + ALPHABET.indexOf(one), 0);
  for (const name of ["0", "z", "u2ed", "u2edk1", "u2edk1c", "zzzzzzzzzzzz", "0bcdefghjkmn"]) {
    const [high, low] = [digits(name.slice(0, -6)), digits(name.slice(-6))];
    assert.equal(spell(high, low, name.length), name);
  }
});
