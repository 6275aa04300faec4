/**
 * The map: footprint, tiles, exemplars, hits, the rectangle, heat. The door to MapLibre.
 */

import * as maplibre from "./vendor/maplibre-gl.js";
import { coasts, palette, style } from "./basemap.js";
import { boxOf, makeRectangleTool, round, wrap } from "./rectangle.js";

/**
 * @typedef {readonly number[]} Box  west south east north, degrees; west > east over the antimeridian
 * @typedef {"afar" | "imagery" | "heat"} PictureName
 * @typedef {object} Heard
 * @property {(lon: number, lat: number) => void} onPick   a place was clicked
 * @property {(box: [number, number, number, number]) => void} onRectangle
 * @property {() => void} onView   the view has come to rest
 * @property {(rank: number | null) => void} onHover   a hit is pointed at, or none
 * @property {() => number} covered   pixels at the top that something lies over
 */

const SOURCES = /** @type {const} */ (["footprint", "tiles", "region", "hits", "exemplars"]);
const WORKER = new URL("./vendor/maplibre-gl-worker.js", import.meta.url).href;

/** The address of MapLibre's worker, which a Trusted Types policy has to let through. */
export const MAP_WORKER = WORKER;

/** A map in an element. @param {HTMLElement} element @param {Heard} heard */
export function createMap(element, heard) {
  const colours = palette(matchMedia("(prefers-color-scheme: dark)").matches);
  maplibre.setWorkerUrl(WORKER);
  maplibre.addProtocol("coast", coasts(colours));
  const map = new maplibre.Map({
    container: element,
    style: style(colours),
    center: [10, 25],
    zoom: 1,
    minZoom: 0,
    maxZoom: 19,
    attributionControl: false,
    dragRotate: false,
    pitchWithRotate: false,
    touchPitch: false,
    fadeDuration: 0,
  });
  map.touchZoomRotate.disableRotation();
  map.addControl(new maplibre.NavigationControl({ showCompass: false }), "top-right");
  map.addControl(new maplibre.ScaleControl({}), "bottom-right");
  const loaded = new Promise((resolve) => map.once("load", () => resolve(addLayers(map, colours))));
  map.on("click", ({ lngLat, originalEvent }) => {
    // The second of a double click zooms.
    if (originalEvent.detail < 2) heard.onPick(wrap(lngLat.lng), lngLat.lat);
  });
  map.on("moveend", () => heard.onView());
  map.on("mousemove", "hits", (event) =>
    heard.onHover(event.features?.[0]?.properties.rank ?? null),
  );
  map.on("mouseleave", "hits", () => heard.onHover(null));
  const drawing = makeRectangleTool(map, {
    draw: (box) => put(map, "region", box ? [polygon(box)] : []),
    done: heard.onRectangle,
  });

  return Object.freeze({
    loaded,
    drawing,
    /** Boxes of what the archive covers. @param {readonly Box[]} boxes */
    showFootprint: (boxes) =>
      put(
        map,
        "footprint",
        boxes.map((box) => polygon(box)),
      ),
    /** Single tiles. @param {readonly Box[]} boxes */
    showTiles: (boxes) =>
      put(
        map,
        "tiles",
        boxes.map((box) => polygon(box)),
      ),
    /** Hits, best first. @param {readonly Box[]} boxes */
    showHits: (boxes) =>
      put(
        map,
        "hits",
        boxes.map((box, rank) => polygon(box, { rank })),
      ),
    /** @param {readonly Box[]} like @param {readonly Box[]} unlike */
    showExemplars: (like, unlike) =>
      put(map, "exemplars", [
        ...like.map((box) => polygon(box, { like: true })),
        ...unlike.map((box) => polygon(box, { like: false })),
      ]),
    /** The rectangle searched in. @param {Box | null} box */
    showRegion: (box) => put(map, "region", box ? [polygon(box)] : []),
    /** Mark one hit. @param {number | null} rank */
    markHit: (rank) => map.setFilter("hit-marked", ["==", ["get", "rank"], rank ?? -1]),
    /** A picture over a box, under the hits; null takes it away. @param {PictureName} name
     * @param {HTMLCanvasElement | null} canvas @param {Box} [box] */
    showPicture: (name, canvas, box) => showPicture(map, name, canvas, box),
    /** Bring a box into view, beside the panel. @param {Box} box @param {boolean} [gently] */
    fit: (box, gently = true) => fit(map, box, gently, heard.covered()),
    /** Bring a box into view unless it is. @param {Box} box */
    reveal: (box) => {
      const [west, south, east, north] = unwrapped(box);
      if (!map.getBounds().contains([(west + east) / 2, (south + north) / 2])) {
        fit(map, box, true, heard.covered());
      }
    },
    /** @param {readonly [number, number, number]} view longitude, latitude, zoom */
    jump: ([lon, lat, zoom]) => map.jumpTo({ center: [lon, lat], zoom }),
    /** Longitude, latitude, zoom, as an address has them. @returns {[number, number, number]} */
    view: () => {
      const { lng, lat } = map.getCenter();
      return [round(wrap(lng), 5), round(lat, 5), round(map.getZoom(), 2)];
    },
    /** What can be seen, west south east north. @returns {[number, number, number, number]} */
    bounds: () => {
      const found = map.getBounds();
      return boxOf(found.getWest(), found.getSouth(), found.getEast(), found.getNorth());
    },
    size: () => ({ width: map.getCanvas().clientWidth, height: map.getCanvas().clientHeight }),
  });
}

