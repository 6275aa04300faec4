import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { BadInput, Damaged } from "../viewer/errors.js";
import { Codes, simHashFromJson, squaredL2, squaredL2Columns } from "../viewer/quantize.js";
import { golden, kernelsFromFiles, randomNumbers } from "./networks.js";

before(kernelsFromFiles);
const expected = await golden("quantize");

/** @type {(seed: number, n: number) => Int8Array} */
const int8s = (seed, n) => Int8Array.from(randomNumbers(seed, n), (value) => 128 * value);
/** @type {(width: number, n: number) => Codes} */
function filled(width, n) {
  const codes = new Codes(n, width);
  codes.bytes.set(new Uint8Array(int8s(width, n * width).buffer));
  return codes;
}

/** @type {(codes: Uint8Array, width: number, query: Uint8Array) => number[]} */
function plainly(codes, width, query) {
  return Array.from({ length: codes.length / width }, (_, row) =>
    query.reduce((sum, byte, i) => sum + ones(byte ^ codes[row * width + i]), 0),
  );
}

/** @type {(byte: number) => number} */
const ones = (byte) => byte.toString(2).replaceAll("0", "").length;

describe("Hamming distances", () => {
  for (const { width, distances } of expected.hamming) {
    test(`of ${width} bytes are Python's`, () => {
      const codes = filled(width, 38);
      const found = codes.distances(codes.bytes.slice(37 * width));
      assert.deepEqual([...found.slice(0, 37)], distances);
      assert.equal(found[37], 0);
      codes.free();
    });
  }

  test("of every width, and of any number of codes, are those of single bytes", () => {
    for (const width of [1, 3, 8, 15, 16, 17, 31, 32, 64, 127, 128, 129, 512]) {
      for (const n of [0, 1, 15, 16, 33]) {
        const codes = filled(width, n);
        const query = new Uint8Array(int8s(9, width).buffer);
        assert.deepEqual([...codes.distances(query)], plainly(codes.bytes, width, query));
        codes.free();
      }
    }
  });

  test("reach from nothing to every bit", () => {
    for (const width of [1, 16, 24, 128, 8000]) {
      const codes = new Codes(20, width);
      codes.bytes.fill(255);
      const bits = 8 * width;
      assert.deepEqual([...codes.distances(new Uint8Array(width))], Array(20).fill(bits));
      assert.deepEqual([...codes.distances(new Uint8Array(width).fill(255))], Array(20).fill(0));
      codes.free();
    }
  });

  test("of several sets of codes do not meet, whatever was freed between", () => {
    const [a, b] = [filled(16, 50), filled(3, 1000)];
    const query = a.bytes.slice(0, 16);
    const first = a.distances(query);
    a.free();
    const [c, d] = [filled(1, 7), filled(128, 5000)];
    const again = filled(16, 50);
    assert.deepEqual(again.distances(query), first);
    for (const [codes, width, n] of /** @type {[Codes, number, number][]} */ ([
      [b, 3, 1000],
      [c, 1, 7],
      [d, 128, 5000],
    ])) {
      assert.deepEqual(codes.bytes, new Uint8Array(int8s(width, n * width).buffer));
    }
    for (const codes of [b, c, d, again]) codes.free();
  });

  test("are refused for another width, once freed, and of more codes than fit", () => {
    const codes = new Codes(2, 4);
    assert.throws(() => codes.distances(new Uint8Array(5)), /a query of 4 bytes, found 5/);
    codes.free();
    codes.free();
    assert.throws(() => codes.bytes, BadInput);
    assert.throws(() => new Codes(2 ** 30, 128), /memory: expected room/);
    for (const [n, width] of [
      [-1, 4],
      [1.5, 4],
      [1, 0],
      [NaN, 4],
    ]) {
      assert.throws(() => new Codes(n, width), BadInput);
    }
  });
});

describe("squared distances", () => {
  for (const { dim, distances } of expected.squared) {
    test(`of ${dim} numbers are Python's`, () => {
      const q = int8s(dim, 6 * dim);
      const found = squaredL2(q.slice(0, 5 * dim), q.slice(5 * dim), dim);
      assert.deepEqual([...found], distances);
      const columns = new Int8Array(5 * dim).map((_, at) => q[(at % 5) * dim + Math.floor(at / 5)]);
      assert.deepEqual([...squaredL2Columns(columns, q.slice(5 * dim))], distances);
    });
  }

  test("of the farthest vectors are exact", () => {
    const [low, high] = [-128, 127].map((one) => new Int8Array(4096).fill(one));
    assert.deepEqual([...squaredL2(low, high, 4096)], [4096 * 255 ** 2]);
    assert.deepEqual([...squaredL2Columns(low, high)], [4096 * 255 ** 2]);
  });

  test("are refused between vectors of two lengths", () => {
    assert.throws(() => squaredL2Columns(new Int8Array(7), new Int8Array(3)), BadInput);
    assert.throws(() => squaredL2Columns(new Int8Array(0), new Int8Array(0)), BadInput);
    assert.throws(() => squaredL2(new Int8Array(6), new Int8Array(4), 3), BadInput);
    assert.throws(() => squaredL2(new Int8Array(7), new Int8Array(3), 3), BadInput);
  });
});

describe("SimHash", () => {
  for (const { values, codes } of expected.simhash) {
    test(`of ${values.bits} bits is Python's`, () => {
      const simhash = simHashFromJson(values, values.dim, values.bits);
      const found = simhash.encode(int8s(2, 9 * values.dim));
      assert.deepEqual([...found], codes.flat());
      assert.throws(() => simhash.encode(new Int8Array(values.dim + 1)), BadInput);
    });
  }

  const good = expected.simhash[0].values;
  const odd = [
    null,
    [],
    "text",
    { ...good, extra: 1 },
    { ...good, bits: 9 },
    { ...good, bits: "8" },
    { ...good, dim: 4 },
    { ...good, offsets: "none" },
    { ...good, offsets: good.offsets.slice(1) },
    { ...good, offsets: good.offsets.map(() => 0.5) },
    { ...good, offsets: good.offsets.map(() => 2 ** 31) },
    { ...good, planes: 7 },
    { ...good, planes: good.planes.slice(4) },
    { ...good, planes: `*${good.planes.slice(1)}` },
    { ...good, planes: ` ${good.planes.slice(1)}` },
    { ...good, planes: `${good.planes.slice(0, -2)}AA` },
  ];
  odd.forEach((values, i) => {
    test(`with values that are not its own is damaged, case ${i}`, () => {
      assert.throws(() => simHashFromJson(values, good.dim, good.bits), Damaged);
    });
  });
});
