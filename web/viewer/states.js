/**
 * What state the page is in, said in words.
 */

import { byId } from "./elements.js";

/** @typedef {"loading" | "ready" | "searching" | "empty" | "asking" | "damaged" | "unreachable" |
 *   "offline" | "error"} State */

const KINDS = Object.freeze({
  Damaged: "damaged",
  UnknownVersion: "damaged",
  NotAnArchive: "damaged",
  Missing: "damaged",
  GenerationExpired: "damaged",
  StoreUnreachable: "unreachable",
});

/** The line under the form. */
export function makeStatus() {
  const message = byId("message", HTMLParagraphElement);
  const again = byId("again", HTMLButtonElement);
  const warning = byId("warning", HTMLParagraphElement);
  const progress = byId("progress", HTMLProgressElement);
  /** @type {(() => void) | null} */
  let act = null;
  again.addEventListener("click", () => act?.());

  /** @param {State} state @param {string} text @param {{label: string, act: () => void}} [offer] */
  const say = (state, text, offer) => {
    document.body.dataset.state = state;
    message.textContent = text;
    progress.removeAttribute("value");
    act = offer?.act ?? null;
    again.hidden = !offer;
    again.textContent = offer?.label ?? "";
  };
  return Object.freeze({
    say,
    /** An error in words, with a way to try again. @param {unknown} error @param {() => void} retry */
    fail(error, retry) {
      const { name, message: text } = error instanceof Error ? error : new Error(String(error));
      const state = /** @type {State} */ (
        /** @type {Record<string, string>} */ (KINDS)[name] ?? "error"
      );
      const reload = { label: "Open the archive again", act: () => location.reload() };
      if (name === "GenerationExpired" || name === "EmbarchiveError") say(state, text, reload);
      else if (name === "BadInput") say(state, text);
      else if (state !== "unreachable" || navigator.onLine)
        say(state, text, { label: "Try again", act: retry });
      else say("offline", `You are offline. ${text}`, { label: "Try again", act: retry });
    },
    /** Something beside the state, until it is taken back with "". @param {string} text */
    warn(text) {
      warning.textContent = text;
    },
    /** @param {number} done @param {number} total */
    progress(done, total) {
      if (total > 0) {
        progress.max = total;
        progress.value = done;
      }
    },
  });
}
