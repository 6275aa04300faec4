import assert from "node:assert/strict";
import { test } from "node:test";
import { ring } from "../viewer/basemap.js";

test("an outline over the antimeridian goes on instead of jumping across the map", () => {
  const { points, box } = ring([
    [170, 60],
    [180, 65],
    [-170, 65],
    [-175, 60],
    [170, 60],
  ]);
  const x = [...points].filter((_, i) => i % 2 === 0).map((value) => Math.round(value * 360));
  assert.deepEqual(x, [350, 360, 370, 365, 350]);
  assert.ok(box[2] > 1 && box[0] > 0.9);
});

test("an outline around the world is closed along the south", () => {
  const around = Array.from({ length: 37 }, (_, i) => [((i * 10 + 180) % 360) - 180, -70]);
  const { points } = ring(around);
  assert.deepEqual(
    [...points.slice(-4)].map((value) => Math.round(value * 100) / 100),
    [1.5, 1, 0.5, 1],
  );
});

test("an outline elsewhere stays as it is", () => {
  const { points, box } = ring([
    [0, 0],
    [90, 0],
    [90, 45],
    [0, 0],
  ]);
  assert.equal(points.length, 8);
  assert.deepEqual(
    box.map((value) => Math.round(value * 100) / 100),
    [0.5, 0.36, 0.75, 0.5],
  );
});
