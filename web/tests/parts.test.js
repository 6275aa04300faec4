import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { Damaged } from "../viewer/errors.js";
import { parseModels, parsePart, partRef } from "../viewer/parts.js";
import { GOLDEN, bytesOf, golden } from "./faults.js";

const said = golden("manifest");
const table = (/** @type {string} */ name) => bytesOf(join(GOLDEN, "tables", `${name}.parquet`));

test("a part has Python's shards and totals", async () => {
  const shards = await parsePart(table("part"), said.ref);
  assert.deepEqual(shards, said.shards);
  assert.deepEqual(partRef(shards, said.ref.sha256, said.ref.length), said.ref);
  assert.ok(shards.every(Object.isFrozen));
});

test("a models table has Python's rows", async () => {
  assert.deepEqual(await parseModels(table("models")), said.models);
});

test("tables that Python refuses are refused, and the error names what is wrong", async () => {
  const names = {
    "part-sha": "sha256",
    "part-blocks": "blocks",
    "part-prefix": "under their prefix",
    "part-cell": "geohash_max",
    "part-prefixes": "under their prefix",
    "part-footer": "footers within",
    "part-rows": "rows",
    "part-length": "length",
    "part-box": "bbox.xmax",
    "part-nan": "bbox.ymin",
    "part-time": "datetime_max",
    "part-kind": "part",
    "part-version": "version 1, found 2",
    "part-missing": "blocks",
    "part-type": "length",
    "models-kind": "kind",
    "models-length": "backbone_length",
    "models-sha": "onnx_sha256",
  };
  for (const [name, word] of Object.entries(names)) {
    const kind = said.tables[name];
    const read = name.startsWith("part")
      ? parsePart(table(name), said.ref)
      : parseModels(table(name));
    await assert.rejects(read, (/** @type {Error} */ error) => {
      assert.equal(error.name, kind, name);
      assert.ok(error.message.includes(word), `${name}: ${error.message}`);
      return true;
    });
  }
});

test("a part whose reference has other totals is damaged", async () => {
  for (const [key, value] of Object.entries({
    rows: 61,
    shards: 4,
    geohash_min: "u0nd8",
    geohash_max: "u0q01",
    shard_bytes: 1,
    datetime_min: null,
    datetime_max: 0,
    bbox: [0, 0, 1, 1],
  })) {
    await assert.rejects(
      parsePart(table("part"), { ...said.ref, [key]: value }),
      (/** @type {Error} */ error) => {
        assert.ok(error instanceof Damaged && error.message.endsWith(key), error.message);
        return true;
      },
    );
  }
});

test("what is no Parquet table is damaged", async () => {
  const data = table("part");
  for (const other of [
    data.subarray(0, 0),
    data.subarray(0, 11),
    data.subarray(9),
    new Uint8Array(5000),
  ]) {
    await assert.rejects(parsePart(other, said.ref), Damaged);
  }
});
