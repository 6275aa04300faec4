// Land and sea, vendored: a map without any other host. Coarse coasts come first, finer ones
// when somebody looks closer.

import { feature } from "./vendor/topojson.js";

/**
 * @typedef {import("maplibre-gl").StyleSpecification} Style
 * @typedef {Readonly<Record<"sea" | "land" | "coast" | "tile" | "footprint" | "hit" | "pick" | "less" | "box", string>>} Palette
 */

const FINER_FROM_ZOOM = 4;

/** @type {Palette} */
const LIGHT = Object.freeze({
  sea: "#d3e1e6", land: "#f6f2e9", coast: "#a9bcc2", tile: "#0d5c63", footprint: "#0d5c63",
  hit: "#d9480f", pick: "#b5179e", less: "#3a0ca3", box: "#7a4b00",
});
/** @type {Palette} */
const DARK = Object.freeze({
  sea: "#0d1a20", land: "#1c2a2f", coast: "#3d5258", tile: "#5fc9c0", footprint: "#5fc9c0",
  hit: "#ffa94d", pick: "#f06fd8", less: "#9d8cff", box: "#ffd166",
});

/** The colours of the map for a light or a dark screen. @param {boolean} dark */
export function palette(dark) {
  return dark ? DARK : LIGHT;
}

/** MapLibre's style with sea and land alone. @param {Palette} colours @returns {Style} */
export function style(colours) {
  return {
    version: 8,
    sources: { land: { type: "geojson", data: empty() } },
    layers: [
      { id: "sea", type: "background", paint: { "background-color": colours.sea } },
      { id: "land", type: "fill", source: "land", paint: { "fill-color": colours.land } },
      { id: "coast", type: "line", source: "land", paint: { "line-color": colours.coast } },
    ],
  };
}

/** No features. @returns {GeoJSON.FeatureCollection} */
export function empty() {
  return { type: "FeatureCollection", features: [] };
}

/** Draw the coasts on a map, and finer ones once it is zoomed in. A coast that does not load
 * leaves the map without it: the archive can be used all the same.
 * @param {import("maplibre-gl").Map} map */
export async function drawCoasts(map) {
  await drawCoast(map, "land-110m.json");
  const finer = () => {
    if (map.getZoom() < FINER_FROM_ZOOM) return;
    map.off("zoomend", finer);
    void drawCoast(map, "land-50m.json");
  };
  map.on("zoomend", finer);
  finer();
}

/** @param {import("maplibre-gl").Map} map @param {string} name */
async function drawCoast(map, name) {
  try {
    const answer = await fetch(new URL(`vendor/${name}`, import.meta.url));
    if (!answer.ok) return;
    const topology = await answer.json();
    const source = /** @type {import("maplibre-gl").GeoJSONSource} */ (map.getSource("land"));
    source.setData(feature(topology, topology.objects.land));
  } catch {
    // Without coasts.
  }
}
