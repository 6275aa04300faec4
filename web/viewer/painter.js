/**
 * Pictures of rows that are compared with each other: decoded in batches, cropped to their
 * cells, all with the stretch of the first batch.
 */

import {
  cropPixels,
  ndviBands,
  ndviPicture,
  picture,
  stretchLimits,
  visibleBands,
} from "./decode.js";
import { BadInput } from "./errors.js";
import { take } from "./rows.js";

/** @typedef {import("./archive.js").Archive} Archive */
/** @typedef {import("./client.js").Picture} Picture */
/** @typedef {import("./decode.js").Limits} Limits */
/** @typedef {import("./rows.js").Table} Table */

/** How many pictures come at a time; the stretch of colours is that of the first ones. */
export const BATCH = 12;

/** Paints rows with one stretch. */
export class Painter {
  #archive;
  #visible;
  #ndvi;
  /** @type {Limits[] | null} */
  #limits = null;

  /** @param {Archive} archive */
  constructor(archive) {
    this.#archive = archive;
    this.#visible = visibleBands(archive.settings.bands);
    this.#ndvi = ndviBands(archive.settings.bands);
  }

  /**
   * Pictures of the rows, batch by batch, until the signal ends it. Throws BadInput.
   *
   * @param {Table} rows
   * @param {"colour" | "ndvi"} show
   * @param {AbortSignal} signal
   * @returns {AsyncGenerator<Picture[]>}
   */
  async *paint(rows, show, signal) {
    if (show === "ndvi" && !this.#ndvi) {
      const found = this.#archive.settings.bands.join(", ");
      throw new BadInput(`ndvi: expected bands of near infrared and red, found ${found}`);
    }
    const full = await this.#archive.withVectors(rows);
    for (let start = 0; start < full.n && !signal.aborted; start += BATCH) {
      const count = Math.min(BATCH, full.n - start);
      const some = take(
        full,
        Int32Array.from({ length: count }, (_, i) => start + i),
      );
      const { images, shape, extra } = await this.#archive.decode(some);
      this.#limits ??= stretchLimits(images, shape, this.#visible);
      if (signal.aborted) return;
      yield some.geohash.map((name, i) => {
        const { dim, packed = dim } = this.#archive.settings;
        const bytes = /** @type {Picture["bytes"]} */ ([packed, ...extra[i]]);
        return { index: start + i, bytes, ...this.#one(images, shape, i, name, show) };
      });
      // Decoding holds the worker: let it hear what the page says meanwhile.
      await new Promise((go) => setTimeout(go, 0));
    }
  }

  /**
   * @param {Float32Array} images
   * @param {readonly number[]} shape
   * @param {number} i
   * @param {string} geohash
   * @param {"colour" | "ndvi"} show
   * @returns {Omit<Picture, "index" | "bytes">}
   */
  #one(images, shape, i, geohash, show) {
    const size = images.length / shape[0];
    const whole = images.subarray(i * size, (i + 1) * size);
    const { image, shape: own } = cropPixels(whole, shape, this.#archive.chips.crop(geohash));
    const pixels =
      show === "ndvi" && this.#ndvi
        ? ndviPicture(image, own, this.#ndvi)
        : picture(image, own, this.#visible, this.#limits ?? []);
    return { height: own[1], width: own[2], pixels: /** @type {any} */ (pixels) };
  }
}
