import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BadInput } from "../viewer/errors.js";
import { architecture, shapes } from "../viewer/model.js";
import { golden } from "./networks.js";

const expected = await golden("model");
const good = expected.demo.architecture;

describe("an architecture", () => {
  test("of Python's limits is taken, and frozen", () => {
    for (const { architecture: values } of expected.shapes) {
      const found = architecture(values);
      assert.deepEqual(found, values);
      assert.ok(Object.isFrozen(found));
    }
  });

  test("that Python refuses is refused", () => {
    for (const changes of expected.refused) {
      assert.throws(() => architecture({ ...good, ...changes }), BadInput, JSON.stringify(changes));
    }
    const { bands, ...rest } = good;
    for (const values of [rest, null, 7, [], "text", { ...good, bands: Infinity }, { bands }]) {
      assert.throws(() => architecture(values), BadInput);
    }
  });
});

describe("shapes", () => {
  for (const { architecture: values, ...kinds } of expected.shapes) {
    test(`of ${Object.values(values).join(" ")} are Python's, in its order`, () => {
      for (const [kind, wanted] of Object.entries(kinds)) {
        const found = shapes(architecture(values), kind);
        assert.equal(JSON.stringify(found), JSON.stringify(wanted), kind);
      }
    });
  }

  test("of an unknown kind are refused", () => {
    assert.throws(() => shapes(architecture(good), "decoder"), /model kind: expected encoder/);
  });
});
