import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { BadInput, Damaged, EmbarchiveError } from "../viewer/errors.js";
import { readColumns, readMetadata, unzstd } from "../viewer/parquet.js";
import { parseFooter, readRows } from "../viewer/shards.js";
import { GOLDEN, bytesOf } from "./faults.js";

const shard = bytesOf(join(GOLDEN, "tables", "shard.parquet"));
const NAMES = ["geohash", "datetime", "embedding", "bits", "code", "source", "mse", "bbox"];

/** Numbers below `n`, the same each time. @param {number} seed */
function draws(seed) {
  let state = seed >>> 0;
  return (/** @type {number} */ n) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}

/**
 * Read all of a shard; its error, when it is one that a visitor can meet.
 *
 * @param {Uint8Array} data
 */
async function outcome(data) {
  try {
    const metadata = parseFooter(data, 16, 32, "shard x");
    const groups = [...metadata.groups.keys()];
    await readRows(metadata, groups, NAMES, (start, end) => data.subarray(start, end));
  } catch (error) {
    if (error instanceof EmbarchiveError) return error.message;
    throw error;
  }
  return null;
}

test("bytes changed anywhere give an error that names the object, or other values", async () => {
  const draw = draws(1);
  let refused = 0;
  for (let i = 0; i < 400; i++) {
    const data = shard.slice();
    for (let k = 0; k <= draw(3); k++) data[draw(data.length)] = draw(256);
    const message = await outcome(data);
    if (message === null) continue;
    refused += 1;
    assert.match(message, /^shard x: expected .+, found .+$/);
  }
  assert.ok(refused > 50, `${refused}`);
});

test("a footer with bytes changed never asks for more than the file has", async () => {
  const draw = draws(2);
  const length = new DataView(shard.buffer).getUint32(shard.length - 8, true) + 8;
  for (let i = 0; i < 600; i++) {
    const data = shard.slice();
    for (let k = 0; k <= draw(4); k++) data[data.length - 1 - draw(length)] = draw(256);
    const message = await outcome(data);
    if (message !== null) assert.match(message, /^shard x: expected .+/);
  }
});

test("columns cut short, or given too long, are damaged", async () => {
  const metadata = readMetadata(shard, "shard x");
  const read = (/** @type {(bytes: Uint8Array) => Uint8Array} */ bend) =>
    readColumns(metadata, [0], ["embedding"], (start, end) => bend(shard.subarray(start, end)));
  await read((bytes) => bytes);
  for (const bend of [
    (/** @type {Uint8Array} */ bytes) => bytes.subarray(0, -1),
    (/** @type {Uint8Array} */ bytes) => new Uint8Array(bytes.length),
    (/** @type {Uint8Array} */ bytes) => new Uint8Array([...bytes, 0]),
    () => new Uint8Array(0),
  ]) {
    await assert.rejects(
      read(bend),
      /^Damaged: shard x: expected a readable column embedding, found/,
    );
  }
});

test("a frame is what it holds, of its length, and asks for no more memory than that", () => {
  // One block of seven times 9; the header says 7 bytes, or a window of 2^23 or beyond.
  const block = [3 + 8 * 7, 0, 0, 9];
  const frame = (/** @type {number[]} */ ...header) =>
    Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, ...header, ...block);
  for (const good of [frame(0x20, 7), frame(0, 13 << 3)]) {
    assert.deepEqual(unzstd(good, 7), new Uint8Array(7).fill(9));
    for (const other of [6, 8, 0]) assert.throws(() => unzstd(good, other));
  }
  const large = [frame(0, (13 << 3) + 1), frame(0xa0, 0, 0, 0, 127), frame(0x60, 0, 0)];
  for (const bad of large) assert.throws(() => unzstd(bad, 7), /a window of \d+ instead of/);
});

test("an unknown column is bad input", async () => {
  const metadata = readMetadata(shard, "x");
  await assert.rejects(
    readColumns(metadata, [0], ["nothing"], () => shard),
    BadInput,
  );
});

test("what is no Parquet is damaged", () => {
  for (const data of [
    new Uint8Array(0),
    new Uint8Array(100),
    new TextEncoder().encode("PAR1PAR1"),
  ]) {
    assert.throws(() => readMetadata(data, "x"), Damaged);
  }
});
