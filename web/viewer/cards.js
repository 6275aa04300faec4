/**
 * One tile as the page shows it: its picture and what is known of it.
 */

import { day, number, score } from "./words.js";

/**
 * @typedef {object} Tile
 * @property {string} geohash
 * @property {number} datetime   microseconds since 1970, NaN without a date
 * @property {string} source
 * @property {number} valid      share of pixels that are data, 0..1
 * @property {number | null} score   as of `search`, lower is more alike; null when not ranked
 * @property {readonly number[]} bounds   west south east north, degrees
 *
 * @typedef {object} Asked
 * @property {(tile: Tile) => void} more   "like this"
 * @property {(tile: Tile) => void} less   "not like this"
 * @property {(tile: Tile) => void} go     "where is it"
 * @property {(rank: number | null) => void} point   pointed at, or no longer
 *
 * @typedef {object} Card
 * @property {HTMLLIElement} element
 * @property {(picture: import("./client.js").Picture) => void} paint
 * @property {() => void} wait   a picture is on its way
 * @property {() => void} fail   it does not come
 * @property {() => void} bare   there is none
 * @property {(on: boolean) => void} mark
 */

/** A card of a tile at a rank, 0 the best. @param {Tile} tile @param {number} rank
 * @param {Asked} asked @returns {Card} */
export function makeCard(tile, rank, asked) {
  const element = document.createElement("li");
  element.className = "card";
  element.dataset.geohash = tile.geohash;
  element.dataset.rank = String(rank + 1);
  const canvas = document.createElement("canvas");
  canvas.className = "waiting";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `Tile ${tile.geohash} as decoded`);
  const show = button("picture", `Show ${tile.geohash} on the map`, () => asked.go(tile));
  show.replaceChildren(canvas);
  const note = text("p", "note", "Not decoded.");
  note.hidden = true;
  const place = text("span", "rank", tile.score === null ? "" : String(rank + 1));
  const known = facts(tile);
  const from = [text("dt", "", "Bytes"), text("dd", "bytes", "")];
  element.append(place, show, known, note, choices(tile, asked));
  for (const event of ["pointerenter", "focusin"]) {
    element.addEventListener(event, () => asked.point(rank));
  }
  for (const event of ["pointerleave", "focusout"]) {
    element.addEventListener(event, () => asked.point(null));
  }

  let waiting = true;

  return Object.freeze({
    element,
    wait() {
      waiting = true;
    },
    paint(picture) {
      waiting = false;
      drawPicture(canvas, picture);
      canvas.className = "decoded";
      const [vector, code, dates] = picture.bytes;
      const shared = dates > 1 ? ` / ${dates}` : "";
      const by = dates > 1 ? ` that ${dates} dates share` : "";
      from[1].textContent = code ? `${vector} + ${code}${shared}` : `${vector}`;
      from[1].title = `decoded from ${vector} bytes${code ? ` and a code of ${code}${by}` : ""}`;
      known.append(...from);
      note.hidden = true;
    },
    fail() {
      if (waiting) note.hidden = false;
      if (canvas.className === "waiting") canvas.className = "failed";
    },
    bare() {
      show.textContent = "No picture: these vectors have no decoder.";
      show.className = "picture bare";
    },
    mark(on) {
      element.classList.toggle("marked", on);
    },
  });
}

/** Put a decoded tile on a canvas, pixel by pixel. @param {HTMLCanvasElement} canvas
 * @param {import("./client.js").Picture} picture */
export function drawPicture(canvas, { pixels, width, height }) {
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d")?.putImageData(new ImageData(pixels, width, height), 0, 0);
}

/** @param {Tile} tile */
function facts(tile) {
  const list = document.createElement("dl");
  /** @param {string} name @param {string} value @param {string} [title] */
  const add = (name, value, title = "") => {
    if (!value) return;
    const item = text("dd", "", value);
    item.title = title || value;
    list.append(text("dt", "", name), item);
  };
  add("Place", tile.geohash);
  add("Date", day(tile.datetime));
  if (tile.score !== null)
    add(
      "Score",
      score(tile.score),
      "squared distance to what is like, less that to what is unlike: lower is more alike",
    );
  if (tile.valid < 0.995) add("Clear", `${number(Math.floor(tile.valid * 100))} %`);
  add("Source", tile.source);
  return list;
}

/** @param {Tile} tile @param {Asked} asked */
function choices(tile, asked) {
  const row = document.createElement("div");
  row.className = "choices";
  const more = button("quiet", `+ like ${tile.geohash}`, () => asked.more(tile));
  more.textContent = "+ like";
  const less = button("quiet", `− unlike ${tile.geohash}`, () => asked.less(tile));
  less.textContent = "− unlike";
  row.append(more, less);
  return row;
}

/** @param {string} kind @param {string} label @param {() => void} act */
function button(kind, label, act) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = kind;
  made.setAttribute("aria-label", label);
  made.title = label;
  made.addEventListener("click", act);
  return made;
}

/** @param {string} tag @param {string} kind @param {string} content */
function text(tag, kind, content) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  made.textContent = content;
  return made;
}
