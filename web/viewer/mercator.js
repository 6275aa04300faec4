/**
 * Web Mercator, in which the map draws: 0..1 from the north-west.
 */

/** A box may lie one turn of the world to either side of a view. */
export const TURNS = Object.freeze([-1, 0, 1]);

/**
 * West, north, east, south in Web Mercator, 0..1 from the north-west.
 *
 * @param {readonly number[]} box west south east north, degrees
 */
export function mercator([west, south, east, north]) {
  return [(west + 180) / 360, northing(north), (east + 180) / 360, northing(south)];
}

/** From 0 at the north to 1 at the south. @param {number} lat degrees */
export function northing(lat) {
  const sine = Math.sin((Math.min(Math.max(lat, -85.051129), 85.051129) * Math.PI) / 180);
  return 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI);
}

/**
 * The pixels between two edges, at least one where they are in the picture at all.
 *
 * @param {number} from
 * @param {number} to
 * @param {number} size
 */
export function pixelsBetween(from, to, size) {
  if (to <= 0 || from >= size) return [0, 0];
  const first = Math.max(0, Math.floor(from));
  return [first, Math.min(size, Math.max(Math.floor(to), first + 1))];
}
