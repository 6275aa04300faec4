/**
 * The decoder of manifests/FORMAT.md, step by step in WebAssembly.
 *
 * The kernel's memory holds one backbone at a time, packed, and room to work on a few vectors;
 * networks that share a backbone take turns for free.
 */

import { BadInput } from "./errors.js";
import { kernel } from "./kernels.js";
import { PRIOR_UNITS } from "./model.js";
import { BATCH, filmPlace, layout, pack, packVector, padded } from "./packing.js";

const SLOPE = 0.1;
const LOG_SCALE_LIMIT = 4;

/** @typedef {import("./model.js").Architecture} Architecture */
/** @typedef {import("./packing.js").Weights} Weights */

/** A backbone and, for an adapter, its weights; ready to decode. */
export class Network {
  /**
   * @param {Architecture} arch
   * @param {Weights} backbone
   * @param {Weights | null} adapter
   */
  constructor(arch, backbone, adapter) {
    this.arch = arch;
    this.backbone = backbone;
    this.adapter = adapter;
    Object.freeze(this);
  }

  /**
   * Chips (n, bands, height, width) in recipe units, of vectors (n, dim).
   *
   * @param {Float32Array} z
   * @returns {Float32Array}
   */
  decode(z) {
    const { bands, height, width, dim } = this.arch;
    if (z.length % dim) {
      throw new BadInput(`vectors: expected rows of ${dim} numbers, found ${z.length}`);
    }
    const [n, pixels] = [z.length / dim, bands * height * width];
    const images = new Float32Array(n * pixels);
    const at = settled(this);
    for (let start = 0; start < n; start += BATCH) {
      const end = Math.min(n, start + BATCH);
      const some = z.subarray(start * dim, end * dim);
      decodeSome(this, at, some, images.subarray(start * pixels, end * pixels));
    }
    return images;
  }

  /** Forget the packed backbone; a later decode packs it again. */
  free() {
    if (resident?.backbone === this.backbone) resident = null;
  }
}

/** @typedef {{backbone: Weights, at: Record<string, number>}} Resident */

/** The backbone in the kernel's memory, and where everything lies. @type {Resident | null} */
let resident = null;

/** Where everything lies, with the network in the kernel's memory. @param {Network} network */
function settled({ arch, backbone, adapter }) {
  if (resident?.backbone !== backbone) resident = { backbone, at: placed(arch, backbone) };
  const { at } = resident;
  const memory = kernel("decode");
  const film = backbone.film_bias.map((value, i) => {
    const factor = Math.floor(i / arch.channels) % 2 === 0;
    return value + (adapter ? adapter.film[i] : 0) + (factor ? 1 : 0);
  });
  packVector(film, filmPlace(arch), memory.floats(at.film_bias, padded(arch).film));
  const [gain, bias] = [memory.floats(at.gain, arch.bands), memory.floats(at.bias, arch.bands)];
  for (let band = 0; band < arch.bands; band++) {
    const [mean, std] = [backbone.mean[band], backbone.std[band]];
    gain[band] = adapter ? adapter.gain[band] * std : std;
    bias[band] = adapter ? adapter.bias[band] * std + mean : mean;
  }
  return at;
}

/**
 * Where everything lies once a backbone is in the kernel's memory, whose rest is zero.
 *
 * @param {Architecture} arch
 * @param {Weights} backbone
 */
function placed(arch, backbone) {
  const memory = kernel("decode");
  const { at, end } = layout(arch, memory.start);
  memory.reach(end);
  resident = null;
  memory.bytes(memory.start, end - memory.start).fill(0);
  pack(arch, backbone, (name, length) => memory.floats(at[name], length));
  return at;
}

/**
 * At most `BATCH` vectors: what is linear in them at once, then one chip after another.
 *
 * @param {Network} network
 * @param {Record<string, number>} at
 * @param {Float32Array} z
 * @param {Float32Array} images
 */
