/**
 * The list of tiles beside the map: cards, and the pictures that arrive one batch after another.
 */

import { byId } from "./elements.js";
import { makeCard } from "./cards.js";

/**
 * @typedef {import("./cards.js").Tile} Tile
 * @typedef {import("./cards.js").Asked} Asked
 * @typedef {import("./client.js").Picture} Picture
 */

/** The list, empty at first. @param {Asked & {repaint: () => void}} asked */
export function makeResults(asked) {
  const section = byId("found", HTMLElement);
  const list = byId("cards", HTMLOListElement);
  const count = byId("count", HTMLHeadingElement);
  const spent = byId("spent", HTMLParagraphElement);
  const undecoded = byId("undecoded", HTMLParagraphElement);
  const why = byId("why", HTMLSpanElement);
  byId("repaint", HTMLButtonElement).addEventListener("click", asked.repaint);
  /** @type {import("./cards.js").Card[]} */
  let cards = [];

  return Object.freeze({
    /** @param {readonly Tile[]} tiles @param {string} title */
    show(tiles, title) {
      const held = list.contains(document.activeElement);
      cards = tiles.map((tile, rank) => makeCard(tile, rank, asked));
      list.replaceChildren(...cards.map((card) => card.element));
      count.textContent = title;
      spent.textContent = "";
      section.hidden = false;
      section.ariaBusy = "false";
      // Whoever came here by a card goes on from the top of the new ones.
      if (held) count.focus();
      // Below the form, on a narrow screen, they would not be seen to have come.
      if (matchMedia("(max-width: 760px)").matches) count.scrollIntoView({ block: "start" });
    },
    clear() {
      cards = [];
      list.replaceChildren();
      section.hidden = true;
      section.ariaBusy = "false";
    },
    /** No others come. */
    stay() {
      section.ariaBusy = "false";
    },
    /** Others are on their way. */
    wait() {
      section.ariaBusy = "true";
    },
    /** What the search read. @param {string} text */
    note(text) {
      spent.textContent = text;
    },
    /** @param {number} rank @param {Picture} picture */
    paint(rank, picture) {
      cards[rank]?.paint(picture);
    },
    /** Pictures of all are on their way. */
    expect() {
      undecoded.hidden = true;
      for (const card of cards) card.wait();
    },
    /** There are no pictures. */
    bare() {
      undecoded.hidden = true;
      for (const card of cards) card.bare();
    },
    /** Pictures do not come, and why. @param {string} message */
    fail(message) {
      why.textContent = message;
      undecoded.hidden = false;
      for (const card of cards) card.fail();
    },
    /** Mark one card, and bring it into view when it was found on the map.
     * @param {number | null} rank @param {boolean} reveal */
    mark(rank, reveal) {
      cards.forEach((card, at) => card.mark(at === rank));
      if (reveal && rank !== null) cards[rank]?.element.scrollIntoView({ block: "nearest" });
    },
  });
}
