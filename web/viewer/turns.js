/**
 * Of several things under way at once, only the latest may still show what it found.
 */

/** Gives turns: each call begins one and returns whether it is still the latest.
 * @returns {() => () => boolean} */
export function makeTurns() {
  let latest = 0;
  return () => {
    const mine = ++latest;
    return () => mine === latest;
  };
}
