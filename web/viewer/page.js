/**
 * The page: joins the form, the map, the list and the archive in its worker.
 */

import { makeForm } from "./ask.js";
import { connect } from "./client.js";
import { byId } from "./elements.js";
import { BadInput } from "./errors.js";
import { cellBounds, encode, isGeohash } from "./grid.js";
import { makeLayers } from "./layers.js";
import { createMap, MAP_WORKER } from "./map.js";
import { makeResults } from "./results.js";
import { formatSession, MOST_EXEMPLARS, parseSession, withExemplar } from "./session.js";
import { makeStatus } from "./states.js";
import { allowOnly } from "./trust.js";
import { makeTurns } from "./turns.js";
import { bytes, counted, day, days, number, percent, place } from "./words.js";

/**
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./cards.js").Tile} Tile
 * @typedef {import("./client.js").Summary} Summary
 */

const ROOT = new URL("../", import.meta.url).href;
const ARCHIVE_WORKER = new URL("./worker.js", import.meta.url).href;
// A search that reads more than this asks first.
const MUCH = 50_000_000;
const MOST_LISTED = 24;

const status = makeStatus();
allowOnly([MAP_WORKER, ARCHIVE_WORKER]);
const archive = connect(new Worker(ARCHIVE_WORKER, { type: "module" }), ROOT);
const form = makeForm({
  change,
  add: (text) => {
    add("like", text);
    map.reveal(boxOf(text));
  },
  draw: toggleDrawing,
  here: () => change({ bbox: map.bounds() }),
  refuse: (message) => status.say("error", message),
});
const results = makeResults({
  more: (tile) => add("like", exemplarOf(tile)),
  less: (tile) => add("unlike", exemplarOf(tile)),
  go: (tile) => map.fit(tile.bounds),
  point: (rank) => mark(rank, false),
  repaint: () => void paint(),
});
const map = openMap();
const layers = makeLayers(archive, map, {
  change(patch) {
    keep(patch);
    if (patch.show) void paint();
    if (patch.heat === undefined) void layers.imagery(session, datetime());
    if (patch.imagery === undefined) void layers.heat(session, shown.ranked);
  },
  fail: (error) => status.fail(error, () => void run()),
});

let session = parseSession(location.hash).session;
/** @type {Summary | null} */
let summary = null;
/** @type {{exemplars: Tile[], tiles: Tile[], ranked: boolean}} ranked: by a search, so there is heat */
let shown = { exemplars: [], tiles: [], ranked: false };
/** The last session that could be done, to go back to from one that cannot.
 * @type {Session | null} */
let good = null;
/** Bytes that a search may read without asking; more once that was agreed to. */
let allowed = MUCH;
const beginRun = makeTurns();
const beginPaint = makeTurns();
let settled = 0;
/** Whether pictures are missing. */
let unpainted = false;

void start();

function openMap() {
  try {
    return createMap(byId("map", HTMLElement), {
      onPick: pick,
      onRectangle(bbox) {
        form.drawing(false);
        change({ bbox });
      },
      onView: viewed,
      onHover: (rank) => mark(rank, true),
      covered: () => byId("layers", HTMLElement).offsetHeight,
    });
  } catch (error) {
    status.say(
      "error",
      "The map needs WebGL 2, which this browser does not offer or has switched off.",
    );
    throw error;
  }
}

async function start() {
  status.say("loading", "Reading the archive's manifest.");
  addEventListener("online", () => {
    if (document.body.dataset.state === "offline") retry();
    else if (unpainted) void paint();
  });
  try {
    summary = await archive.call("open", {});
    introduce(summary);
    await map.loaded;
    map.showFootprint(summary.footprint);
    addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== formatSession(session)) follow();
    });
    addEventListener("keydown", (event) => {
      if (event.key === "Escape" && map.drawing.busy()) toggleDrawing();
    });
    if (!follow().view) map.fit(session.bbox ?? summary.bounds, false);
    form.open();
  } catch (error) {
    byId("title", HTMLHeadingElement).textContent = "This archive could not be opened";
    status.fail(error, () => location.reload());
    tellSettled();
  }
}

/** After being offline: what was asked for, or the archive itself. */
function retry() {
  if (summary) void run();
  else location.reload();
}

/** The archive's own words, as text alone. @param {Summary} found */
function introduce(found) {
  const title = found.title || "An embarchive archive";
  document.title = title;
  byId("title", HTMLHeadingElement).textContent = title;
  const pixels = found.bands.length ? `${Number(found.gsd.toPrecision(4))} m` : "";
  const facts = [
    counted(found.tiles, "tile"),
    days(found.datetimes),
    found.bands.join(" "),
    pixels,
  ];
  byId("facts", HTMLParagraphElement).textContent = facts.filter(Boolean).join(" · ");
  const credits = [found.attribution, found.licence, `generation ${found.generation}`];
  byId("credits", HTMLElement).textContent = credits.filter(Boolean).join(" · ");
  form.limit(found.datetimes);
  layers.open(found);
}

