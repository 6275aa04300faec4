/**
 * What lies on the map besides the search: decoded imagery, heat, the outlines of tiles; and the
 * box of controls for it.
 */

import { byId } from "./elements.js";
import { cellBounds } from "./grid.js";
import { makeTurns } from "./turns.js";

/**
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./client.js").Archive} Archive
 * @typedef {ReturnType<typeof import("./map.js").createMap>} ArchiveMap
 * @typedef {{bbox: [number, number, number, number], width: number, height: number}} View
 */

const MOST_OUTLINED = 4000;
const MOST_DECODED = 1500;
// Longer sides of the pictures laid over the map.
const HEAT_PIXELS = 512;
const IMAGERY_PIXELS = 1600;
const AFAR_PIXELS = 1024;
const MEANS = "Means of";
const TOO_MANY = `Zoom in: more than ${MOST_DECODED} places are in view.`;

/** The layers of a map. @param {Archive} archive @param {ArchiveMap} map
 * @param {{change: (patch: Partial<Session>) => void, fail: (error: unknown) => void}} heard */
export function makeLayers(archive, map, { change, fail }) {
  const controls = Object.freeze({
    imagery: byId("imagery", HTMLInputElement),
    heat: byId("heat", HTMLInputElement),
    colour: byId("colour", HTMLInputElement),
    ndvi: byId("ndvi", HTMLInputElement),
  });
  const { imagery, heat, colour, ndvi } = controls;
  const note = byId("layer-note", HTMLSpanElement);
  const turns = {
    imagery: makeTurns(),
    heat: makeTurns(),
    outlines: makeTurns(),
    afar: makeTurns(),
  };
  /** What the imagery on the map is of, so that nothing is decoded twice. */
  let drawn = "";
  /** Whether tiles in view are too many to outline, and to decode; and what is drawn instead. */
  const many = { outlined: false, decoded: false };
  let distant = "";
  let hasPyramid = false;
  let dated = false;
  /** @type {Set<string> | null} Cells in view that have tiles; null when not known. */
  let cells = null;
  imagery.addEventListener("change", () => change({ imagery: imagery.checked }));
  heat.addEventListener("change", () => change({ heat: heat.checked }));
  for (const choice of [colour, ndvi]) {
    choice.addEventListener("change", () => change({ show: ndvi.checked ? "ndvi" : "colour" }));
  }

  /** Lay a picture of the view over the map. @param {import("./map.js").PictureName} name
   * @param {number} most
   * @param {(view: View) => Promise<{pixels: Uint8ClampedArray<ArrayBuffer> | null, more?: boolean,
   *   level?: number}>} ask @returns {Promise<boolean>} whether there was more than can be drawn */
  async function lay(name, most, ask) {
    const isLatest = turns[name]();
    try {
      const view = viewOf(map, most);
      const { pixels, more = false, level } = await ask(view);
      if (!isLatest()) return many.decoded;
      map.showPicture(name, pixels && canvasOf(pixels, view), view.bbox);
      if (name === "imagery") note.textContent = more && !hasPyramid ? TOO_MANY : "";
      if (name === "afar") {
        const what = `${level}-letter cells${dated ? ", all dates" : ""}`;
        note.textContent = pixels ? `${MEANS} ${what}: zoom in to see tiles.` : "";
      }
      return more;
    } catch (error) {
      if (!isLatest()) return many.decoded;
      if (name === "imagery") drawn = note.textContent = "";
      if (name === "afar") distant = note.textContent = "";
      fail(error);
      return false;
    }
  }

  /** Cells of the pyramid where single tiles are too many to draw.
   * @param {Session["show"]} show */
  async function showAfar(show) {
    const wanted = hasPyramid && (many.outlined || many.decoded);
    const of = wanted ? JSON.stringify([viewOf(map, AFAR_PIXELS), show]) : "";
    if (of === distant) return;
    distant = of;
    if (wanted) await lay("afar", AFAR_PIXELS, (view) => archive.call("afar", { ...view, show }));
    else {
      clear("afar");
      if (note.textContent?.startsWith(MEANS)) note.textContent = "";
    }
  }

  /** @param {import("./map.js").PictureName} name */
  function clear(name) {
    turns[name]();
    map.showPicture(name, null);
  }

  return Object.freeze({
    /** What this archive can show; from now on it can be asked.
     * @param {import("./client.js").Summary} summary */
    open(summary) {
      byId("layers", HTMLElement).inert = false;
      for (const part of document.querySelectorAll("#layers .decoded")) {
        part.toggleAttribute("hidden", !summary.decodes);
      }
      ndvi.disabled = !summary.ndvi;
      heat.disabled = !summary.bits;
      hasPyramid = summary.afar;
      dated = summary.datetimes !== null;
    },
    /** @param {Session} session */
    show(session) {
      imagery.checked = session.imagery;
      heat.checked = session.heat;
      (session.show === "ndvi" ? ndvi : colour).checked = true;
    },
    /** The tiles in view as the archive remembers them, when they are few enough.
     * @param {Session} session @param {string | null} datetime */
    async imagery({ imagery: wanted, show }, datetime) {
      const of = wanted ? JSON.stringify([viewOf(map, IMAGERY_PIXELS), datetime, show]) : "";
      if (of && of === drawn) return;
      drawn = of;
      note.textContent = wanted ? "Decoding." : "";
      if (wanted) {
        const how = { datetime, limit: MOST_DECODED, show };
        const ask = (/** @type {View} */ view) => archive.call("mosaic", { ...view, ...how });
        many.decoded = await lay("imagery", IMAGERY_PIXELS, ask);
        await showAfar(show);
      } else {
        clear("imagery");
        many.decoded = false;
        await showAfar(show);
        // A worker that is lost has nothing left to stop.
        await archive.call("stop", { what: "mosaic" }).catch(() => {});
      }
    },
    /** The scores of all candidates in view; ranked: whether there are any.
     * @param {Session} session @param {boolean} ranked */
    async heat({ heat: wanted }, ranked) {
      if (wanted && ranked) await lay("heat", HEAT_PIXELS, (view) => archive.call("heat", view));
      else clear("heat");
    },
    /** The outlines of the tiles in view, when they are few enough. @param {Session} session */
    async outlines({ show }) {
      const isLatest = turns.outlines();
      cells = null;
      try {
        const bbox = map.bounds();
        const { geohash, more } = await archive.call("cells", { bbox, limit: MOST_OUTLINED });
        if (!isLatest()) return;
        cells = more ? null : new Set(geohash);
        map.showTiles(more ? [] : geohash.map(cellBounds));
        many.outlined = more;
        await showAfar(show);
      } catch (error) {
        if (isLatest()) fail(error);
      }
    },
    /** Whether a cell in view has a tile; null when that is not known. @param {string} geohash */
    has: (geohash) => cells && cells.has(geohash),
  });
}

/** @param {ArchiveMap} map @param {number} most pixels of the longer side @returns {View} */
function viewOf(map, most) {
  const size = map.size();
  const scale = Math.min(devicePixelRatio, most / Math.max(size.width, size.height));
  const pixels = (/** @type {number} */ length) => Math.max(1, Math.round(length * scale));
  return { bbox: map.bounds(), width: pixels(size.width), height: pixels(size.height) };
}

/** @param {Uint8ClampedArray<ArrayBuffer>} pixels @param {View} view */
function canvasOf(pixels, { width, height }) {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  return canvas;
}
