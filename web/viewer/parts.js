/**
 * The manifest's Parquet tables: parts (one row a shard) and models (one row a model), read with
 * every value checked.
 */

/** @typedef {import("./grid.js").Box} Box */

/**
 * One row of a part: a shard and what it holds. Datetimes are microseconds since 1970.
 *
 * @typedef {Readonly<{prefix: string, geohash_min: string, geohash_max: string, sha256: string,
 *   length: number, footer_length: number, rows: number, bbox: Box, datetime_min: number | null,
 *   datetime_max: number | null, space_id: string, model_ids: readonly string[],
 *   blocks: string}>} ShardRow
 */

/**
 * A part and what its shards hold together.
 *
 * @typedef {Readonly<{prefix: string, sha256: string, length: number, rows: number,
 *   shards: number, geohash_min: string, geohash_max: string, bbox: Box,
 *   datetime_min: number | null, datetime_max: number | null, shard_bytes: number}>} PartRef
 */

/**
 * One row of the models table.
 *
 * @typedef {Readonly<{model_id: string, length: number, kind: string, region: string | null,
 *   space_id: string, backbone: string | null, backbone_length: number | null,
 *   card_sha256: string | null, card_length: number | null, onnx_sha256: string | null,
 *   onnx_length: number | null, train_tiles: number | null, test_tiles: number | null,
 *   mse: number | null, mse_tile_mean: number | null, mse_pca: number | null,
 *   psnr: number | null, psnr_peak: number | null, index_mae: number | null}>} ModelRow
 */

/**
 * A part's shards, every value checked, also against the part's reference. Throws Damaged or
 * UnknownVersion.
 *
 * @param {Uint8Array} data
 * @param {PartRef} part
 * @returns {Promise<ShardRow[]>}
 */
export async function parsePart(data, part) {
  throw new Error(`not written yet ${data} ${part}`);
}

/**
 * The models table, every value checked. Throws Damaged or UnknownVersion.
 *
 * @param {Uint8Array} data
 * @returns {Promise<ModelRow[]>}
 */
export async function parseModels(data) {
  throw new Error(`not written yet ${data}`);
}