/** Do what the address says. */
function follow() {
  const { session: asked, wrong } = parseSession(location.hash);
  const show = summary?.ndvi ? asked.show : "colour";
  const undated = summary?.datetimes ? {} : { from: "", to: "" };
  const imagery = asked.imagery && Boolean(summary?.decodes);
  session = Object.freeze({ ...asked, show, imagery, ...undated });
  status.warn(wrong.length ? `Of the link this was not understood: ${wrong.join(", ")}` : "");
  form.show(session);
  layers.show(session);
  if (session.view) map.jump(session.view);
  void run();
  return session;
}

/** Take over part of a session, and write it into the address. @param {Partial<Session>} patch
 * @param {boolean} [step] whether Back undoes it */
function keep(patch, step = false) {
  session = Object.freeze({ ...session, ...patch });
  form.show(session);
  layers.show(session);
  const address = `#${formatSession(session)}`;
  if (step) history.pushState(null, "", address);
  else history.replaceState(null, "", address);
}

/** @param {Partial<Session>} patch */
function change(patch) {
  status.warn("");
  if (formatSession({ ...session, ...patch }) === formatSession(session)) return;
  keep(patch, true);
  void run();
}

/** @param {"like" | "unlike"} side @param {string} text */
function add(side, text) {
  const patch = withExemplar(session, side, text);
  if (patch) change(patch);
  else status.say("error", `A search takes at most ${MOST_EXEMPLARS} exemplars; remove one first.`);
}

/** @param {number} lon @param {number} lat */
function pick(lon, lat) {
  if (!summary || map.drawing.busy()) return;
  const name = encode(lon, lat, summary.precision);
  if (layers.has(name) !== false) add("like", name);
  else status.warn(`No tile at ${place(lon, lat)}. Click inside the outlined area.`);
}

function toggleDrawing() {
  const begin = !map.drawing.busy();
  if (begin) map.drawing.start();
  else map.drawing.stop();
  map.showRegion(session.bbox);
  form.drawing(begin);
}

/** Do what the session says: search, or list what a rectangle holds, or wait. */
async function run() {
  const isLatest = beginRun();
  try {
    showAsked();
    void layers.imagery(session, datetime());
    results.wait();
    await archive.call("stop", { what: "listing" });
    if (session.like.length) await search(isLatest);
    else if (session.bbox) await list(isLatest);
    else rest();
    if (isLatest()) good = session;
  } catch (error) {
    if (isLatest()) fail(error);
  } finally {
    if (isLatest()) tellSettled();
  }
}

/** The rectangle and the exemplars of the session, on the map. */
function showAsked() {
  map.showRegion(session.bbox);
  map.showExemplars(session.like.map(boxOf), session.unlike.map(boxOf));
}

/** What cannot be done is said; what could be before stays. @param {unknown} error */
function fail(error) {
  const back = error instanceof BadInput ? good : null;
  if (back) {
    keep({ ...back, view: session.view });
    showAsked();
  }
  if (back?.like.length) results.stay();
  else clear();
  status.fail(error, () => void run());
}

/** For whoever waits, a test say: what was asked last has been done. */
function tellSettled() {
  document.body.dataset.settled = String(++settled);
}

function rest() {
  clear();
  status.say(
    "ready",
    session.unlike.length
      ? "Add a place that the others should be like."
      : "Click a tile on the map to find the places most like it, or draw a rectangle to look at what is there.",
  );
}

/** @param {() => boolean} isLatest */
async function search(isLatest) {
  status.say("searching", "Looking through the archive.");
  const { like, unlike, bbox, k, op, invert, exact, everyDate } = session;
  const perPlace = /** @type {0 | 1} */ (everyDate ? 0 : 1);
  const query = { like, unlike, bbox, datetime: datetime(), k, op, invert, exact, perPlace };
  const cost = await archive.call("cost", query);
  if (!isLatest()) return;
  if (cost.bytes > allowed) return ask(cost);
  const found = await archive.call("search", query, {
    onProgress: ({ done, total }) => isLatest() && status.progress(done, total),
  });
  if (!isLatest()) return;
  show({ ...found, ranked: true }, counted(found.hits.length, everyDate ? "tile" : "place"));
  results.note(
    `${comparedOf(found)} in ${found.seconds.toFixed(2)} s; ` +
      (found.requests
        ? `meanwhile ${bytes(found.bytesRead)} read in ${counted(found.requests, "request")}, every byte checked.`
        : "all of it had been read and checked before."),
  );
  if (found.hits.length) status.say("ready", "");
  else if (limits()) status.say("empty", `No other tile to compare with ${limits()}.`);
  else status.say("empty", "The archive has no other tile to compare with.");
  await Promise.all([paint(), layers.heat(session, shown.ranked)]);
}

