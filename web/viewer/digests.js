/**
 * The one place where bytes are hashed: whole objects, and their 16 KiB blocks.
 */

export const BLOCK = 16_384;
export const DIGEST = 16;

/**
 * SHA-256 as 64 lower-case hex digits.
 *
 * @param {Uint8Array} data
 * @returns {Promise<string>}
 */
export async function sha256(data) {
  throw new Error(`not written yet ${data}`);
}
