/**
 * The fidelity layer of a space: which pixels a code is of, on top of what, and its file.
 *
 * A code covers the block in the middle of a chip that holds the cell; around it a chip shows the
 * embedding's decode. It codes the pixels themselves, or what the embedding's decode lacks of them.
 */

import { CLASSES, MOST_EXPECTED, Scan } from "./contexts.js";
import { Damaged } from "./errors.js";
import { CENTRES, decode, SYMBOLS } from "./fidelity.js";
import { parseMoment } from "./filters.js";
import { MAX_MULTIPLY_ADDS } from "./model.js";
import { TOTAL } from "./rangecoder.js";
import { multiplyAdds, refine, tensors as filterShapes, WIDTHS } from "./refine.js";
import { MAX_WEIGHTS, readFile, tensorsOf } from "./tensors.js";

/** @typedef {import("./fidelity.js").Code} Code */
/** @typedef {import("./tensors.js").Tensors} Tensors */
/**
 * Sizes of chips: an architecture, or settings.
 *
 * @typedef {Readonly<{bands: number, height: number, width: number}>} Chip
 */
/**
 * basis: what the code is of; filter: weights of `refine`, null without; dates: microseconds since
 * 1970 of those whose bands are the channels of the code, one date after another; empty for those of
 * one tile.
 *
 * @typedef {Readonly<{code: Code, basis: "pixels" | "embedding", dates: readonly number[],
 *   filter: import("./refine.js").Weights | null}>} Layer
 */

const VERSION = "1";
const BASES = ["pixels", "embedding"];
const [MOST_SIDE, MOST_CHANNELS, MOST_STEPS, MOST_POSITIONS] = [128, 1024, 64, 1 << 20];
const MOST_BYTES = 1 << 20;
const FILTER = "filter.";
const ARRAYS = Object.freeze({
  F64: Float64Array,
  I32: Int32Array,
  I16: Int16Array,
  U16: Uint16Array,
  I8: Int8Array,
});
/** @typedef {keyof typeof ARRAYS} Kind */
/** @type {Readonly<Record<string, Kind>>} */
const TYPES = Object.freeze({
  mean: "F64",
  basis: "I16",
  steps: "F64",
  order: "I32",
  expected: "I32",
  tables: "U16",
  ends: "I32",
  end_tables: "U16",
  step_table: "U16",
  centres: "I8",
});

/**
 * Chips (n, bands, height, width) that the embeddings decode to, with what the streams say put into
 * their block.
 *
 * @param {Layer} layer
 * @param {Float32Array} chips changed
 * @param {Chip} chip
 * @param {readonly Uint8Array[]} streams
 */
export function apply(layer, chips, chip, streams) {
  put(layer, chips, chip, decode(layer.code, streams));
}

/**
 * Blocks (n, bands, height, width) as coded, put into chips that the embeddings decode to.
 *
 * @param {Layer} layer
 * @param {Float32Array} chips changed
 * @param {Chip} chip
 * @param {Float32Array} coded changed
 */
export function put({ code, basis, filter }, chips, { bands, height, width }, coded) {
  const [top, left] = [height - code.height, width - code.width].map((gap) => Math.floor(gap / 2));
  /** Where a row of all blocks lies in the chips. @param {number} row */
  const placeOf = (row) => {
    const [plane, down] = [Math.floor(row / code.height), row % code.height];
    return (plane * height + top + down) * width + left;
  };
  if (basis === "embedding") {
    for (let row = 0, at = 0; at < coded.length; row++) {
      for (let from = placeOf(row), i = 0; i < code.width; i++) coded[at++] += chips[from++];
    }
  }
  if (filter) refine(filter, filterShape(code, bands, filter.in_bias.length), coded);
  for (let row = 0, at = 0; at < coded.length; row++) {
    for (let to = placeOf(row), i = 0; i < code.width; i++) chips[to++] = coded[at++];
  }
}

/**
 * The layer of an archive whose chips have these sizes. Throws Damaged when it is not one.
 *
 * @param {Uint8Array} bytes
 * @param {Chip} chip
 * @returns {Layer}
 */
