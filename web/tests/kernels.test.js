import assert from "node:assert/strict";
import { test } from "node:test";
import { BadInput, EmbarchiveError } from "../viewer/errors.js";
import { kernel, loadKernels } from "../viewer/kernels.js";
import { kernelsFromFiles } from "./networks.js";

test("a kernel that was not loaded is missed by name", () => {
  assert.throws(
    () => kernel("hamming"),
    (error) => error instanceof BadInput,
  );
});

test("bytes that are no program are a browser that cannot run it", async () => {
  await assert.rejects(
    loadKernels(() => new Uint8Array(8)),
    EmbarchiveError,
  );
});

test("each program is asked for once, and there afterwards", async () => {
  await kernelsFromFiles();
  assert.equal(typeof kernel("hamming").steps.distances, "function");
  assert.equal(typeof kernel("decode").steps.conv, "function");
  assert.equal(kernel("decode").start % 16, 0);
});

test("memory grows to what is asked for and not beyond what there can be", async () => {
  await kernelsFromFiles();
  const memory = kernel("hamming");
  memory.reach(3_000_000);
  assert.equal(memory.bytes(2_999_999, 1).length, 1);
  assert.throws(() => memory.reach(2 ** 33), /memory: expected room for 8590 MB/);
  assert.throws(() => memory.reach(2 ** 60), BadInput);
});
