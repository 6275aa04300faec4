/**
 * The page's elements by name.
 */

/** An element that index.html has. @template {HTMLElement} T
 * @param {string} id @param {new () => T} kind @returns {T} */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`page: expected a ${kind.name} #${id}, found none`);
  return found;
}
