import assert from "node:assert/strict";
import { describe, test } from "node:test";
import * as decode from "../viewer/decode.js";
import { BadInput, Damaged } from "../viewer/errors.js";
import { apply, loadLayer } from "../viewer/layer.js";
import { fromBase64 } from "./codefiles.js";
import { golden, randomNumbers } from "./networks.js";

const expected = await golden("decode");
const SHAPE = expected.shape;
const SIZE = SHAPE[1] * SHAPE[2] * SHAPE[3];
const IMAGES = randomNumbers(7, SHAPE[0] * SIZE).map((value, i) => (i % 11 ? value : NaN));

/** A decoder that repeats each number of z twice and counts. @param {number} [codeScale] */
function fake(codeScale) {
  /** @type {number[]} */
  const calls = [];
  /** @param {Float32Array} z */
  const decodeAll = (z) => {
    calls.push(z.length);
    return Float32Array.from({ length: 2 * z.length }, (_, i) => z[i >> 1]);
  };
  /** @type {any} */
  const network = { decode: decodeAll };
  return { calls, network, scale: 0.5, codeScale: codeScale ?? null };
}

describe("rows", () => {
  const embedding = Int8Array.of(1, 2, 3, 4, 5, 6, -7, -8);

  test("are decoded by their own model, each asked for once, and stay in order", async () => {
    const decoders = { a: fake(), b: fake(2) };
    const rows = {
      embedding,
      model_id: ["a", "b", "a", "b"],
      code: [null, Uint8Array.of(255, 1), null, Uint8Array.of(128, 127)],
    };
    /** @type {string[]} */
    const asked = [];
    const images = await decode.decodeRows(
      async (id) => {
        asked.push(id);
        return decoders[/** @type {"a" | "b"} */ (id)];
      },
      rows,
      2,
    );
    assert.deepEqual(asked, ["a", "b"]);
    assert.deepEqual(
      [...images],
      [0.5, 0.5, 1, 1, -2, -2, 2, 2, 2.5, 2.5, 3, 3, -256, -256, 254, 254],
    );
    assert.deepEqual([decoders.a.calls, decoders.b.calls], [[4], [4]]);
  });

  test("that are none decode to nothing, without asking", async () => {
    const none = { embedding: new Int8Array(0), model_id: [] };
    assert.equal((await decode.decodeRows(() => assert.fail("asked"), none, 2)).length, 0);
  });

  test("of a region's own network need their code", async () => {
    const rows = { embedding: embedding.slice(0, 2), model_id: ["a"] };
    const load = async () => fake(1);
    await assert.rejects(decode.decodeRows(load, rows, 2), BadInput);
    for (const code of [null, Uint8Array.of(1), Uint8Array.of(1, 2, 3)]) {
      await assert.rejects(decode.decodeRows(load, { ...rows, code: [code] }, 2), Damaged);
    }
  });

  test("of a space with a fidelity layer decode from their streams, after a vector of their own", async () => {
    const { code, chip } = await golden("fidelity");
    const [bands, height, width] = chip;
    const layer = loadLayer(fromBase64(code), { bands, height, width });
    const size = bands * height * width;
    /** @type {any} */
    const network = { arch: { bands, height, width } };
    network.decode = (/** @type {Float32Array} */ z) =>
      new Float32Array((z.length / 2) * size).fill(z[0]);
    const stream = Uint8Array.of(77, 3, 1, 150);
    const rows = { embedding: Int8Array.of(1, 2, 1, 2), model_id: ["a", "b"] };
    const codes = [stream, Uint8Array.of(2, 0, ...stream)];
    const load = async (/** @type {string} */ id) => {
      return {
        network,
        scale: 1,
        codeScale: id === "b" ? 0.5 : null,
        codes: { tile: layer, place: null },
      };
    };
    const images = await decode.decodeRows(load, { ...rows, code: codes }, 2);
    const expected = new Float32Array(size).fill(1);
    apply(layer, expected, network.arch, [stream]);
    assert.deepEqual(images, Float32Array.of(...expected, ...expected));
    assert.notEqual(new Set(expected).size, 1);
    await assert.rejects(decode.decodeRows(load, rows, 2), BadInput);
    for (const code of [null, Uint8Array.of(1)]) {
      await assert.rejects(decode.decodeRows(load, { ...rows, code: [stream, code] }, 2), Damaged);
    }
  });

  test("hear what the loader says", async () => {
    const load = async () => {
      throw new Damaged("no such model");
    };
    await assert.rejects(decode.decodeRows(load, { embedding, model_id: ["a"] }, 8), /no such/);
  });
});

