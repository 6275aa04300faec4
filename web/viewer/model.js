/**
 * The shape of the networks: sizes, and from them the name and shape of every tensor.
 */

import { BadInput } from "./errors.js";

/** Hidden units that foretell. */
export const PRIOR_UNITS = 32;
/** What one decode may cost, so that a page can do it while its reader waits. */
export const MAX_MULTIPLY_ADDS = 25_000_000;
const SCALES = 4;
const [MAX_BANDS, MAX_DIM, MAX_WIDTH, MAX_BLOCKS] = [64, 1024, 256, 16];
const FIELDS = "bands height width dim style basis channels blocks stride".split(" ");

/**
 * What fixes every tensor's shape. bands, height, width: of a chip; dim: numbers of a vector;
 * style: how many of them are statistics; basis: patch components; channels, blocks: of the
 * convolutions; stride: pixels of a patch side.
 *
 * @typedef {Readonly<{bands: number, height: number, width: number, dim: number, style: number,
 *   basis: number, channels: number, blocks: number, stride: number}>} Architecture
 * @typedef {Record<string, number[]>} Shapes
 */

/**
 * The architecture of a space's JSON. Throws BadInput on other keys or sizes.
 *
 * @param {any} values
 * @returns {Architecture}
 */
export function architecture(values) {
  const keys = values && typeof values === "object" ? Object.keys(values) : [];
  if (keys.sort().join() !== [...FIELDS].sort().join()) {
    throw new BadInput(`architecture: expected keys ${FIELDS}, found ${keys}`);
  }
  const sizes = Object.fromEntries(FIELDS.map((name) => [name, values[name]]));
  for (const name of FIELDS) {
    if (Number.isSafeInteger(sizes[name]) && sizes[name] >= 0) continue;
    throw new BadInput(`architecture: ${name}: expected a whole number, found ${sizes[name]}`);
  }
  const arch = /** @type {Architecture} */ (sizes);
  if (!fits(arch)) {
    const sizes = JSON.stringify(arch);
    throw new BadInput(`architecture: expected sizes within this page's limits: ${sizes}`);
  }
  return Object.freeze(arch);
}

/** @param {Architecture} a */
function fits(a) {
  /** @type {(value: number, low: number, high: number) => boolean} */
  const within = (value, low, high) => value >= low && value <= high;
  return (
    within(a.bands, 1, MAX_BANDS) &&
    within(a.dim, 2, MAX_DIM) &&
    within(a.style, 1, a.dim - 1) &&
    (a.stride === 8 || a.stride === 16) &&
    within(a.basis, 1, MAX_WIDTH) &&
    within(a.channels, 1, MAX_WIDTH) &&
    within(a.blocks, 1, MAX_BLOCKS) &&
    [a.height, a.width].every((side) => within(side, 16, 128) && side % 16 === 0)
  );
}

/**
 * Tensor names and shapes of a kind of model. Throws BadInput on an unknown kind.
 *
 * @param {Architecture} a
 * @param {string} kind encoder, backbone, adapter, shared or full
 * @returns {Shapes}
 */
export function shapes(a, kind) {
  if (kind === "encoder") return encoderShapes(a);
  if (kind === "backbone" || kind === "shared") return decoderShapes(a);
  if (kind === "adapter") return adapterShapes(a);
  if (kind !== "full") {
    const kinds = "encoder, backbone, adapter, shared, full";
    throw new BadInput(`model kind: expected ${kinds}, found ${JSON.stringify(kind)}`);
  }
  const found = decoderShapes(a);
  for (const [name, shape] of Object.entries(encoderShapes(a))) found[`encoder.${name}`] = shape;
  return found;
}

/** Patches down and across, and numbers of one patch. @param {Architecture} a */
function grid(a) {
  return { h: a.height / a.stride, w: a.width / a.stride, patch: a.bands * a.stride ** 2 };
}

/** @param {Architecture} a @returns {Shapes} */
function priorShapes(a) {
  const rows = a.dim - a.style + 1;
  return {
    units: [PRIOR_UNITS, a.style],
    units_bias: [PRIOR_UNITS],
    prior: [rows, a.style + PRIOR_UNITS],
    prior_bias: [rows],
  };
}

/** @param {Architecture} a @returns {Shapes} */
function encoderShapes(a) {
  const { h, w, patch } = grid(a);
  const [k, detail, statistics] = [a.channels, a.dim - a.style, a.bands * (SCALES + 2)];
  return {
    mean: [a.bands],
    std: [a.bands],
    statistics_mean: [statistics],
    statistics_map: [a.style, statistics],
    step: [1],
    ...priorShapes(a),
    patch: [a.basis, patch],
    dense: [detail, a.basis * h * w],
    dense_bias: [detail],
    conv1: [k, patch / 4, 3, 3],
    conv1_bias: [k],
    conv2: [k, k, 3, 3],
    conv2_bias: [k],
    conv3: [k, k, 3, 3],
    conv3_bias: [k],
    out: [detail, k * h * w],
    out_bias: [detail],
  };
}

/** @param {Architecture} a @returns {Shapes} */
function decoderShapes(a) {
  const { h, w, patch } = grid(a);
  const k = a.channels;
  const blocks = blockNames(a).map((name) => [
    [name, [k, k, 3, 3]],
    [`${name}_bias`, [k]],
  ]);
  return {
    mean: [a.bands],
    std: [a.bands],
    ...priorShapes(a),
    dense: [a.basis * h * w, a.dim],
    dense_bias: [a.basis * h * w],
    patch: [patch, a.basis],
    patch_bias: [patch],
    up: [4 * k, a.basis],
    up_bias: [4 * k],
    film: [2 * a.blocks * k, a.dim],
    film_bias: [2 * a.blocks * k],
    head: [patch / 4, k],
    head_bias: [patch / 4],
    ...Object.fromEntries(blocks.flat()),
  };
}

/** @param {Architecture} a @returns {Shapes} */
function adapterShapes(a) {
  return {
    z_scale: [a.dim],
    z_shift: [a.dim],
    film: [2 * a.blocks * a.channels],
    gain: [a.bands],
    bias: [a.bands],
  };
}

/** Names of the convolutions. @param {Architecture} a */
export function blockNames(a) {
  return Array.from({ length: 2 * a.blocks }, (_, i) => `block${i >> 1}.${"ab"[i & 1]}`);
}
