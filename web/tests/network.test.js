import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { BadInput } from "../viewer/errors.js";
import { kernel } from "../viewer/kernels.js";
import { architecture } from "../viewer/model.js";
import { Network } from "../viewer/network.js";
import { golden, kernelsFromFiles, randomNumbers, randomWeights } from "./networks.js";

/** @typedef {import("../viewer/model.js").Architecture} Architecture */

before(kernelsFromFiles);
const expected = await golden("model");
const SMALL = architecture(expected.random[0].architecture);
const OTHER = architecture(expected.random[1].architecture);

/** @type {(arch: Architecture, adapted: boolean, seed?: number) => Network} */
function network(arch, adapted, seed = 1) {
  const adapter = adapted ? randomWeights(arch, "adapter", 2) : null;
  return new Network(arch, randomWeights(arch, "backbone", seed), adapter);
}

/** @type {(arch: Architecture, n: number) => Float32Array} */
const vectors = (arch, n) => randomNumbers(3, n * arch.dim).map((value) => 3 * value);

describe("decoded pixels", () => {
  for (const { architecture: values, adapted, std, step, pixels } of expected.random) {
    test(`of ${Object.values(values).join(" ")} are Python's`, () => {
      const arch = architecture(values);
      const found = network(arch, adapted).decode(vectors(arch, 3));
      assert.equal(found.length, 3 * arch.bands * arch.height * arch.width);
      for (const [i, pixel] of pixels.entries()) {
        assert.ok(Math.abs(found[i * step] - pixel) < 1e-5 * std, `pixel ${i * step}`);
      }
    });
  }

  test("are the same alone, in a batch, and in any number of batches", () => {
    const one = network(SMALL, true);
    const all = one.decode(vectors(SMALL, 35));
    const pixels = all.length / 35;
    for (const i of [0, 15, 16, 34]) {
      const z = vectors(SMALL, 35).subarray(i * SMALL.dim, (i + 1) * SMALL.dim);
      assert.deepEqual(one.decode(z), all.slice(i * pixels, (i + 1) * pixels));
    }
  });

  test("do not depend on which network was there before", () => {
    const [one, two] = [network(SMALL, true), network(OTHER, false)];
    const three = new Network(SMALL, one.backbone, null);
    const first = [one, two, three].map((net) => net.decode(vectors(net.arch, 2)));
    const shuffled = [three, two, one].map((net) => net.decode(vectors(net.arch, 2)));
    assert.deepEqual(shuffled.reverse(), first);
    one.free();
    assert.deepEqual(one.decode(vectors(SMALL, 2)), first[0]);
    assert.notDeepEqual(first[0], first[2]);
  });

  test("survive vectors that are out of all proportion", () => {
    const one = network(SMALL, true);
    const before = one.decode(vectors(SMALL, 1));
    one.decode(new Float32Array(SMALL.dim).fill(3e38));
    one.decode(new Float32Array(SMALL.dim).fill(NaN));
    assert.deepEqual(one.decode(vectors(SMALL, 1)), before);
  });

  test("of no vector are none, of half a vector refused", () => {
    assert.equal(network(SMALL, false).decode(new Float32Array(0)).length, 0);
    assert.throws(() => network(SMALL, false).decode(new Float32Array(9)), BadInput);
  });
});

test("a network larger than the memory can be is refused before anything is written", () => {
  const reach = kernel("decode").reach;
  kernel("decode").reach = () => {
    throw new BadInput("memory: expected room");
  };
  try {
    assert.throws(() => network(SMALL, false, 9).decode(vectors(SMALL, 1)), /memory: expected/);
  } finally {
    kernel("decode").reach = reach;
  }
  assert.equal(network(SMALL, false, 9).decode(vectors(SMALL, 1)).length, 5 * 48 * 32);
});