describe("bands", () => {
  for (const { names, visible, ndvi } of expected.names) {
    test(`${names.join(" ")} are found as Python finds them`, () => {
      assert.deepEqual(decode.visibleBands(names), visible);
      assert.deepEqual(decode.ndviBands(names), ndvi);
    });
  }
});

describe("pictures", () => {
  test("have Python's stretch and Python's pixels", () => {
    const limits = decode.stretchLimits(IMAGES, SHAPE, expected.bands);
    limits.flat().forEach((value, i) => {
      assert.ok(Math.abs(value - expected.limits.flat()[i]) < 2e-6);
    });
    for (let i = 0; i < SHAPE[0]; i++) {
      const image = IMAGES.subarray(i * SIZE, (i + 1) * SIZE);
      const found = decode.picture(image, SHAPE, expected.bands, limits);
      assert.deepEqual([...found.filter((_, at) => at % 4 < 3)], expected.pictures[i]);
      assert.ok(found.every((value, at) => at % 4 < 3 || value === 255));
    }
  });

  test("of nothing but NaN are black, of one value black to its limits", () => {
    const nothing = new Float32Array(4).fill(NaN);
    assert.deepEqual(decode.stretchLimits(nothing, [1, 2, 2], [0]), [[0, 1]]);
    const black = decode.picture(nothing, [1, 2, 2], [0, 0, 0], Array(3).fill([0, 1]));
    assert.deepEqual([...black], Array(4).fill([0, 0, 0, 255]).flat());
    const flat = decode.picture(nothing.fill(7), [1, 2, 2], [0, 0, 0], Array(3).fill([7, 7]));
    assert.equal(flat[0], 0);
  });
});

describe("NDVI", () => {
  /** @type {(near: number, red: number) => number[]} */
  const colour = (near, red) => {
    return [...decode.ndviPicture(Float32Array.of(near, red), [2, 1, 1], [0, 1])];
  };

  test("goes from brown by white to green, and stays at the ends", () => {
    assert.deepEqual(colour(0.4, 0.6), [107, 62, 18, 255]);
    assert.deepEqual(colour(0.6, 0.4), [245, 243, 234, 255]);
    assert.deepEqual(colour(1, 0), [11, 79, 31, 255]);
    assert.deepEqual(colour(0.1, 0.9), colour(0.4, 0.6));
    assert.deepEqual(colour(1, -0.5), colour(1, 0));
  });

  test("has an end where the sum is not positive, and black where there is no number", () => {
    assert.deepEqual(colour(0.1, -0.2), colour(1, 0));
    assert.deepEqual(colour(-0.2, 0.1), colour(0, 1));
    assert.deepEqual(colour(0, 0), [175, 149, 124, 255]);
    for (const odd of [NaN, Infinity]) assert.deepEqual(colour(odd, 1), [0, 0, 0, 255]);
  });

  test("is darker away from white, step by step", () => {
    const light = Array.from({ length: 61 }, (_, i) => {
      const value = -0.2 + i * 0.02;
      const [r, g, b] = colour((1 + value) / 2, (1 - value) / 2);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    });
    light.slice(1).forEach((value, i) => assert.ok(i < 20 ? value > light[i] : value < light[i]));
  });
});

test("a crop holds its rows and columns of every band", () => {
  const image = Float32Array.from({ length: 2 * 4 * 5 }, (_, i) => i);
  const found = decode.cropPixels(image, [2, 4, 5], [1, 3, 2, 5]);
  assert.deepEqual(found.shape, [2, 2, 3]);
  assert.deepEqual([...found.image], [7, 8, 9, 12, 13, 14, 27, 28, 29, 32, 33, 34]);
});
