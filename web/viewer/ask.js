/**
 * The form: shows a session, and tells of what the visitor changes in it.
 */

import { drawPicture } from "./cards.js";
import { byId } from "./elements.js";
import { COUNTS, isPlace } from "./session.js";
import { day, extent } from "./words.js";

/**
 * @typedef {import("./session.js").Session} Session
 * @typedef {object} Heard
 * @property {(patch: Partial<Session>) => void} change
 * @property {(text: string) => void} add    an exemplar was typed
 * @property {() => void} draw   a rectangle is to be drawn, or no longer
 * @property {() => void} here   the view is to be the rectangle
 * @property {(message: string) => void} refuse
 */

/** The form of the page. @param {Heard} heard */
export function makeForm(heard) {
  const input = Object.freeze({
    place: byId("place", HTMLInputElement),
    from: byId("from", HTMLInputElement),
    to: byId("to", HTMLInputElement),
    k: byId("k", HTMLSelectElement),
    op: byId("op", HTMLSelectElement),
    everyDate: byId("every-date", HTMLInputElement),
    invert: byId("invert", HTMLInputElement),
    exact: byId("exact", HTMLInputElement),
  });
  input.k.replaceChildren(...COUNTS.map((count) => new Option(String(count), String(count))));
  const asking = byId("ask", HTMLFormElement);
  asking.addEventListener("submit", (event) => {
    event.preventDefault();
    const said = input.place.value.trim().toLowerCase();
    const text = said.replace(/^(-?[\d.]+)\s*[,;\s]\s*(-?[\d.]+)$/, "$1,$2");
    if (!text) return;
    if (!isPlace(text)) {
      heard.refuse(`A place: expected a geohash or longitude,latitude, found ${text}`);
      return;
    }
    input.place.value = "";
    heard.add(text);
  });
  for (const side of /** @type {const} */ (["from", "to"])) {
    input[side].addEventListener("change", () => {
      const { value } = input[side];
      // While a year is typed, it has been 2 and 20 and 202.
      if (!value || value >= "1000") heard.change({ [side]: value });
    });
  }
  byId("clear", HTMLButtonElement).addEventListener("click", () => {
    heard.change({ like: [], unlike: [] });
  });
  input.k.addEventListener("change", () => heard.change({ k: Number(input.k.value) }));
  input.op.addEventListener("change", () =>
    heard.change({ op: input.op.value === "min" ? "min" : "mean" }),
  );
  input.everyDate.addEventListener("change", () =>
    heard.change({ everyDate: input.everyDate.checked }),
  );
  input.invert.addEventListener("change", () => heard.change({ invert: input.invert.checked }));
  input.exact.addEventListener("change", () => heard.change({ exact: input.exact.checked }));
  const draw = byId("draw", HTMLButtonElement);
  draw.addEventListener("click", heard.draw);
  byId("here", HTMLButtonElement).addEventListener("click", heard.here);

  return Object.freeze({
    /** @param {Session} session */
    show(session) {
      showExemplars(session, heard);
      showRegion(session, heard);
      input.from.value = session.from;
      input.to.value = session.to;
      input.k.value = String(session.k);
      input.op.value = session.op;
      input.everyDate.checked = session.everyDate;
      input.invert.checked = session.invert;
      input.exact.checked = session.exact;
    },
    /** From now on something can be asked. */
    open() {
      asking.inert = false;
    },
    /** The days that the archive has. @param {[number, number] | null} span */
    limit(span) {
      byId("when", HTMLFieldSetElement).hidden = !span;
      if (!span) return;
      for (const field of [input.from, input.to]) {
        field.min = day(span[0]);
        field.max = day(span[1]);
      }
    },
    /** Show what an exemplar looks like, of like and then of unlike.
     * @param {number} index @param {import("./client.js").Picture} picture */
    paint(index, picture) {
      const canvas = document.querySelectorAll("#exemplars canvas")[index];
      if (!(canvas instanceof HTMLCanvasElement)) return;
      drawPicture(canvas, picture);
      canvas.hidden = false;
    },
    /** @param {boolean} on */
    drawing(on) {
      draw.setAttribute("aria-pressed", String(on));
      draw.textContent = on ? "Drag on the map" : "Draw a rectangle";
    },
  });
}

/** @param {Session} session @param {Heard} heard */
function showExemplars(session, heard) {
  const list = byId("exemplars", HTMLUListElement);
  const said = JSON.stringify([session.like, session.unlike]);
  // The same ones keep their pictures.
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  const chips = /** @type {const} */ (["like", "unlike"]).flatMap((side) =>
    session[side].map((text) => {
      const remove = () => heard.change({ [side]: session[side].filter((one) => one !== text) });
      const made = chip("li", side, text, remove);
      const canvas = document.createElement("canvas");
      canvas.hidden = true;
      made.prepend(canvas);
      return made;
    }),
  );
  list.replaceChildren(...chips);
  byId("clear", HTMLButtonElement).hidden = !chips.length;
}

/** @param {Session} session @param {Heard} heard */
function showRegion({ bbox }, heard) {
  const chips = bbox
    ? [chip("span", "region", extent(bbox), () => heard.change({ bbox: null }))]
    : [];
  byId("region", HTMLSpanElement).replaceChildren(...chips);
}

/** @param {string} tag @param {string} kind @param {string} text @param {() => void} remove */
function chip(tag, kind, text, remove) {
  const made = document.createElement(tag);
  made.className = `chip ${kind}`;
  const label = document.createElement("span");
  label.textContent = text;
  const away = document.createElement("button");
  away.type = "button";
  away.textContent = "×";
  away.setAttribute("aria-label", `Remove ${text}`);
  away.addEventListener("click", () => {
    remove();
    // By touch this would bring up the keyboard.
    if (matchMedia("(pointer: fine)").matches) byId("place", HTMLInputElement).focus();
  });
  made.append(label, away);
  return made;
}
