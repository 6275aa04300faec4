import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";

import { Damaged, NotAnArchive } from "../viewer/errors.js";
import * as manifest from "../viewer/manifest.js";
import { DEMO, bytesOf, golden } from "./faults.js";

const said = golden("manifest");
const pointer = bytesOf(join(DEMO, manifest.POINTER));
const body = bytesOf(join(DEMO, manifest.objectPath("manifest-json", said.pointer.manifest)));

/** @param {string} text */
function bytes(text) {
  return new TextEncoder().encode(text);
}

/** @param {any} value */
function sorted(value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, value[key]]),
  );
}

/**
 * The document with the value at a dotted path replaced, or taken out.
 *
 * @param {Uint8Array} data
 * @param {string} path
 * @param {any} value
 */
function changed(data, path, value) {
  const document = JSON.parse(new TextDecoder().decode(data));
  const way = path.split(".");
  const last = /** @type {string} */ (way.pop());
  const inner = way.reduce((at, key) => at[key], document);
  if (value === "(gone)") delete inner[last];
  else inner[last] = value;
  return bytes(JSON.stringify(sorted(document)));
}

/**
 * The class of the error, or null.
 *
 * @param {() => any} work
 */
function outcome(work) {
  try {
    work();
  } catch (error) {
    return /** @type {Error} */ (error).name;
  }
  return null;
}

test("the packaged archive's pointer and generation are read as in Python", () => {
  const found = manifest.parsePointer(pointer);
  assert.deepEqual(found, said.pointer);
  const generation = manifest.parseGeneration(body);
  manifest.checkPair(found, generation);
  assert.deepEqual(generation.parts[0], said.part);
  const { settings, spaces, ...rest } = JSON.parse(new TextDecoder().decode(body));
  assert.deepEqual(generation.settings, settings);
  assert.deepEqual(generation.spaces, spaces);
  assert.equal(generation.tiles, rest.tiles);
  for (const value of [found, generation, generation.settings, generation.spaces[0]]) {
    assert.ok(Object.isFrozen(value));
  }
});

test("a pointer with one value changed fails as in Python", () => {
  for (const [path, value, error] of said.pointers) {
    const found = outcome(() => manifest.parsePointer(changed(pointer, path, value)));
    assert.equal(found, error, `${path} ${JSON.stringify(value)}`);
  }
});

test("a pointer has one spelling", () => {
  const text = new TextDecoder().decode(pointer);
  assert.equal(said.spelling, "Damaged");
  for (const other of [
    text.replace(",", ", "),
    `${text}\n`,
    text.replace('"version":1', '"version":1.0'),
  ]) {
    assert.throws(() => manifest.parsePointer(bytes(other)), Damaged);
  }
  for (const none of ["", "<html>", `${text}${" ".repeat(1024)}`, "\ufeff" + text]) {
    assert.throws(() => manifest.parsePointer(bytes(none)), NotAnArchive);
  }
});

test("a pointer belongs to its generation", () => {
  const found = manifest.parsePointer(pointer);
  const generation = manifest.parseGeneration(body);
  assert.throws(() => manifest.checkPair({ ...found, generation: 2 }, generation), {
    message: "embarchive.json: expected generation 1, found 2",
  });
  assert.throws(() => manifest.checkPair({ ...found, commit_id: "0" }, generation), Damaged);
});

test("a generation with one value changed fails as in Python", () => {
  for (const [path, value, error] of said.generations) {
    const found = outcome(() => manifest.parseGeneration(changed(body, path, value)));
    assert.equal(found, error, `${path} ${JSON.stringify(value)}`);
  }
});

test("an error of another version names both", () => {
  assert.throws(() => manifest.parseGeneration(changed(body, "version", 2)), {
    name: "UnknownVersion",
    message: "generation: expected version 1, found 2",
  });
});

test("moments before 1970 and with an offset become microseconds", () => {
  const data = changed(body, "parts.0.datetime_min", "1969-12-31T23:59:59.5-01:00");
  assert.equal(manifest.parseGeneration(data).parts[0].datetime_min, 3_599_500_000);
});

test("parts in columns are read as in Python", () => {
  const { parts } = manifest.parseGeneration(bytes(said.columns));
  assert.deepEqual(parts, said.columns_parts);
  for (const value of [parts, ...parts, parts[0].bbox]) assert.ok(Object.isFrozen(value));
});

test("columns with one value changed fail as in Python", () => {
  for (const [path, value, error] of said.columns_changed) {
    const found = outcome(() =>
      manifest.parseGeneration(changed(bytes(said.columns), path, value)),
    );
    assert.equal(found, error, `${path} ${JSON.stringify(value)}`);
  }
});

test("a path is derived from a hash and nothing else", () => {
  for (const [kind, sha, prefix, error] of said.paths) {
    assert.equal(
      outcome(() => manifest.objectPath(kind, sha, prefix)),
      error,
      `${kind} ${prefix}`,
    );
  }
  assert.equal(manifest.objectPath("shard", "0".repeat(64), "u0"), said.shard_path);
});
