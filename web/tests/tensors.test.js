import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { describe, test } from "node:test";
import { Damaged } from "../viewer/errors.js";
import { architecture } from "../viewer/model.js";
import { loadWeights, MAX_WEIGHTS } from "../viewer/tensors.js";
import { golden } from "./networks.js";

const expected = await golden("tensors");
const TINY = architecture(expected.architecture);

/** @type {(text: string) => Uint8Array} */
const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
/** @type {(header: unknown, data?: Uint8Array) => Uint8Array} */
function file(header, data = new Uint8Array(0)) {
  const json = typeof header === "string" ? header : JSON.stringify(header);
  const text = new TextEncoder().encode(json);
  const found = new Uint8Array(8 + text.length + data.length);
  new DataView(found.buffer).setBigUint64(0, BigInt(text.length), true);
  found.set(text, 8);
  found.set(data, 8 + text.length);
  return found;
}

/** A good adapter of the tiny architecture. @returns {{header: any, data: Uint8Array}} */
function adapter() {
  const shapes = { z_scale: 3, z_shift: 3, film: 4, gain: 1, bias: 1 };
  /** @type {any} */
  const header = {};
  let end = 0;
  for (const [name, n] of Object.entries(shapes)) {
    header[name] = { dtype: "F32", shape: [n], data_offsets: [end, end + 4 * n] };
    end += 4 * n;
  }
  return { header, data: new Uint8Array(new Float32Array(end / 4).fill(0.5).buffer) };
}

/** @type {(change: (header: any, data: Uint8Array) => Uint8Array | void) => Uint8Array} */
function changed(change) {
  const { header, data } = adapter();
  return file(header, change(header, data) ?? data);
}

/** @type {(name: string, values: object) => Uint8Array} */
const altered = (name, values) => changed((header) => void Object.assign(header[name], values));
/** @type {(data: Uint8Array, ...values: number[]) => Uint8Array} */
const more = (data, ...values) => Uint8Array.of(...data, ...values);

describe("weights", () => {
  /** @type {(found: Record<string, Float32Array>, wanted: Record<string, number[]>) => void} */
  const same = (found, wanted) => {
    assert.deepEqual(Object.keys(found), Object.keys(wanted));
    for (const [name, value] of Object.entries(wanted)) {
      assert.deepEqual(found[name], Float32Array.from(value), name);
    }
  };

  for (const [i, { bytes, weights }] of expected.adapters.entries()) {
    test(`of float32, float16 and int8 are Python's, file ${i}`, () => {
      same(loadWeights(fromBase64(bytes), TINY, "adapter"), weights);
    });
  }

  test("of a backbone in int8 are Python's, wherever the bytes lie", () => {
    const { bytes, weights } = expected.backbone;
    const moved = more(Uint8Array.of(1, 2, 3), ...fromBase64(bytes)).subarray(3);
    same(loadWeights(moved, TINY, "backbone"), weights);
  });

  test("of the demo are what its architecture asks for", async () => {
    const { demo } = await golden("model");
    const arch = architecture(demo.architecture);
    for (const { backbone, model_id: own } of demo.models) {
      for (const [sha, kind] of [
        [backbone, "backbone"],
        [own, "adapter"],
      ]) {
        const path = `../../src/embarchive/demo/models/${sha}.safetensors`;
        const bytes = await readFile(new URL(path, import.meta.url));
        assert.equal(loadWeights(bytes, arch, kind).film.length, kind === "adapter" ? 128 : 8192);
      }
    }
  });
});

