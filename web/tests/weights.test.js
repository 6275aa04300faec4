import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { before, describe, test } from "node:test";
import { decodeRows } from "../viewer/decode.js";
import { BadInput, Damaged } from "../viewer/errors.js";
import { parseGeneration, parsePointer } from "../viewer/manifest.js";
import { architecture } from "../viewer/model.js";
import { Network } from "../viewer/network.js";
import { Models } from "../viewer/weights.js";
import { golden, kernelsFromFiles, randomNumbers, randomWeights, safetensors } from "./networks.js";

const DEMO = new URL("../../src/embarchive/demo/", import.meta.url);
/** @type {(path: string) => Promise<Uint8Array>} */
const read = async (path) => new Uint8Array(await readFile(new URL(path, DEMO)));
const pointer = parsePointer(await read("embarchive.json"));
const generation = parseGeneration(await read(`manifests/${pointer.manifest}.json`));
const { demo } = await golden("model");

before(kernelsFromFiles);

/** A reader that reads the demo's files and remembers what for. */
function fakeReader() {
  /** @type {string[]} */
  const asked = [];
  /** @type {(kind: string, sha256: string, length: number) => Promise<Uint8Array>} */
  const object = async (kind, sha256, length) => {
    asked.push(sha256);
    const isModel = kind === "model";
    const path = isModel ? `models/${sha256}.safetensors` : `manifests/${sha256}.parquet`;
    const bytes = await read(path);
    assert.equal(bytes.length, length);
    return bytes;
  };
  return { asked, object };
}

