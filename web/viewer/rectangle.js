/**
 * Drawing a rectangle on the map, by mouse, pen or one finger.
 */

/**
 * @typedef {[west: number, south: number, east: number, north: number]} Box degrees
 * @typedef {object} Heard
 * @property {(box: Box | null) => void} draw   the rectangle so far, or none
 * @property {(box: Box) => void} done
 */

// A rectangle smaller than this was a click.
const LEAST_PIXELS = 4;

/** `start()` waits for a rectangle, `stop()` gives up, `busy()` tells.
 * @param {import("maplibre-gl").Map} map @param {Heard} heard */
export function makeRectangleTool(map, { draw, done }) {
  const element = map.getCanvasContainer();
  const others = [map.dragPan, map.boxZoom, map.touchZoomRotate];
  let active = false;
  /** @type {{id: number, x: number, y: number} | null} */
  let from = null;

  /** @param {PointerEvent} event */
  const at = (event) => {
    const { left, top } = element.getBoundingClientRect();
    return { id: event.pointerId, x: event.clientX - left, y: event.clientY - top };
  };
  /** @param {{x: number, y: number}} to */
  const boxTo = (to) => {
    const a = map.unproject([from?.x ?? 0, from?.y ?? 0]);
    const b = map.unproject([to.x, to.y]);
    const [west, east] = [Math.min(a.lng, b.lng), Math.max(a.lng, b.lng)];
    return boxOf(west, Math.min(a.lat, b.lat), east, Math.max(a.lat, b.lat));
  };
  const drop = () => {
    from = null;
    draw(null);
  };
  const stop = () => {
    active = false;
    from = null;
    for (const other of others) other.enable();
    map.touchZoomRotate.disableRotation();
    element.classList.remove("drawing");
  };
  element.addEventListener("pointerdown", (event) => {
    if (!active || event.button !== 0) return;
    // A second finger means something else.
    if (from) return drop();
    from = at(event);
    element.setPointerCapture(event.pointerId);
  });
  element.addEventListener("pointermove", (event) => {
    if (from?.id === event.pointerId) draw(boxTo(at(event)));
  });
  element.addEventListener("pointerup", (event) => {
    const to = at(event);
    if (!active || from?.id !== to.id) return;
    const found = boxTo(to);
    const wide = Math.min(Math.abs(to.x - from.x), Math.abs(to.y - from.y)) >= LEAST_PIXELS;
    drop();
    if (!wide) return;
    // The click that ends the drag is not one on a place.
    setTimeout(() => {
      stop();
      done(found);
    });
  });
  element.addEventListener("pointercancel", () => from && drop());
  return Object.freeze({
    start() {
      active = true;
      for (const other of others) other.disable();
      element.classList.add("drawing");
    },
    stop,
    busy: () => active,
  });
}

/** A box of longitudes that may lie beyond 180 degrees. @param {number} west
 * @param {number} south @param {number} east @param {number} north @returns {Box} */
export function boxOf(west, south, east, north) {
  const sides = east - west >= 360 ? [-180, 180] : [wrap(west), wrap(east)];
  const [low, high] = [Math.max(-90, south), Math.min(90, north)];
  return [round(sides[0], 6), round(low, 6), round(sides[1], 6), round(high, 6)];
}

/** Degrees in -180..180. @param {number} lon */
export function wrap(lon) {
  return ((((lon + 180) % 360) + 360) % 360) - 180;
}

/** @param {number} value @param {number} digits */
export function round(value, digits) {
  return Number(value.toFixed(digits));
}
