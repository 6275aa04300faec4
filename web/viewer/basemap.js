/**
 * Land and sea, vendored: a map without any other host. Coasts are drawn as picture tiles on a
 * canvas, because MapLibre's triangles go wrong on land that a tile's edge cuts many times.
 */

import { northing } from "./mercator.js";
import { feature } from "./vendor/topojson.js";

/**
 * @typedef {Readonly<Record<"sea" | "land" | "coast" | "tile" | "footprint" | "hit" | "pick" | "less" | "box", string>>} Palette
 * @typedef {{points: Float64Array, box: number[]}} Ring   x and y in 0..1 on the Mercator square
 */

const TILE = 256;
// From this zoom on, finer coasts are fetched; beyond the last one there is no more to show.
const FINER_FROM = 4;
const LAST = 14;

/** @type {Palette} */
const LIGHT = Object.freeze({
  sea: "#d3e1e6",
  land: "#f6f2e9",
  coast: "#a9bcc2",
  tile: "#0d5c63",
  footprint: "#0d5c63",
  hit: "#101b20",
  pick: "#0b5fff",
  less: "#b42318",
  box: "#7a4b00",
});
/** @type {Palette} */
const DARK = Object.freeze({
  sea: "#0d1a20",
  land: "#1c2a2f",
  coast: "#3d5258",
  tile: "#5fc9c0",
  footprint: "#5fc9c0",
  hit: "#ffffff",
  pick: "#7fb0ff",
  less: "#ff8f8f",
  box: "#ffd166",
});

/** The colours of the map for a light or a dark screen. @param {boolean} dark */
export function palette(dark) {
  return dark ? DARK : LIGHT;
}

/** MapLibre's style with sea and land alone; `coasts` answers its tiles. @param {Palette} colours
 * @returns {import("maplibre-gl").StyleSpecification} */
export function style(colours) {
  const tiles = ["coast://{z}/{x}/{y}"];
  return {
    version: 8,
    sources: { land: { type: "raster", tiles, tileSize: TILE, maxzoom: LAST } },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": colours.sea } },
      { id: "land", type: "raster", source: "land", paint: { "raster-fade-duration": 0 } },
    ],
  };
}

/** A protocol for MapLibre that draws the tiles of `style`. A coast that does not load leaves
 * the sea: the archive can be used all the same. @param {Palette} colours */
export function coasts(colours) {
  const coarse = once(() => rings("land-110m.json"));
  const fine = once(() => rings("land-50m.json"));
  /** @param {{url: string}} request */
  return async ({ url }) => {
    const [z, x, y] = url.replace("coast://", "").split("/").map(Number);
    const land = await (z < FINER_FROM ? coarse() : fine());
    return { data: draw(land, z, x, y, colours) };
  };
}

/** @param {readonly Ring[]} land @param {number} z @param {number} x @param {number} y
 * @param {Palette} colours */
function draw(land, z, x, y, colours) {
  const canvas = new OffscreenCanvas(2 * TILE, 2 * TILE);
  const pen = /** @type {OffscreenCanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const count = 2 ** z;
  const scale = 2 * TILE * count;
  // Rings that a stroke just outside may reach into are drawn too.
  const near = 0.01 / count;
  const seen = [x / count - near, y / count - near, (x + 1) / count + near, (y + 1) / count + near];
  pen.setTransform(scale, 0, 0, scale, -x * 2 * TILE, -y * 2 * TILE);
  pen.beginPath();
  for (const { points, box } of land) {
    if (box[0] > seen[2] || box[2] < seen[0] || box[1] > seen[3] || box[3] < seen[1]) continue;
    pen.moveTo(points[0], points[1]);
    for (let i = 2; i < points.length; i += 2) pen.lineTo(points[i], points[i + 1]);
    pen.closePath();
  }
  pen.fillStyle = colours.land;
  pen.fill("evenodd");
  pen.strokeStyle = colours.coast;
  pen.lineWidth = 1.6 / scale;
  pen.stroke();
  return canvas.transferToImageBitmap();
}

/** The rings of a vendored coast; none when it does not load.
 * @param {string} name @returns {Promise<Ring[]>} */
async function rings(name) {
  try {
    const answer = await fetch(new URL(`vendor/${name}`, import.meta.url));
    if (!answer.ok) return [];
    const topology = await answer.json();
    const found = feature(topology, topology.objects.land);
    const shapes = found.features.flatMap((/** @type {any} */ one) => one.geometry.coordinates);
    return shapes.flat().map(ring).flatMap(copies);
  } catch {
    return [];
  }
}

/** An outline that goes on beyond the antimeridian instead of jumping across the map; one that
 * has gone around the world, Antarctica's, is closed along the south.
 * @param {readonly number[][]} coordinates @returns {Ring} */
export function ring(coordinates) {
  /** @type {[number, number][]} */
  const found = [];
  for (const [lon, lat] of coordinates) {
    const x = lon / 360 + 0.5;
    const turns = found.length ? Math.round(found[found.length - 1][0] - x) : 0;
    found.push([x + turns, northing(lat)]);
  }
  const [first, last] = [found[0][0], found[found.length - 1][0]];
  if (Math.abs(last - first) > 0.5) found.push([last, 1], [first, 1]);
  const side = (/** @type {0 | 1} */ i) => found.map((point) => point[i]);
  const [xs, ys] = [side(0), side(1)];
  const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
  return { points: Float64Array.from(found.flat()), box };
}

/** An outline, and again a world away where it leaves the map. @param {Ring} one @returns {Ring[]} */
function copies(one) {
  const shifts = [0, ...(one.box[0] < 0 ? [1] : []), ...(one.box[2] > 1 ? [-1] : [])];
  return shifts.map((shift) => ({
    points: one.points.map((value, i) => (i % 2 ? value : value + shift)),
    box: one.box.map((value, i) => (i % 2 ? value : value + shift)),
  }));
}

/** @template T @param {() => Promise<T>} make */
function once(make) {
  /** @type {Promise<T> | undefined} */
  let made;
  return () => (made ??= make());
}
