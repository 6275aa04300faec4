// The page: joins the form, the map, the list and the archive in its worker.

import { makeForm, withExemplar } from "./ask.js";
import { connect } from "./client.js";
import { byId } from "./elements.js";
import { cellBounds, encode, isGeohash } from "./grid.js";
import { createMap, MAP_WORKER } from "./map.js";
import { makeResults } from "./results.js";
import { formatSession, parseSession } from "./session.js";
import { makeStatus } from "./states.js";
import { allowOnly } from "./trust.js";
import { bytes, counted, days, number, place } from "./words.js";

/**
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./cards.js").Tile} Tile
 * @typedef {import("./client.js").Summary} Summary
 */

const ROOT = new URL("../", import.meta.url).href;
const ARCHIVE_WORKER = new URL("./worker.js", import.meta.url).href;
// A search that reads more than this asks first.
const MUCH = 48 * 1024 * 1024;
const MOST_DRAWN = 4000;
const MOST_LISTED = 24;
const MOST_DECODED = 1500;
// Longer sides of the pictures laid over the map.
const HEAT_PIXELS = 512;
const IMAGERY_PIXELS = 1600;

allowOnly([MAP_WORKER, ARCHIVE_WORKER]);
const status = makeStatus();
const archive = connect(new Worker(ARCHIVE_WORKER, { type: "module" }), ROOT);
const map = createMap(byId("map", HTMLElement), {
  onPick: pick,
  onRectangle: (bbox) => {
    form.drawing(false);
    change({ bbox });
  },
  onView: viewed,
  onHover: (rank) => mark(rank, true),
});
const form = makeForm({
  change,
  add: (text) => add("like", text),
  draw: toggleDrawing,
  here: () => change({ bbox: map.bounds() }),
  refuse: (message) => status.say("error", message),
});
const results = makeResults({
  more: (tile) => add("like", named(tile)),
  less: (tile) => add("unlike", named(tile)),
  go: (tile) => map.fit(tile.bounds),
  point: (rank) => mark(rank, false),
});

/** @type {Session} */
let session = parseSession(location.hash).session;
/** @type {Summary | null} */
let summary = null;
/** @type {{exemplars: Tile[], tiles: Tile[]}} */
let shown = { exemplars: [], tiles: [] };
/** @type {Set<string>} Cells drawn, by which a click tells whether a tile is there. */
let drawn = new Set();
let turn = 0;

void start();

async function start() {
  status.say("loading", "Reading the archive's manifest.");
  const { session: asked, wrong } = parseSession(location.hash);
  session = asked;
  form.show(session);
  try {
    summary = await archive.call("open", {});
    introduce(summary);
    await map.loaded;
    map.showFootprint(summary.footprint);
    if (session.view) map.jump(session.view);
    else map.fit(session.bbox ?? summary.bounds, false);
    listen();
    await run();
    if (wrong.length) status.say("error", `The link was not understood: ${wrong.join(", ")}`);
  } catch (error) {
    status.fail(error, () => location.reload());
  }
}

/** The archive's own words, as text alone. @param {Summary} found */
function introduce(found) {
  const title = found.title || "An embarchive archive";
  document.title = title;
  byId("title", HTMLHeadingElement).textContent = title;
  byId("facts", HTMLParagraphElement).textContent = [
    counted(found.tiles, "tile"),
    days(found.datetimes),
    found.bands.join(" "),
    `${found.gsd} m`,
  ].join(" · ");
  const credits = [found.attribution, found.licence].filter(Boolean).join(" · ");
  byId("credits", HTMLElement).textContent = [credits, `generation ${found.generation}`].filter(Boolean).join(" · ");
  form.limit(found.datetimes);
  const ndvi = document.querySelector('input[name="show"][value="ndvi"]');
  if (ndvi instanceof HTMLInputElement) ndvi.disabled = !found.ndvi;
}

function listen() {
  for (const choice of document.querySelectorAll('input[name="show"]')) {
    choice.addEventListener("change", (event) => {
      const show = /** @type {HTMLInputElement} */ (event.target).value === "ndvi" ? "ndvi" : "colour";
      keep({ show });
      void paint(turn);
      void imagery();
    });
  }
  byId("heat", HTMLInputElement).addEventListener("change", (event) => {
    keep({ heat: /** @type {HTMLInputElement} */ (event.target).checked });
    void heat();
  });
  byId("imagery", HTMLInputElement).addEventListener("change", (event) => {
    keep({ imagery: /** @type {HTMLInputElement} */ (event.target).checked });
    void imagery();
  });
  addEventListener("hashchange", () => {
    if (location.hash.slice(1) === formatSession(session)) return;
    session = parseSession(location.hash).session;
    form.show(session);
    if (session.view) map.jump(session.view);
    void run();
  });
  addEventListener("online", () => {
    if (document.body.dataset.state === "offline") void run();
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && map.drawing.busy()) toggleDrawing();
  });
}

