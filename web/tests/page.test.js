import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { posix } from "node:path";
import { test } from "node:test";

const viewer = new URL("../viewer/", import.meta.url);
const html = read("index.html");

/** @param {string} name */
function read(name) {
  return readFileSync(new URL(name, viewer), "utf8");
}

/** What a module imports, statically. @param {string} name @returns {string[]} */
function imports(name) {
  if (name.startsWith("vendor/")) return [];
  const found = read(name).matchAll(/^(?:import|export)\s[^;]*?from\s+"(\.[^"]+)";/gms);
  return [...found].map(([, path]) => posix.normalize(posix.join(posix.dirname(name), path)));
}

/** A module and all that it needs. @param {string} name @param {Set<string>} [seen] */
function needs(name, seen = new Set()) {
  if (!seen.has(name)) {
    seen.add(name);
    for (const other of imports(name)) needs(other, seen);
  }
  return seen;
}

test("the page fetches all of its modules at once", () => {
  const listed = [...html.matchAll(/rel="modulepreload" href="([^"]+)"/g)].map(([, href]) => href);
  const expected = [...needs("page.js")].filter((name) => name !== "page.js");
  assert.deepEqual(listed.sort(), expected.sort());
});

test("a module imports only modules above it in the tree of web/README.md", () => {
  const tree = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  const order = [...tree.matchAll(/^ {2}(\w+\.js) /gm)].map(([, name]) => name);
  const modules = readdirSync(viewer).filter((name) => name.endsWith(".js"));
  assert.deepEqual([...order].sort(), modules.sort());
  for (const name of modules) {
    for (const other of imports(name).filter((path) => !path.startsWith("vendor/"))) {
      assert.ok(order.indexOf(other) < order.indexOf(name), `${name} imports ${other}`);
    }
  }
});

test("only the doors import what is vendored", () => {
  const doors = {
    "maplibre-gl.js": "map.js",
    "hyparquet.js": "parquet.js",
    "topojson.js": "basemap.js",
  };
  for (const name of readdirSync(viewer).filter((file) => file.endsWith(".js"))) {
    for (const path of imports(name).filter((one) => one.startsWith("vendor/"))) {
      const door = /** @type {Record<string, string>} */ (doors)[posix.basename(path)];
      assert.equal(door, name, `${name} imports ${path}`);
    }
  }
});

test("no element takes text as HTML or as code", () => {
  const sinks =
    /\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function|setAttribute\("on|srcdoc)\b/;
  for (const name of readdirSync(viewer).filter((file) => file.endsWith(".js"))) {
    assert.doesNotMatch(read(name), sinks, name);
  }
  assert.doesNotMatch(html, /<script(?![^>]*\ssrc=)|\son\w+=|\sstyle=/);
});