/** How much was compared, of all where nothing limits it. @param {import("./client.js").Ranking} found */
function comparedOf({ candidates, compared }) {
  if (!summary || limits()) return `${counted(candidates, "candidate")} compared`;
  return `Compared ${percent(compared / summary.tiles)} of ${counted(summary.tiles, "tile")}`;
}

/** @param {import("./client.js").Cost} cost */
function ask({ bytes: size, requests }) {
  clear();
  const text = `This search may read ${bytes(size)} in ${counted(requests, "request")}. Draw a rectangle to read less.`;
  status.say("asking", text, {
    label: "Search everything",
    act: () => {
      allowed = size;
      byId("message", HTMLParagraphElement).focus();
      void run();
    },
  });
}

/** Tiles of the rectangle, to choose exemplars from. @param {() => boolean} isLatest */
async function list(isLatest) {
  status.say("searching", "Reading the tiles in the rectangle.");
  const wanted = { bbox: session.bbox, datetime: datetime(), limit: MOST_LISTED };
  const found = await archive.call("tiles", wanted);
  if (!isLatest()) return;
  show({ hits: found.tiles, exemplars: [], ranked: false }, counted(found.tiles.length, "place"));
  const more = found.more ? ` The first ${number(MOST_LISTED)} are shown.` : "";
  if (found.tiles.length)
    status.say("ready", `Choose what to look for: “+ like” on a tile.${more}`);
  else status.say("empty", `No tile ${limits()}.`);
  await Promise.all([paint(), layers.heat(session, false)]);
}

/** @param {{hits: Tile[], exemplars: Tile[], ranked: boolean}} found @param {string} title */
function show({ hits, exemplars, ranked }, title) {
  shown = { exemplars, tiles: hits, ranked };
  results.show(hits, title);
  map.showHits(hits.map((tile) => tile.bounds));
}

function clear() {
  shown = { exemplars: [], tiles: [], ranked: false };
  results.clear();
  map.showHits([]);
  void layers.heat(session, false);
}

/** Decode the exemplars and the listed tiles, and show them as they come. */
async function paint() {
  const isLatest = beginPaint();
  const { exemplars, tiles } = shown;
  if (!summary?.decodes) return results.bare();
  results.expect();
  const rows = [...exemplars, ...tiles].map(({ geohash, datetime, source }) => ({
    geohash,
    datetime,
    source,
  }));
  if (!rows.length) return;
  try {
    await archive.call(
      "pictures",
      { rows, show: session.show },
      {
        onProgress: ({ pictures = [] }) => {
          if (!isLatest()) return;
          for (const picture of pictures) {
            const rank = picture.index - exemplars.length;
            if (rank < 0) form.paint(picture.index, picture);
            else results.paint(rank, picture);
          }
        },
      },
    );
    unpainted = false;
  } catch (error) {
    if (!isLatest()) return;
    unpainted = true;
    results.fail(`Not decoded: ${error instanceof Error ? error.message : error}`);
  }
}

/** The view came to rest: remember it, and draw what lies in it. */
function viewed() {
  if (!summary) return;
  keep({ view: map.view() });
  void layers.outlines(session);
  void layers.heat(session, shown.ranked);
  void layers.imagery(session, datetime());
}

/** @param {number | null} rank @param {boolean} reveal */
function mark(rank, reveal) {
  map.markHit(rank);
  results.mark(rank, reveal);
}

/** The days asked for as ISO 8601, or null for all. */
function datetime() {
  const { from, to } = session;
  return from || to ? `${from || ".."}/${to || ".."}` : null;
}

/** What a search is limited to, in words. */
function limits() {
  const found = [session.bbox ? "in the rectangle" : "", datetime() ? "on these dates" : ""];
  return found.filter(Boolean).join(" ");
}

/** A tile as an exemplar, of its own date. @param {Tile} tile */
function exemplarOf({ geohash, datetime }) {
  return day(datetime) ? `${geohash}@${day(datetime)}` : geohash;
}

/** The cell of an exemplar. @param {string} text */
function boxOf(text) {
  const [name] = text.split("@");
  if (isGeohash(name)) return cellBounds(name);
  const [lon, lat] = text.split(",").map(Number);
  return cellBounds(encode(lon, lat, summary?.precision ?? 6));
}
