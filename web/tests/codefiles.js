// Files of fidelity codes: read, edited as tests/golden/fidelity.py edits them, and written.

/** @type {(text: string) => Uint8Array} */
export const fromBase64 = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** @type {Record<string, string>} */
const TYPES = { "<f4": "F32", "<i2": "I16", "<u2": "U16" };

/**
 * The file with an edit: metadata, a tensor dropped or added, one of another type of the same width
 * or of another shape, a single number.
 *
 * @param {Uint8Array} bytes
 * @param {any} edit
 */
export function edited(bytes, edit) {
  const size = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + size)));
  const about = Object.entries({ ...header.__metadata__, ...edit.about });
  delete header.__metadata__;
  const data = bytes.slice(8 + size);
  if (edit.set) put(header, data, edit.set);
  if (edit.type) header[edit.type[0]].dtype = TYPES[edit.type[1]];
  if (edit.shape) header[edit.shape[0]].shape = edit.shape[1];
  const tensors = Object.entries(header).filter(([name]) => name !== edit.drop);
  const added = edit.add ? [[edit.add, { dtype: "F32", shape: [3], data_offsets: [0, 12] }]] : [];
  const metadata = Object.fromEntries(about.filter(([, value]) => value !== null));
  return written([...tensors, ...added], data, metadata);
}

/** @param {any} header @param {Uint8Array} data @param {[string, number, number | string]} edit */
function put(header, data, [name, place, value]) {
  const { dtype, shape, data_offsets: offsets } = header[name];
  const count = shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
  const at = place < 0 ? count + place : place;
  const view = new DataView(data.buffer);
  const [start, number] = [offsets[0], Number(value)];
  if (dtype === "F64") view.setFloat64(start + 8 * at, number, true);
  else if (dtype === "F32") view.setFloat32(start + 4 * at, number, true);
  else if (dtype === "F16") view.setUint16(start + 2 * at, 0x7c00, true);
  else if (dtype === "I32") view.setInt32(start + 4 * at, number, true);
  else if (dtype === "I16") view.setInt16(start + 2 * at, number, true);
  else if (dtype === "U16") view.setUint16(start + 2 * at, number, true);
  else view.setInt8(start + at, number);
}

/** @param {any[]} tensors @param {Uint8Array} data @param {object} metadata */
function written(tensors, data, metadata) {
  /** @type {Record<string, any>} */
  const header = { __metadata__: metadata };
  const parts = [];
  let end = 0;
  for (const [
    name,
    {
      data_offsets: [from, to],
      ...rest
    },
  ] of tensors) {
    header[name] = { ...rest, data_offsets: [end, end + to - from] };
    parts.push(data.subarray(from, to));
    end += to - from;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const length = new Uint8Array(BigUint64Array.of(BigInt(text.length)).buffer);
  return new Uint8Array(Buffer.concat([length, text, ...parts]));
}
