import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY, formatSession, isPlace, parseSession } from "../viewer/session.js";

const FULL = {
  like: ["u2ed", "u2ee@2023-08-15", "14.21,-48.1"],
  unlike: ["u2ef"],
  bbox: [170, -10.5, -170, 10],
  from: "2023-01-01",
  to: "2023-12-31",
  k: 100,
  op: "min",
  invert: true,
  exact: true,
  everyDate: true,
  show: "ndvi",
  heat: false,
  imagery: true,
  view: [14.2, 48.1, 11.25],
};

test("an empty session is an empty address", () => {
  assert.equal(formatSession(EMPTY), "");
  assert.deepEqual(parseSession(""), { session: EMPTY, wrong: [] });
});

test("a session survives the address", () => {
  const { session, wrong } = parseSession(`#${formatSession(/** @type {any} */ (FULL))}`);
  assert.deepEqual(wrong, []);
  assert.deepEqual({ ...session }, FULL);
});

test("what an address may not say is left out and named", () => {
  const bad = [
    "like=<script>",
    "like=u2ed%20javascript:alert(1)",
    `like=${"u2ed+".repeat(17)}`,
    "bbox=1,2,3",
    "bbox=0,50,1,40",
    "bbox=0,0,1,Infinity",
    "from=2023-13-40",
    "k=51",
    "k=1e2",
    "op=max",
    "invert=yes",
    "heat=constructor",
    "show=__proto__",
    "view=0,0,99",
    "__proto__=1",
    "constructor=x",
    "view=0x10,0,1",
  ];
  for (const hash of bad) {
    const { session, wrong } = parseSession(hash);
    assert.deepEqual(session, EMPTY, hash);
    assert.equal(wrong.length, 1, hash);
  }
});

test("a place is a geohash, one with a day, or degrees", () => {
  for (const text of ["s", "u2edk1c", "u2ed@2023-08-15", "-122.4,37.7", "0,0"])
    assert.ok(isPlace(text), text);
  for (const text of ["", "a", "u2ed@", "u2ed@today", "1,2,3", "1;2", " u2ed", "u2ed\n"]) {
    assert.ok(!isPlace(text), JSON.stringify(text));
  }
});
