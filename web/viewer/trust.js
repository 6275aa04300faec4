/**
 * Trusted Types: the only scripts that may be started are the page's own two workers.
 */

/**
 * Let these addresses through as scripts and nothing else, neither script nor HTML. MapLibre
 * hands its worker's address on as text, so that only the policy named "default" sees it.
 *
 * @param {readonly string[]} addresses
 */
export function allowOnly(addresses) {
  const types = /** @type {any} */ (globalThis).trustedTypes;
  types?.createPolicy("default", {
    /** @param {string} address */
    createScriptURL: (address) => (addresses.includes(address) ? address : null),
  });
}
