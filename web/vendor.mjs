/**
 * Makes viewer/vendor/ from the packages in package.json; `node vendor.mjs --check` only compares.
 */
import { build } from "esbuild";
import { existsSync } from "node:fs";
import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
const out = join(here, "viewer", "vendor");
const packages = join(here, "node_modules");
const check = process.argv.includes("--check");

/** What the page uses of each package that ships many small modules, as one file. */
const bundles = {
  "hyparquet.js":
    'export { parquetMetadata } from "hyparquet/src/metadata.js";\n' +
    'export { parquetHeader } from "hyparquet/src/column.js";\n' +
    'export { readOffsetIndex } from "hyparquet/src/indexes.js";\n' +
    'export { Decompress as Unzstd } from "fzstd";\n',
  "sha256.js": 'export { sha256 } from "@noble/hashes/sha2.js";\n',
  "topojson.js": 'export { feature } from "topojson-client";\n',
};
const copies = {
  "maplibre-gl.js": "maplibre-gl/dist/maplibre-gl.mjs",
  "maplibre-gl-worker.js": "maplibre-gl/dist/maplibre-gl-worker.mjs",
  "maplibre-gl.css": "maplibre-gl/dist/maplibre-gl.css",
  "land-110m.json": "world-atlas/land-110m.json",
  "land-50m.json": "world-atlas/land-50m.json",
};
const licences = [
  "@noble/hashes",
  "fzstd",
  "hyparquet",
  "maplibre-gl",
  "topojson-client",
  "world-atlas",
];

/** @param {string} source */
async function bundled(source) {
  const stdin = { contents: source, resolveDir: here };
  const made = await build({
    stdin,
    bundle: true,
    format: "esm",
    minify: true,
    write: false,
    target: "es2022",
  });
  return Buffer.from(made.outputFiles[0].contents);
}

/** @param {string} path */
async function copied(path) {
  const text = await readFile(join(packages, path));
  // Source maps are not shipped, so nobody should be sent to fetch them.
  return Buffer.from(text.toString("utf8").replace(/\n?\/\/# sourceMappingURL=\S+\s*$/, "\n"));
}

/** @param {string} name */
async function licence(name) {
  const found = ["LICENSE", "LICENSE.txt", "LICENSE.md"]
    .map((file) => join(packages, name, file))
    .find(existsSync);
  if (!found) throw new Error(`${name}: expected a licence file, found none`);
  const { version } = JSON.parse(await readFile(join(packages, name, "package.json"), "utf8"));
  return `${name} ${version}\n\n${(await readFile(found, "utf8")).trim()}\n`;
}

/** @type {Record<string, Buffer>} */
const files = { "maplibre-gl.d.ts": Buffer.from('export * from "maplibre-gl";\n') };
for (const [name, source] of Object.entries(bundles)) {
  files[name] = await bundled(source);
  // What is exported from where is all that the type checker asks.
  files[name.replace(".js", ".d.ts")] = Buffer.from(source);
}
for (const [name, path] of Object.entries(copies)) files[name] = await copied(path);
files["LICENSES.txt"] = Buffer.from(
  (await Promise.all(licences.map(licence))).join(`\n${"-".repeat(72)}\n\n`),
);

await mkdir(out, { recursive: true });
let stale = 0;
for (const [name, data] of Object.entries(files)) {
  const path = join(out, name);
  if (existsSync(path) && data.equals(await readFile(path))) continue;
  stale += 1;
  if (!check) await writeFile(path, data);
  console.log(`${check ? "stale" : "wrote"} vendor/${name} (${data.length} bytes)`);
}
if (check && stale) process.exit(1);
