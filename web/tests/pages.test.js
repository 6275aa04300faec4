import assert from "node:assert/strict";
import { test } from "node:test";

import {
  allocate,
  countItems,
  even,
  pageValues,
  place,
  readPlain,
  split,
} from "../viewer/pages.js";

const INT8 = {
  path: ["x"],
  type: "int8",
  kind: /** @type {const} */ ("int8"),
  width: 1,
  nullable: false,
  repeated: false,
};
const dictionary = Int8Array.of(5, 6, 7, 8);

/**
 * @param {number[]} body
 * @param {number} values
 * @param {object} [more]
 */
function present(body, values, more = {}) {
  const page = { values, encoding: "RLE_DICTIONARY", body: Uint8Array.from(body), dictionary };
  return [...pageValues(page, { ...INT8, ...more }).present];
}

test("runs and packed groups of every width are unpacked", () => {
  assert.deepEqual(present([2, 5 << 1, 3], 5), [8, 8, 8, 8, 8]);
  assert.deepEqual(present([2, (1 << 1) | 1, 0b11100100, 0b00011011], 8), [5, 6, 7, 8, 8, 7, 6, 5]);
  assert.deepEqual(present([8, (1 << 1) | 1, 3, 2, 1, 0], 4), [8, 7, 6, 5]);
  assert.deepEqual(present([0], 3), [5, 5, 5]);
  assert.deepEqual(present([9, 4 << 1, 1, 0], 4), [6, 6, 6, 6]);
  assert.deepEqual(
    present([3, 1 << 1, 2, (1 << 1) | 1, 0b10001000, 0b11000110, 0b11111010], 5),
    [7, 5, 6, 7, 8],
  );
});

test("fixed binary is looked up in dictionaries too", () => {
  const fixed = { kind: /** @type {const} */ ("fixed"), width: 2 };
  assert.deepEqual(present([1, (1 << 1) | 1, 0b1101], 4, fixed), [7, 8, 5, 6, 7, 8, 7, 8]);
  assert.throws(() => present([2, 1 << 1, 2], 1, fixed), /dictionary index 2 of 2/);
});

test("pages that promise more than they hold are refused before anything is allocated", () => {
  for (const [body, values] of /** @type {[number[], number][]} */ ([
    [[2, 5 << 1], 5],
    [[2, 0, 1], 5],
    [[2, 0xff, 0xff, 0xff, 0xff, 0x0f, 1], 5],
    [[2, 0x80], 5],
    [[8, 3, 1, 1], 4],
    [[21, 2, 1], 1],
    [[3, 2, 4], 1],
    [[2], 1],
  ])) {
    assert.throws(() => present(body, values), RangeError, String(body));
  }
  for (const kind of /** @type {const} */ ([
    "string",
    "binary",
    "fixed",
    "int8",
    "int32",
    "int64",
    "float",
    "double",
  ])) {
    assert.throws(() => readPlain(kind, new Uint8Array(64), 2 ** 40, 16), RangeError);
  }
  assert.throws(() => readPlain("string", Uint8Array.of(255, 255, 255, 255, 65), 1, 1), RangeError);
  assert.throws(() => readPlain("int8", Uint8Array.of(0, 1, 0, 0), 1, 1), RangeError);
  assert.throws(() => readPlain("string", Uint8Array.of(1, 0, 0, 0, 255), 1, 1), TypeError);
  assert.throws(() => present([1, 0, 0, 0, 2, 1], 1, { nullable: true }), RangeError);
});

test("plain values are read, whole numbers beyond 2**53 as the nearest", () => {
  const long = new BigInt64Array([-1n, 2n ** 40n + 3n, -(2n ** 62n)]);
  assert.deepEqual(
    [...readPlain("int64", new Uint8Array(long.buffer), 3, 1)],
    [-1, 2 ** 40 + 3, -(2 ** 62)],
  );
  const int = new Uint8Array(Int32Array.of(-7, 2 ** 31 - 1).buffer);
  assert.deepEqual([...readPlain("int32", int, 2, 1)], [-7, 2 ** 31 - 1]);
  const text = Uint8Array.of(2, 0, 0, 0, 65, 66, 2, 0, 0, 0, 0xc3, 0xa9, 0, 0, 0, 0);
  assert.deepEqual(readPlain("string", text, 3, 1), ["AB", "é", ""]);
  assert.deepEqual([...readPlain("fixed", text, 2, 8)], [...text]);
});

test("what is not there is null or NaN", () => {
  const def = Uint8Array.of(1, 0, 1);
  const numbers = allocate("double", 3, 1);
  assert.equal(place(numbers, 0, 1, Float64Array.of(1, 2), def), 3);
  assert.deepEqual([...numbers], [1, NaN, 2]);
  const texts = allocate("string", 3, 1);
  place(texts, 0, 1, ["a", "b"], def);
  assert.deepEqual(texts, ["a", null, "b"]);
  assert.throws(() => place(allocate("fixed", 3, 2), 0, 2, new Uint8Array(4), def), RangeError);
});

test("lists keep their lengths across pages", () => {
  const counts = new Uint32Array(4);
  let row = countItems(Uint8Array.of(0, 1, 0), Uint8Array.of(1, 1, 0), counts, -1);
  row = countItems(Uint8Array.of(0, 1, 1, 0), Uint8Array.of(1, 1, 1, 1), counts, row);
  assert.equal(row, 3);
  assert.deepEqual(split(["a", "b", "c", "d", "e", "f"], counts), [
    ["a", "b"],
    [],
    ["c", "d", "e"],
    ["f"],
  ]);
  assert.throws(() => countItems(Uint8Array.of(0), Uint8Array.of(1), counts, row), RangeError);
  assert.throws(() => countItems(Uint8Array.of(1), Uint8Array.of(1), counts, -1), RangeError);
  assert.throws(() => even(new Int8Array(6), counts, 6), RangeError);
  assert.throws(() => even(new Int8Array(6), Uint32Array.of(3, 3), 5), RangeError);
});