describe("models", () => {
  test("of the demo decode every region to Python's pixels, each object read once", async () => {
    const reader = fakeReader();
    const models = new Models(reader, generation);
    for (const { model_id: id, embedding, std, step, pixels } of demo.models) {
      const rows = { embedding: Int8Array.from(embedding.flat()), model_id: Array(2).fill(id) };
      const images = await decodeRows((name) => models.decoder(name), rows, 64);
      assert.equal(images.length, 2 * 4 * 64 * 112);
      for (const [i, pixel] of pixels.entries()) {
        assert.ok(Math.abs(images[i * step] - pixel) < 1e-4 * std, `pixel ${i * step}`);
      }
    }
    assert.equal(reader.asked.length, 2 + demo.models.length);
    assert.equal(new Set(reader.asked).size, reader.asked.length);
  });

  test("asked for at once are fetched once, and share their backbone", async () => {
    const reader = fakeReader();
    const models = new Models(reader, generation);
    const names = demo.models.map((/** @type {any} */ model) => model.model_id);
    const found = await Promise.all([...names, ...names].map((id) => models.decoder(id)));
    assert.equal(reader.asked.length, 2 + names.length);
    assert.equal(new Set(found.map(({ network }) => network.backbone)).size, 1);
    assert.ok(found.every(({ scale, codeScale }) => scale === demo.scale && codeScale === null));
    assert.ok(found.every(({ codes }) => codes === null));
  });

  test("are asked for again after a failure", async () => {
    const reader = fakeReader();
    let down = true;
    const object = /** @type {typeof reader.object} */ (
      async (...asked) => {
        if (down) throw new Damaged("flipped on the way");
        return reader.object(...asked);
      }
    );
    const models = new Models({ object }, generation);
    await assert.rejects(models.decoder(demo.models[0].model_id), /flipped/);
    down = false;
    assert.equal((await models.decoder(demo.models[0].model_id)).scale, demo.scale);
  });

  /** A small network of a region's own, behind a table of one row. @param {object} changes */
  async function own(changes) {
    const values = (await golden("tensors")).architecture;
    const weights = randomWeights(architecture(values), "full", 4);
    const bytes = safetensors(architecture(values), "full", weights);
    const space = { ...generation.spaces[0], architecture: values };
    const models = new Models({ object: async () => bytes }, { ...generation, spaces: [space] });
    const row = { model_id: "own", length: bytes.length, kind: "full", space_id: space.space_id };
    models.table = async () => [/** @type {any} */ ({ ...row, ...changes })];
    return { weights, models };
  }

  test("of a region's own decode its codes, by the step of its own encoder", async () => {
    const { weights, models } = await own({});
    const { network, codeScale } = await models.decoder("own");
    assert.equal(codeScale, weights["encoder.step"][0]);
    const z = randomNumbers(5, 9);
    assert.deepEqual(network.decode(z), new Network(network.arch, weights, null).decode(z));
  });

  test("of a region's own give means the network that their space shares", async () => {
    const values = (await golden("tensors")).architecture;
    const arch = architecture(values);
    const shared = randomWeights(arch, "backbone", 5);
    const { models: alone } = await own({});
    await assert.rejects(alone.plainDecoder("own"), Damaged);
    const files = {
      own: safetensors(arch, "full", randomWeights(arch, "full", 4)),
      all: safetensors(arch, "backbone", shared),
    };
    const space = { ...generation.spaces[0], architecture: values, backbone: "all" };
    const object = async (/** @type {string} */ _, /** @type {string} */ name) =>
      /** @type {Record<string, Uint8Array>} */ (files)[name];
    const models = new Models({ object }, { ...generation, spaces: [space] });
    const row = { model_id: "own", length: 1, kind: "full", space_id: space.space_id };
    models.table = async () => [/** @type {any} */ (row)];
    const { network, codeScale } = await models.plainDecoder("own");
    assert.equal(codeScale, null);
    const z = randomNumbers(5, 9);
    assert.deepEqual(network.decode(z), new Network(arch, shared, null).decode(z));
  });

  test("of a space with a fidelity layer have it, fetched once, and only one of their chips", async () => {
    const { code, chip } = await golden("fidelity");
    const [bands, height, width] = chip;
    const layers = { code: "c".repeat(64), code_length: 7, quality: "32 bytes" };
    const settings = { ...generation.settings, bands: Array(bands).fill("x"), height, width };
    const reader = fakeReader();
    let asked = 0;
    const object = /** @type {typeof reader.object} */ (
      async (kind, sha256, length) => {
        if (sha256 !== layers.code) return reader.object(kind, sha256, length);
        asked += 1;
        assert.equal(length, 7);
        return Uint8Array.from(atob(code), (letter) => letter.charCodeAt(0));
      }
    );
    const spaces = [{ ...generation.spaces[0], ...layers }];
    const models = new Models({ object }, { ...generation, settings, spaces });
    const names = demo.models.map((/** @type {any} */ model) => model.model_id);
    const found = await Promise.all(names.map((/** @type {string} */ id) => models.decoder(id)));
    assert.equal(asked, 1);
    assert.ok(found.every(({ codes }) => codes?.tile && codes.tile === found[0].codes?.tile));
    const others = new Models({ object }, { ...generation, spaces });
    await assert.rejects(others.decoder(names[0]), Damaged);
  });

  test("of another kind than their bytes, and adapters on no backbone, are damage", async () => {
    const { models: shared } = await own({ kind: "shared" });
    await assert.rejects(shared.decoder("own"), /shared weights: expected the architecture/);
    const { models: adapter } = await own({ kind: "adapter", backbone: null });
    await assert.rejects(adapter.decoder("own"), /expected an adapter's backbone, found none/);
  });

  test("that the table lacks are damage, and so is a space that the generation lacks", async () => {
    const models = new Models(fakeReader(), generation);
    await assert.rejects(models.decoder("f".repeat(64)), /expected a row in the models table/);
    const lost = new Models(fakeReader(), { ...generation, spaces: [] });
    const id = demo.models[0].model_id;
    await assert.rejects(lost.decoder(id), /expected it in the generation/);
    await assert.rejects(lost.decoder(id), Damaged);
  });

  test("of an archive without models are none, and its rows have no decoder", async () => {
    const models = new Models(fakeReader(), { ...generation, models: null });
    assert.deepEqual(await models.table(), []);
    await assert.rejects(models.decoder(""), BadInput);
    await assert.rejects(models.decoder(""), /some of a space without one/);
  });
});