/** Take over part of a session, and write it into the address. @param {Partial<Session>} patch
 * @param {boolean} [step] whether Back undoes it */
function keep(patch, step = false) {
  session = Object.freeze({ ...session, ...patch });
  form.show(session);
  const address = `#${formatSession(session)}`;
  if (step) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/** @param {Partial<Session>} patch */
function change(patch) {
  keep(patch, true);
  void run();
}

/** @param {"like" | "unlike"} side @param {string} text */
function add(side, text) {
  const patch = withExemplar(session, side, text);
  if (patch) change(patch);
  else status.say("error", "A search takes at most 16 exemplars; remove one first.");
}

/** @param {number} lon @param {number} lat */
function pick(lon, lat) {
  if (!summary || map.drawing.busy()) return;
  const name = encode(lon, lat, summary.precision);
  if (!drawn.size || drawn.has(name)) add("like", name);
  else status.say("ready", `No tile at ${place(lon, lat)}. Click inside the outlined area.`);
}

function toggleDrawing() {
  const start = !map.drawing.busy();
  if (start) map.drawing.start();
  else map.drawing.stop();
  form.drawing(start);
}

/** Do what the session says: search, or list what a rectangle holds, or wait.
 * @param {{agreed?: boolean}} [how] agreed: to read much */
async function run({ agreed = false } = {}) {
  const mine = ++turn;
  map.showRegion(session.bbox);
  map.showExemplars(session.like.map(boxOf), session.unlike.map(boxOf));
  try {
    if (session.like.length) await search(mine, agreed);
    else if (session.bbox) await list(mine);
    else rest();
  } catch (error) {
    if (mine === turn) status.fail(error, () => void run({ agreed }));
  }
}

function rest() {
  settle({ hits: [], exemplars: [] }, "");
  results.clear();
  void heat();
  status.say("ready", "Click a tile on the map to find the places most like it, or draw a rectangle to look at what is there.");
}

/** @param {number} mine @param {boolean} agreed */
async function search(mine, agreed) {
  status.say("searching", "Looking through the archive.");
  const query = {
    like: session.like,
    unlike: session.unlike,
    bbox: session.bbox,
    datetime: dates(),
    k: session.k,
    op: session.op,
    invert: session.invert,
    perPlace: session.dates ? 0 : 1,
  };
  const cost = await archive.call("cost", query);
  if (mine !== turn) return;
  if (cost.bytes > MUCH && !agreed) {
    const text = `This search may read ${bytes(cost.bytes)} in ${counted(cost.requests, "request")}. Draw a rectangle to read less.`;
    status.say("asking", text, { label: "Search everything", act: () => void run({ agreed: true }) });
    return;
  }
  const found = await archive.call("search", query, { onProgress: (step) => mine === turn && status.progress(step.done, step.total) });
  if (mine !== turn) return;
  settle(found, session.dates ? counted(found.hits.length, "tile") : counted(found.hits.length, "place"));
  results.note(
    `${counted(found.candidates, "candidate")} compared in ${found.seconds.toFixed(2)} s, ` +
      `${bytes(found.bytesRead)} read in ${counted(found.requests, "request")}, every byte checked.`,
  );
  if (found.hits.length) status.say("ready", "");
  else status.say("empty", "Nothing to compare with here: the rectangle or the dates leave no other tile.");
  await Promise.all([paint(mine), heat()]);
}

/** Tiles of the rectangle, to choose exemplars from. @param {number} mine */
async function list(mine) {
  status.say("searching", "Reading the tiles in the rectangle.");
  const found = await archive.call("tiles", { bbox: session.bbox, datetime: dates(), limit: MOST_LISTED });
  if (mine !== turn) return;
  settle({ hits: found.tiles, exemplars: [] }, counted(found.tiles.length, "place"));
  const more = found.more ? ` The first ${number(MOST_LISTED)} are shown.` : "";
  if (found.tiles.length) status.say("ready", `Choose what to look for: “+ like” on a tile.${more}`);
  else status.say("empty", "No tile in this rectangle on these dates.");
  await Promise.all([paint(mine), heat()]);
}

/** @param {{hits: Tile[], exemplars: Tile[]}} found @param {string} title */
function settle({ hits, exemplars }, title) {
  shown = { exemplars, tiles: hits };
  results.show(hits, title);
  map.showHits(hits.map((tile) => tile.bounds));
}

/** Decode the exemplars and the listed tiles, and show them as they come. @param {number} mine */
async function paint(mine) {
  const { exemplars, tiles } = shown;
  const rows = [...exemplars, ...tiles].map(({ geohash, datetime, source }) => ({ geohash, datetime, source }));
  if (!rows.length) return;
  try {
    await archive.call("pictures", { rows, show: session.show }, {
      onProgress: ({ pictures = [] }) => {
        if (mine !== turn) return;
        for (const picture of pictures) {
          const at = picture.index - exemplars.length;
          if (at < 0) form.paint(picture.index, picture);
          else results.paint(at, picture);
        }
      },
    });
  } catch (error) {
    if (mine === turn) results.fail(`Not decoded: ${messageOf(error)}`);
  }
}

/** The scores of all candidates in view, as a picture under the hits. */
async function heat() {
  const wanted = session.heat && session.like.length > 0 && shown.tiles.length > 0;
  await overlay("heat", HEAT_PIXELS, wanted, (view) => archive.call("heat", view));
}

/** The tiles in view as the archive remembers them, when they are few enough. */
async function imagery() {
  const note = byId("layer-note", HTMLSpanElement);
  note.textContent = "";
  try {
    await overlay("imagery", IMAGERY_PIXELS, session.imagery, async (view) => {
      const how = { datetime: dates(), limit: MOST_DECODED, show: session.show };
      const found = await archive.call("mosaic", { ...view, ...how });
      note.textContent = found.more ? "Zoom in to decode what is there" : "";
      return found;
    });
  } catch (error) {
    if (session.imagery) note.textContent = `Not decoded: ${messageOf(error)}`;
  }
}

/** Views asked for, by layer: an answer to an older one is dropped. @type {Record<string, number>} */
const asked = { heat: 0, imagery: 0 };

/** A picture of the view over the map, or none. @param {"heat" | "imagery"} name
 * @param {number} most pixels of the longer side @param {boolean} wanted
 * @param {(view: {bbox: [number, number, number, number], width: number, height: number}) =>
 *   Promise<{pixels: Uint8ClampedArray<ArrayBuffer> | null}>} ask */
async function overlay(name, most, wanted, ask) {
  const mine = ++asked[name];
  if (!wanted) return map.showPicture(name, null);
  const bbox = map.bounds();
  const size = map.size();
  const scale = Math.min(devicePixelRatio, most / Math.max(size.width, size.height));
  const width = Math.max(1, Math.round(size.width * scale));
  const height = Math.max(1, Math.round(size.height * scale));
  const { pixels } = await ask({ bbox, width, height });
  if (mine !== asked[name]) return;
  if (!pixels) return map.showPicture(name, null);
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
  map.showPicture(name, canvas, bbox);
}

/** @param {unknown} error */
function messageOf(error) {
  return error instanceof Error ? error.message : String(error);
}

/** The view came to rest: remember it, and draw the tiles in it when they are few. */
async function viewed() {
  if (!summary) return;
  keep({ view: map.view() });
  void heat();
  void imagery();
  try {
    const found = await archive.call("cells", { bbox: map.bounds(), limit: MOST_DRAWN });
    drawn = new Set(found.more ? [] : found.geohash);
    map.showTiles(found.more ? [] : found.geohash.map(cellBounds));
  } catch (error) {
    status.fail(error, () => void viewed());
  }
}

/** @param {number | null} rank @param {boolean} reveal */
function mark(rank, reveal) {
  map.markHit(rank);
  results.mark(rank, reveal);
}

/** The dates as ISO 8601, or null for all. */
function dates() {
  return session.from || session.to ? `${session.from || ".."}/${session.to || ".."}` : null;
}

/** A tile as an exemplar. @param {Tile} tile */
function named({ geohash, datetime }) {
  return Number.isFinite(datetime) && session.dates ? `${geohash}@${new Date(datetime / 1000).toISOString().slice(0, 10)}` : geohash;
}

/** The cell of an exemplar. @param {string} text */
function boxOf(text) {
  const [name] = text.split("@");
  if (isGeohash(name)) return cellBounds(name);
  const [lon, lat] = text.split(",").map(Number);
  return cellBounds(encode(lon, lat, summary?.precision ?? 6));
}
