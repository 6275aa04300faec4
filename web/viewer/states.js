// What state the page is in, said in words: loading, ready, searching, empty, damaged, offline.

import { byId } from "./elements.js";

/** @typedef {"loading" | "ready" | "searching" | "empty" | "asking" | "damaged" | "offline" | "error"} State */

const KINDS = Object.freeze({
  Damaged: "damaged",
  UnknownVersion: "damaged",
  NotAnArchive: "damaged",
  Missing: "damaged",
  GenerationExpired: "damaged",
  StoreUnreachable: "offline",
});

/** The line under the form. */
export function makeStatus() {
  const message = byId("message", HTMLParagraphElement);
  const again = byId("again", HTMLButtonElement);
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
      const state = /** @type {State} */ (/** @type {Record<string, string>} */ (KINDS)[name] ?? "error");
      const offline = state === "offline" && !navigator.onLine;
      const expired = name === "GenerationExpired";
      say(state, offline ? `You are offline. ${text}` : text, {
        label: expired ? "Open the archive again" : "Try again",
        act: expired ? () => location.reload() : retry,
      });
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