function decodeSome(network, at, z, images) {
  const { arch } = network;
  const [n, p] = [z.length / arch.dim, padded(arch)];
  const memory = kernel("decode");
  const { mix } = memory.steps;
  foretell(network, z, memory.floats(at.z, n * p.dim));
  mix(at.z, n, p.dim, at.dense, at.dense_bias, p.cells * p.basis, at.f);
  mix(at.z, n, p.dim, at.film, at.film_bias, p.film, at.m);
  const image = memory.floats(at.image, images.length / n);
  for (let i = 0; i < n; i++) {
    const f = at.f + 4 * i * p.cells * p.basis;
    decodeOne(arch, at, f, at.m + 4 * i * p.film);
    images.set(image, i * image.length);
  }
}

/**
 * One chip, of its patch components f and its modulation m.
 *
 * @param {Architecture} arch
 * @param {Record<string, number>} at
 * @param {number} f
 * @param {number} m
 */
function decodeOne(arch, at, f, m) {
  const { mix, unfold, conv, leaky, assemble } = kernel("decode").steps;
  const { down, across, cells, basis, channels: k, patch, head } = padded(arch);
  mix(f, cells, basis, at.patch, at.patch_bias, patch, at.coarse);
  mix(f, cells, basis, at.up, at.up_bias, 4 * k, at.upper);
  unfold(at.upper, down, across, k, at.g);
  for (let i = 0; i < arch.blocks; i++) {
    const [a, b] = [`block${i}.a`, `block${i}.b`];
    const film = m + 4 * 2 * i * k;
    conv(at.g, down, across, k, k, at[a], at[`${a}_bias`], film, at.scratch, at.t);
    conv(at.t, down, across, k, k, at[b], at[`${b}_bias`], 0, at.scratch, at.g);
  }
  leaky(at.g, down, across, k, at.flat);
  mix(at.flat, 4 * cells, k, at.head, at.head_bias, head, at.fine);
  const { bands, stride } = arch;
  const parts = [at.coarse, patch, at.fine, head, down, across, bands, stride / 2];
  assemble(...parts, at.gain, at.bias, at.image);
}

/**
 * Vectors as the backbone takes them: with what their style foretells of the detail, and as the
 * adapter scales them.
 *
 * @param {Network} network
 * @param {Float32Array} z
 * @param {Float32Array} to rows in eights
 */
function foretell({ arch: { dim, style }, backbone: w, adapter }, z, to) {
  const [n, last] = [z.length / dim, dim - style];
  for (let row = 0; row < n; row++) {
    const vector = z.subarray(row * dim, (row + 1) * dim);
    const features = new Float64Array(style + PRIOR_UNITS);
    for (let i = 0; i < PRIOR_UNITS; i++) {
      features[style + i] = leak(product(w.units, i, vector.subarray(0, style)) + w.units_bias[i]);
    }
    features.set(vector.subarray(0, style));
    /** @type {(i: number) => number} */
    const prior = (i) => product(w.prior, i, features) + w.prior_bias[i];
    const scale = Math.exp(Math.max(-LOG_SCALE_LIMIT, Math.min(LOG_SCALE_LIMIT, prior(last))));
    for (let i = 0; i < dim; i++) {
      const value = i < style ? vector[i] : vector[i] * scale + prior(i - style);
      const changed = adapter ? value * adapter.z_scale[i] + adapter.z_shift[i] : value;
      to[(row * to.length) / n + i] = changed;
    }
  }
}

/**
 * @param {Float32Array} matrix rows as long as the vector
 * @param {number} row
 * @param {Float32Array | Float64Array} vector
 */
function product(matrix, row, vector) {
  let sum = 0;
  for (let i = 0, at = row * vector.length; i < vector.length; i++) sum += matrix[at++] * vector[i];
  return sum;
}

/** @param {number} x */
function leak(x) {
  return Math.max(x, SLOPE * x);
}
