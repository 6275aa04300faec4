/**
 * The transform of the fidelity code: cosines in space, principal components over channels; the way
 * back, in whole numbers.
 *
 * Sums of integers below 2 ** 53 are exact in doubles in whatever order they are taken, so what is
 * zero is left out and every reader still finds the same picture.
 */

/** Whole numbers a quantiser step. */
export const STEP_UNITS = 64;
const [SPACE_UNITS, CHANNEL_UNITS] = [2 ** 16, 2 ** 14];
// What is dropped after columns and after rows; four bits below a unit stay.
const [DROP_DOWN, DROP_ACROSS, LEFT] = [2 ** 12, 2 ** 16, 2 ** 4];

/** @type {Map<number, Float64Array>} */
const made = new Map();

/**
 * The orthonormal DCT-II matrix (size, size), a row a frequency (Ahmed et al. 1974), in units of
 * 2 ** -16, rounded. No number of it lies near a half, so that a cosine's last bit does not matter.
 *
 * @param {number} size
 */
export function wholeCosines(size) {
  let found = made.get(size);
  if (found) return found;
  found = Float64Array.from({ length: size * size }, (_, i) => {
    const [frequency, place] = [Math.floor(i / size), i % size];
    const wave = Math.cos((((place + 0.5) * Math.PI) / size) * frequency);
    return Math.round(wave * Math.sqrt((frequency ? 2 : 1) / size) * SPACE_UNITS);
  });
  made.set(size, found);
  return found;
}

/**
 * The coefficients of one tile that are not zero: place, flat indices into (components, height,
 * width); value, whole numbers of step / 64; count, how many.
 *
 * @typedef {{place: Int32Array, value: Int32Array, count: number}} Coefficients
 */

/** Pictures of coefficients, one after another, in the same memory. */
export class Inverse {
  #code;
  #columns;
  #used;
  #plane;
  #sums;

  /** @param {Readonly<{height: number, width: number, components: number, channels: number,
   *   basis: Int16Array, mean: Float64Array}>} code */
  constructor(code) {
    const { height, width, components, channels } = code;
    this.#code = code;
    // Columns of all components, each column's numbers side by side.
    this.#columns = new Float64Array(components * width * height);
    this.#used = new Uint8Array(components * width);
    this.#plane = new Float64Array(height * width);
    this.#sums = new Float64Array(channels * height * width);
  }

  /**
   * The image (channels, height, width) of coefficients at a quantiser step.
   *
   * @param {Coefficients} coefficients
   * @param {number} step
   * @param {Float32Array} to
   */
  write(coefficients, step, to) {
    const { components, channels, mean } = this.#code;
    const size = to.length / channels;
    this.#down(coefficients);
    this.#sums.fill(0);
    for (let own = 0; own < components; own++) {
      if (this.#across(own)) this.#mix(own, size);
    }
    const unit = step / (STEP_UNITS * CHANNEL_UNITS * LEFT);
    for (let channel = 0, at = 0; channel < channels; channel++) {
      for (let i = 0; i < size; i++, at++) to[at] = this.#sums[at] * unit + mean[channel];
    }
  }

  /** Columns of all components. @param {Coefficients} coefficients */
  #down({ place, value, count }) {
    const { height, width } = this.#code;
    const [columns, cosines] = [this.#columns, wholeCosines(height)];
    this.#used.fill(0);
    for (let i = 0; i < count; i++) {
      const [line, v] = [Math.floor(place[i] / width), place[i] % width];
      const [own, u] = [Math.floor(line / height), line % height];
      const column = own * width + v;
      const start = column * height;
      if (!this.#used[column]) columns.fill(0, start, start + height);
      this.#used[column] = 1;
      for (let y = 0, wave = u * height; y < height; y++, wave++) {
        columns[start + y] += value[i] * cosines[wave];
      }
    }
  }

  /** The plane of a component; false where it is zero. @param {number} own */
  #across(own) {
    const { height, width } = this.#code;
    const [plane, columns, cosines] = [this.#plane, this.#columns, wholeCosines(width)];
    let any = false;
    for (let v = 0; v < width; v++) {
      if (!this.#used[own * width + v]) continue;
      if (!any) plane.fill(0);
      any = true;
      const column = (own * width + v) * height;
      for (let y = 0, at = 0; y < height; y++) {
        const value = Math.floor(columns[column + y] / DROP_DOWN + 0.5);
        for (let x = 0, wave = v * width; x < width; x++) plane[at++] += value * cosines[wave++];
      }
    }
    return any;
  }

  /** What a component adds to every channel. @param {number} own @param {number} size */
  #mix(own, size) {
    const { channels, basis } = this.#code;
    const [plane, sums] = [this.#plane, this.#sums];
    for (let i = 0; i < size; i++) plane[i] = Math.floor(plane[i] / DROP_ACROSS + 0.5);
    for (let channel = 0, at = 0; channel < channels; channel++) {
      const weight = basis[own * channels + channel];
      for (let i = 0; i < size; i++) sums[at++] += weight * plane[i];
    }
  }
}
