/**
 * A range coder over short streams, integers alone (Martin 1979): the reader's half.
 *
 * Numbers reach 2 ** 32 and quotients are of whole numbers below it, so doubles hold them exactly.
 */

// Frequencies of a table sum to 2 ** PRECISION.
const PRECISION = 15;
export const TOTAL = 2 ** PRECISION;
const [TOP, LEAST] = [2 ** 32 - 1, 2 ** 24];

/** A stream being read. Any bytes decode to some symbols; beyond the end they are zeros. */
export class Decoder {
  #bytes;
  #next = 0;
  #value = 0;
  #range = TOP;

  /** @param {Uint8Array} bytes */
  constructor(bytes) {
    this.#bytes = bytes;
    for (let i = 0; i < 4; i++) this.#value = this.#value * 256 + this.#byte();
  }

  /**
   * The next symbol, by a cumulative table from 0 to TOTAL that lies in `tables`.
   *
   * @param {Uint16Array} tables
   * @param {number} at where it starts
   * @param {number} symbols
   */
  get(tables, at, symbols) {
    const share = this.#share();
    const last = at + symbols - 1;
    let found = at;
    while (found < last && tables[found + 1] <= share) found++;
    this.#take(tables[found], tables[found + 1]);
    return found - at;
  }

  /** The next of 2 ** bits numbers of which all are as likely. @param {number} bits */
  uniform(bits) {
    const width = TOTAL >> bits;
    const found = Math.floor(this.#share() / width);
    this.#take(found * width, (found + 1) * width);
    return found;
  }

  #share() {
    return Math.min(Math.floor(this.#value / (this.#range >>> PRECISION)), TOTAL - 1);
  }

  /** Go into a part of the range. @param {number} start @param {number} end */
  #take(start, end) {
    const part = this.#range >>> PRECISION;
    let span = part * (end - start);
    // What no writer wrote may lie beyond the last symbol: so it stays within 32 bits.
    let value = Math.min(this.#value - part * start, span - 1);
    while (span < LEAST) {
      value = value * 256 + this.#byte();
      span *= 256;
    }
    this.#value = value;
    this.#range = span;
  }

  #byte() {
    return this.#next < this.#bytes.length ? this.#bytes[this.#next++] : 0;
  }
}
