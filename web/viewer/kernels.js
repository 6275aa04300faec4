/**
 * The two WebAssembly programs, loaded once; from then on everything is synchronous.
 *
 * A program owns a memory and no allocator: `quantize`, `packing` and `refine` say what lies where.
 */

import { BadInput, EmbarchiveError, StoreUnreachable } from "./errors.js";

const PAGE = 65_536;

/** @typedef {Record<string, (...numbers: number[]) => void>} Steps see web/kernels/*.c */
/** @typedef {(name: string) => Promise<BufferSource> | BufferSource} Source */

/** A program and its memory. */
class Kernel {
  #memory;

  /** @param {WebAssembly.Exports} exports */
  constructor(exports) {
    this.#memory = /** @type {WebAssembly.Memory} */ (exports.memory);
    const heap = /** @type {WebAssembly.Global} */ (exports.__heap_base);
    this.steps = /** @type {Steps} */ (/** @type {unknown} */ (exports));
    /** Where free memory starts, in bytes; a multiple of 16. */
    this.start = Math.ceil(heap.value / 16) * 16;
  }

  /**
   * Make the memory reach to byte `end` at least; every view taken before is then void.
   *
   * @param {number} end
   */
  reach(end) {
    const missing = end - this.#memory.buffer.byteLength;
    if (missing <= 0) return;
    try {
      this.#memory.grow(Math.ceil(missing / PAGE));
    } catch {
      throw new BadInput(`memory: expected room for ${Math.ceil(end / 1e6)} MB, found too little`);
    }
  }

  /**
   * @param {number} at bytes
   * @param {number} length
   */
  bytes(at, length) {
    return new Uint8Array(this.#memory.buffer, at, length);
  }

  /**
   * @param {number} at bytes
   * @param {number} length numbers
   */
  floats(at, length) {
    return new Float32Array(this.#memory.buffer, at, length);
  }

  /**
   * @param {number} at bytes
   * @param {number} length numbers
   */
  shorts(at, length) {
    return new Uint16Array(this.#memory.buffer, at, length);
  }
}

// Which file each runs: the networks before and after the fidelity code share their steps, and each has
// a memory of its own, so that neither has to move out for the other.
const FILES = Object.freeze({ hamming: "hamming", decode: "decode", refine: "decode" });

/** @typedef {keyof typeof FILES} Name */

/** @type {Map<string, Kernel>} */
const loaded = new Map();

/**
 * Load both programs; `source` gives the bytes of a name, by default those beside this module.
 *
 * @param {Source} source
 */
export async function loadKernels(source = beside) {
  const files = [...new Set(Object.values(FILES))];
  const bytes = await Promise.all(files.map((file) => source(`${file}.wasm`)));
  const names = /** @type {Name[]} */ (Object.keys(FILES));
  const kernels = await Promise.all(names.map((name) => made(bytes[files.indexOf(FILES[name])])));
  names.forEach((name, i) => loaded.set(name, kernels[i]));
}

/**
 * A program that `loadKernels` has loaded.
 *
 * @param {Name} name
 * @returns {Kernel}
 */
export function kernel(name) {
  const found = loaded.get(name);
  if (!found) throw new BadInput(`kernels: expected loadKernels before ${name}, found none loaded`);
  return found;
}

/** @param {BufferSource} bytes */
async function made(bytes) {
  try {
    const { instance } = await WebAssembly.instantiate(bytes);
    return new Kernel(instance.exports);
  } catch {
    throw new EmbarchiveError("browser: expected WebAssembly with SIMD, found none");
  }
}

/** @type {Source} */
async function beside(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new StoreUnreachable(`${name}: expected 200, found ${response.status}`);
  return response.arrayBuffer();
}