/** @type {[string, RegExp, Uint8Array][]} */
const hostile = [
  ["no bytes", /expected safetensors/, new Uint8Array(0)],
  ["seven bytes", /expected safetensors/, new Uint8Array(7)],
  ["more than any model", /expected at most 67108864 bytes/, new Uint8Array(MAX_WEIGHTS + 1)],
  ["a header beyond the end", /header of at most 0 bytes, found 2/, file("{}").subarray(0, 8)],
  ["a giant header", /header of at most/, Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 128, 123, 125)],
  ["a header over the cap", /header of at most 1048576/, file(" ".repeat((1 << 20) + 1))],
  ["a header that is no JSON", /header/, file("{]")],
  ["a header that is a list", /found no header/, file("[]")],
  ["a header that is null", /found no header/, file("null")],
  ["a header of zeros", /header/, new Uint8Array(16)],
  ["a name twice", /gain|distinct/, file('{"gain":{},"gain":{}}')],
  ["metadata that is a number", /metadata/, file({ __metadata__: { a: 1 } })],
  ["metadata that is null", /metadata/, file({ __metadata__: null })],
  ["no tensors", /differing in bias, film, gain, z_scale/, file({})],
  ["a tensor less", /20 bytes|byte/, changed((h) => void delete h.gain)],
  [
    "a tensor more",
    /differing in extra/,
    changed((h, data) => {
      h.extra = { dtype: "F32", shape: [1], data_offsets: [48, 52] };
      return more(data, 0, 0, 0, 0);
    }),
  ],
  [
    "an empty tensor more",
    /differing in extra/,
    changed((h) => {
      h.extra = { dtype: "F32", shape: [0], data_offsets: [48, 48] };
    }),
  ],
  [
    "a scale of nothing",
    /differing in extra.scale/,
    changed((h) => {
      h["extra.scale"] = { dtype: "F32", shape: [0], data_offsets: [48, 48] };
    }),
  ],
  [
    "a name of the language",
    /differing in __proto__/,
    changed((h) => {
      const entry = { dtype: "F32", shape: [0], data_offsets: [48, 48] };
      Object.defineProperty(h, "__proto__", { value: entry, enumerable: true });
    }),
  ],
  ["an entry that is no object", /gain: expected dtype/, changed((h) => void (h.gain = 7))],
  ["an entry without a shape", /gain: expected dtype/, changed((h) => void delete h.gain.shape)],
  ["an entry with more", /gain: expected dtype/, altered("gain", { more: 1 })],
  [
    "another type",
    /gain: expected one of .*, found F8_E4M3/,
    altered("gain", { dtype: "F8_E4M3" }),
  ],
  [
    "a type of another file",
    /gain: expected float16 or float32, found I32/,
    altered("gain", { dtype: "I32" }),
  ],
  [
    "a type of the language",
    /gain: expected one of .*, found toString/,
    altered("gain", { dtype: "toString" }),
  ],
  [
    "another shape",
    /z_scale: expected shape \(3\), found \(1,3\)/,
    altered("z_scale", { shape: [1, 3] }),
  ],
  ["a shape of its own length", /gain: expected 8 bytes/, altered("gain", { shape: [2] })],
  ["a shape of negatives", /gain: expected a shape/, altered("gain", { shape: [-1, -1] })],
  [
    "a shape beyond numbers",
    /gain: expected .* bytes/,
    altered("gain", { shape: [2 ** 52, 2 ** 52] }),
  ],
  ["a shape of many", /gain: expected a shape/, altered("gain", { shape: Array(9).fill(1) })],
  ["half offsets", /gain: expected a shape/, altered("gain", { data_offsets: [40.5, 44.5] })],
  ["one offset", /gain: expected a shape/, altered("gain", { data_offsets: [40] })],
  [
    "offsets beyond the end",
    /bias: expected 4 bytes of 48/,
    altered("bias", { data_offsets: [48, 52] }),
  ],
  ["offsets turned round", /bias: expected 4 bytes/, altered("bias", { data_offsets: [48, 44] })],
  [
    "two tensors in one place",
    /expected it to start at/,
    altered("bias", { data_offsets: [40, 44] }),
  ],
  [
    "a hole",
    /bias: expected it to start at byte 44, found 48/,
    changed((h, data) => {
      h.bias.data_offsets = [48, 52];
      return more(data, 0, 0, 0, 0);
    }),
  ],
  ["a byte less", /bias: expected 4 bytes of 47/, changed((_, data) => data.slice(0, -1))],
  ["a byte more", /expected 48 bytes of tensors, found 49/, changed((_, data) => more(data, 0))],
  ["a number that is none", /z_scale: expected finite/, changed((_, data) => data.fill(255, 0, 4))],
  [
    "an infinite number",
    /bias: expected finite/,
    changed((_, data) => {
      data.set([0, 0, 128, 127], 44);
    }),
  ],
  [
    "int8 without a scale",
    /bias: expected float16 or float32, found I8/,
    changed((h, data) => {
      h.bias = { dtype: "I8", shape: [1], data_offsets: [44, 45] };
      return data.slice(0, 45);
    }),
  ],
];

describe("bytes that are not those weights are damaged:", () => {
  for (const [name, words, bytes] of hostile) {
    test(name, () => {
      assert.throws(
        () => loadWeights(bytes, TINY, "adapter"),
        (error) => error instanceof Damaged && words.test(error.message),
      );
    });
  }

  test("int8 beside a scale that is odd", () => {
    for (const [dtype, shape, values] of /** @type {[string, number[], number[]][]} */ ([
      ["F16", [1], [0, 60]],
      ["F32", [2], [0, 0, 0, 0, 0, 0, 0, 0]],
      ["F32", [1], [0, 0, 192, 127]],
      ["F32", [1], [0, 0, 128, 127]],
      ["F32", [1], [255, 255, 127, 127]],
    ])) {
      const { header, data } = adapter();
      header.bias = { dtype: "I8", shape: [1], data_offsets: [44, 45] };
      header["bias.scale"] = { dtype, shape, data_offsets: [45, 45 + values.length] };
      const bytes = file(header, more(data.slice(0, 44), 100, ...values));
      assert.throws(() => loadWeights(bytes, TINY, "adapter"), Damaged, `${dtype} ${shape}`);
    }
  });

  test("bytes changed anywhere, or anything at all", () => {
    const good = fromBase64(expected.adapters[2].bytes);
    let refused = 0;
    for (let i = 0; i < good.length; i++) {
      for (const bit of [1, 32, 128]) {
        const bytes = good.slice();
        bytes[i] ^= bit;
        try {
          loadWeights(bytes, TINY, "adapter");
        } catch (error) {
          assert.ok(error instanceof Damaged, String(error));
          refused += 1;
        }
      }
    }
    assert.ok(refused > 500);
  });
});