export function loadLayer(bytes, chip) {
  if (bytes.length > MAX_WEIGHTS) {
    throw new Damaged(`code: expected at most ${MAX_WEIGHTS} bytes, found ${bytes.length}`);
  }
  const { tensors, metadata } = readFile(bytes, "code");
  const { kind, version, basis } = metadata;
  if (kind !== "code" || version !== VERSION || !BASES.includes(basis)) {
    const found = `${kind} ${version} of ${basis}`.slice(0, 80);
    throw new Damaged(`code: expected version ${VERSION}, found ${found}`);
  }
  const [height, width, most] = ["height", "width", "most"].map((name) => whole(metadata, name));
  const [own, filter] = [true, false].map(
    (outside) => new Map([...tensors].filter(([name]) => name.startsWith(FILTER) !== outside)),
  );
  const code = codeOf(own, height, width);
  const dates = datesOf(metadata);
  const channels = chip.bands * Math.max(1, dates.length);
  if (code.channels !== channels || height > chip.height || width > chip.width) {
    const found = `${code.channels} in ${height} x ${width}`;
    const wanted = `${channels} bands in at most ${chip.height} x ${chip.width} pixels`;
    throw new Damaged(`code: expected ${wanted}, found ${found}`);
  }
  if (most > MOST_BYTES) throw new Damaged(`code: expected a length, found ${most}`);
  const weights = filter.size ? filterOf(filter, code, chip.bands) : null;
  const known = /** @type {Layer["basis"]} */ (basis);
  return Object.freeze({ code, basis: known, dates, filter: weights });
}

/** The dates in the metadata. @param {Readonly<Record<string, string>>} metadata */
function datesOf({ dates }) {
  const found = dates?.split(" ").filter(Boolean).map(parseMoment);
  if (found?.every((one) => one !== null)) return Object.freeze(found.map(({ start }) => start));
  throw new Damaged(`code: dates: expected ISO 8601, found ${String(dates).slice(0, 40)}`);
}

/** A size in the metadata. @param {Readonly<Record<string, string>>} metadata @param {string} name */
function whole(metadata, name) {
  const text = Object.hasOwn(metadata, name) ? metadata[name] : "none";
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new Damaged(`code: ${name}: expected a whole number, found ${text.slice(0, 40)}`);
}

/**
 * @param {Tensors} found
 * @param {number} height
 * @param {number} width
 * @returns {Code}
 */
function codeOf(found, height, width) {
  const names = Object.keys(TYPES);
  const odd = [...names, ...found.keys()].filter(
    (name) => !(Object.hasOwn(TYPES, name) && found.has(name)),
  );
  if (odd.length) {
    const some = odd.slice(0, 4).map((name) => name.slice(0, 40));
    throw new Damaged(`code: expected ${names.join(", ")}, differing in ${some.join(", ")}`);
  }
  const [components, channels] = found.get("basis")?.shape ?? [];
  checkShapes(found, channels, components);
  const { end_tables: endTables, step_table: stepTable, ...rest } = numbersOf(found);
  const code = { height, width, components, channels, endTables, stepTable, ...rest };
  checkValues(/** @type {Code} */ (code));
  const scan = new Scan(rest.order, [components, height, width]);
  return /** @type {Code} */ (Object.freeze({ ...code, scan }));
}

/**
 * @param {Tensors} found
 * @param {number | undefined} channels
 * @param {number | undefined} components
 */
function checkShapes(found, channels = 0, components = 0) {
  const [rungs, positions, ends] = ["steps", "order", "ends"].map((name) =>
    (found.get(name)?.shape ?? []).reduce((a, b) => a * b, 1),
  );
  /** @type {Record<string, number[]>} */
  const shapes = {
    mean: [channels],
    basis: [components, channels],
    steps: [rungs],
    order: [positions],
    expected: [rungs, positions],
    tables: [CLASSES, SYMBOLS + 1],
    ends: [ends],
    end_tables: [rungs, ends + 1],
    step_table: [1, rungs + 1],
    centres: [CLASSES, CENTRES],
  };
  for (const [name, { type, shape }] of found) {
    const wanted = `${TYPES[name]} (${shapes[name]})`;
    const there = `${type} (${shape})`;
    if (there !== wanted) {
      throw new Damaged(`code: ${name}: expected ${wanted}, found ${there.slice(0, 60)}`);
    }
  }
}

