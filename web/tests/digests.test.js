import assert from "node:assert/strict";
import { test } from "node:test";

import * as digests from "../viewer/digests.js";
import { Damaged } from "../viewer/errors.js";
import { golden } from "./faults.js";

/** @param {number} length */
function made(length) {
  return Uint8Array.from({ length }, (_, i) => ((i * i + i) / 2) % 251);
}

const hex = (/** @type {Uint8Array} */ bytes) => Buffer.from(bytes).toString("hex");

test("objects and blocks have Python's digests", async () => {
  for (const { length, sha256, outboard } of golden("digests")) {
    assert.equal(await digests.sha256(made(length)), sha256);
    assert.equal(hex(await digests.blockDigests(made(length))), outboard);
    assert.equal(digests.blockCount(length) * 32, outboard.length);
  }
});

test("a page without crypto.subtle computes the same", async () => {
  const hash = await digests.chooseHash(undefined);
  for (const { length, sha256 } of golden("digests"))
    assert.equal(hex(await hash(made(length))), sha256);
});

test("an object of another length or hash is damaged, and the error says which", async () => {
  const data = made(100);
  const sha = await digests.sha256(data);
  await digests.checkObject("x", data, sha, 100);
  await assert.rejects(
    digests.checkObject("x", data, sha, 101),
    /^Damaged: x: expected 101 bytes, found 100$/,
  );
  const other = made(100);
  other[7] ^= 1;
  const found = await digests.sha256(other);
  await assert.rejects(digests.checkObject("x", other, sha, 100), {
    message: `x: expected sha256 ${sha}, found ${found}`,
  });
});

test("a range of blocks is checked, and the block that differs is named", async () => {
  const data = made(50_000);
  const outboard = await digests.blockDigests(data);
  const check = (/** @type {Uint8Array<ArrayBuffer>} */ part, /** @type {number} */ start) =>
    digests.checkBlockRange("x", part, start, outboard, 50_000);
  await check(data.slice(16_384, 50_000), 16_384);
  await check(data.slice(0, 32_768), 0);
  const bent = data.slice(16_384, 50_000);
  bent[20_000] ^= 1;
  await assert.rejects(
    check(bent, 16_384),
    /^Damaged: x: block 2: expected digest [0-9a-f]{32}, found/,
  );
  await assert.rejects(check(data.slice(1, 16_385), 1), Damaged);
  await assert.rejects(check(data.slice(0, 16_000), 0), Damaged);
  await assert.rejects(check(made(65_536), 0), Damaged);
  await assert.rejects(digests.checkBlockRange("x", data, 0, outboard.slice(16), 50_000), Damaged);
});