/** @param {maplibre.Map} map @param {import("./basemap.js").Palette} colours */
function addLayers(map, colours) {
  for (const name of SOURCES) map.addSource(name, { type: "geojson", data: collection([]) });
  /** @param {string} id @param {string} source @param {object} paint */
  const line = (id, source, paint) =>
    map.addLayer({ id, type: "line", source, paint: /** @type {any} */ (paint) });
  /** @param {string} id @param {string} source @param {object} paint */
  const fill = (id, source, paint) =>
    map.addLayer({ id, type: "fill", source, paint: /** @type {any} */ (paint) });
  fill("footprint", "footprint", { "fill-color": colours.footprint, "fill-opacity": 0.08 });
  line("footprint-edge", "footprint", { "line-color": colours.footprint, "line-width": 1.5 });
  // From afar an archive is smaller than a pixel.
  const dot = { "circle-color": colours.footprint, "circle-radius": 4 };
  map.addLayer({
    id: "footprint-dot",
    type: "circle",
    source: "footprint",
    maxzoom: 5,
    paint: dot,
  });
  line("tiles", "tiles", { "line-color": colours.tile, "line-opacity": 0.35, "line-width": 0.7 });
  line("region", "region", {
    "line-color": colours.box,
    "line-width": 2,
    "line-dasharray": [3, 2],
  });
  fill("hits", "hits", { "fill-color": colours.hit, "fill-opacity": 0.12 });
  line("hit-around", "hits", { "line-color": colours.land, "line-width": 4 });
  line("hit-edge", "hits", { "line-color": colours.hit, "line-width": 1.8 });
  line("hit-marked", "hits", { "line-color": colours.hit, "line-width": 4 });
  map.setFilter("hit-marked", ["==", ["get", "rank"], -1]);
  const which = ["case", ["get", "like"], colours.pick, colours.less];
  line("exemplar-around", "exemplars", { "line-color": colours.land, "line-width": 6 });
  line("exemplars", "exemplars", { "line-color": which, "line-width": 3.5 });
}

/** @param {maplibre.Map} map @param {string} name @param {import("geojson").Feature[]} features */
function put(map, name, features) {
  const source = /** @type {maplibre.GeoJSONSource | undefined} */ (map.getSource(name));
  source?.setData(collection(features));
}

/** @param {import("geojson").Feature[]} features @returns {import("geojson").FeatureCollection} */
function collection(features) {
  return { type: "FeatureCollection", features };
}

/** @param {maplibre.Map} map @param {PictureName} name
 * @param {HTMLCanvasElement | null} canvas @param {Box} [box] */
function showPicture(map, name, canvas, box) {
  if (map.getLayer(name)) map.removeLayer(name);
  if (map.getSource(name)) map.removeSource(name);
  if (!canvas || !box) return;
  let [west, south, east, north] = unwrapped(box);
  // MapLibre wants the middle of a picture on the map itself.
  if (west + east >= 360) [west, east] = [west - 360, east - 360];
  const corners = [
    [west, north],
    [east, north],
    [east, south],
    [west, south],
  ];
  map.addSource(name, {
    type: "canvas",
    canvas,
    animate: false,
    coordinates: /** @type {any} */ (corners),
  });
  const paint = { "raster-opacity": name === "heat" ? 0.7 : 1, "raster-fade-duration": 0 };
  const above = name === "heat" ? "footprint-edge" : "footprint";
  map.addLayer({ id: name, type: "raster", source: name, paint }, above);
}

/** @param {maplibre.Map} map @param {Box} box @param {boolean} gently
 * @param {number} covered pixels at the top */
function fit(map, box, gently, covered) {
  const [west, south, east, north] = unwrapped(box);
  const calm = !gently || matchMedia("(prefers-reduced-motion: reduce)").matches;
  map.fitBounds([west, south, east, north], {
    padding: { top: covered + 16, bottom: 40, left: 40, right: 40 },
    maxZoom: 13,
    animate: !calm,
    duration: 600,
  });
}

/** @param {Box} box @param {Record<string, any>} [properties] @returns {import("geojson").Feature} */
function polygon(box, properties = {}) {
  const [west, south, east, north] = unwrapped(box);
  const ring = [
    [west, south],
    [east, south],
    [east, north],
    [west, north],
    [west, south],
  ];
  return { type: "Feature", properties, geometry: { type: "Polygon", coordinates: [ring] } };
}

/** A box whose east is not below its west. @param {Box} box */
function unwrapped([west, south, east, north]) {
  return [west, south, east < west ? east + 360 : east, north];
}