/** The numbers of all tensors. @param {Tensors} found @returns {Record<string, any>} */
function numbersOf(found) {
  const numbers = [...found].map(([name, { bytes }]) => {
    return [name, new ARRAYS[TYPES[name]](bytes.slice().buffer)];
  });
  return Object.fromEntries(numbers);
}

/** Throws Damaged for numbers that would break a reader, or cost it more than it would like.
 * @param {Code} code */
function checkValues(code) {
  const { height, width, components, channels, mean, steps, order, expected, ends } = code;
  const flat = components * height * width;
  /** @type {(numbers: Int32Array, low: number, high: number) => boolean} */
  const within = (numbers, low, high) => numbers.every((one) => one >= low && one <= high);
  /** @type {Record<string, () => boolean>} */
  const checks = {
    height: () => isSide(height),
    width: () => isSide(width),
    basis: () => 0 < components && components <= channels && channels <= MOST_CHANNELS,
    steps: () => 0 < steps.length && steps.length <= MOST_STEPS && steps.every(isStep),
    mean: () => mean.every(Number.isFinite),
    order: () => 0 < order.length && order.length <= Math.min(flat, MOST_POSITIONS),
    "order's places": () => within(order, 0, flat - 1) && new Set(order).size === order.length,
    expected: () => within(expected, 1, MOST_EXPECTED),
    ends: () => ends[0] >= 0 && rises(ends) && ends[ends.length - 1] === order.length,
    tables: () => areTables(code.tables, CLASSES),
    end_tables: () => areTables(code.endTables, steps.length),
    step_table: () => areTables(code.stepTable, 1),
  };
  for (const [name, isGood] of Object.entries(checks)) {
    if (isGood()) continue;
    throw new Damaged(`code: ${name}: expected numbers within the limits, found others`);
  }
}

/** @param {number} side */
function isSide(side) {
  return side >= 2 && side <= MOST_SIDE && side % 2 === 0;
}

/** @param {number} step */
function isStep(step) {
  return Number.isFinite(step) && step > 0;
}

/** @param {Int32Array | Uint16Array} numbers */
function rises(numbers) {
  for (let i = 1; i < numbers.length; i++) if (numbers[i] <= numbers[i - 1]) return false;
  return true;
}

/** Whether each row rises from 0 to TOTAL. @param {Uint16Array} tables @param {number} rows */
function areTables(tables, rows) {
  const length = tables.length / rows;
  for (let start = 0; start < tables.length; start += length) {
    const row = tables.subarray(start, start + length);
    if (row[0] !== 0 || row[length - 1] !== TOTAL || !rises(row)) return false;
  }
  return true;
}

/** @param {Code} code @param {number} bands @param {number} channels */
function filterShape({ height, width }, bands, channels) {
  return { bands, height, width, channels };
}

/**
 * The tensors of the filter, checked against the one shape that they can have.
 *
 * @param {Tensors} found with the prefix
 * @param {Code} code
 * @param {number} bands
 */
function filterOf(found, code, bands) {
  const own = new Map([...found].map(([name, tensor]) => [name.slice(FILTER.length), tensor]));
  const channels = own.get("in_bias")?.shape[0] ?? 0;
  const shape = filterShape(code, bands, channels);
  if (!WIDTHS.includes(channels) || multiplyAdds(shape) > MAX_MULTIPLY_ADDS) {
    throw new Damaged(`code: filter: expected a width of ${WIDTHS}, found ${channels}`);
  }
  const weights = tensorsOf(own, filterShapes(shape), "code filter");
  if (weights.std.every((value) => value > 0)) return Object.freeze(weights);
  throw new Damaged("code: filter: expected standard deviations above 0, found others");
}
