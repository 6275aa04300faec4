import assert from "node:assert/strict";
import { createServer } from "node:http";
import { test } from "node:test";

import { blockDigests, sha256 } from "../viewer/digests.js";
import { BadInput, Damaged, Missing, StoreUnreachable } from "../viewer/errors.js";
import { POINTER, objectPath, parseGeneration, parsePointer } from "../viewer/manifest.js";
import { parsePart } from "../viewer/parts.js";
import { parseFooter } from "../viewer/shards.js";
import { Store, VerifiedObject, coalesce } from "../viewer/store.js";
import { DEMO, serve } from "./faults.js";

/** @typedef {import("./faults.js").Kind} Kind */

const KB = 1 << 10;
const FAST = { deadline: 0.4 };

/** @param {number} length */
function noise(length) {
  return Uint8Array.from({ length }, (_, i) => (Math.imul(i, 2_654_435_761) >>> 13) & 255);
}

/** A server of one file `x`, and a store in front of it. @param {Uint8Array} data */
function one(data, options = FAST) {
  const server = serve(new Map([["x", data]]));
  return { server, store: new Store(server.root, { ...options, fetch: server.fetch }) };
}

/** A server of a large object with its outboard. @param {number} [length] */
async function large(length = 3_000_000) {
  const data = noise(length);
  const outboard = await blockDigests(data);
  const [sha, blocks] = [await sha256(data), await sha256(/** @type {any} */ (outboard))];
  const server = serve(
    new Map([
      ["x", data],
      [`blocks/${blocks}`, outboard],
    ]),
  );
  const store = new Store(server.root, { ...FAST, fetch: server.fetch });
  return { data, server, store, object: new VerifiedObject(store, "x", sha, length, blocks) };
}

test("the packaged archive is read from pointer to footer", async () => {
  const server = serve(DEMO);
  const store = new Store(`${server.root}/`, { fetch: server.fetch });
  const pointer = parsePointer(await store.get(POINTER, { limit: 1024 }));
  const whole = (
    /** @type {string} */ path,
    /** @type {string} */ sha,
    /** @type {number} */ length,
  ) => new VerifiedObject(store, path, sha, length).whole();
  const body = await whole(
    objectPath("manifest-json", pointer.manifest),
    pointer.manifest,
    pointer.length,
  );
  const [part] = parseGeneration(body).parts;
  const table = await whole(objectPath("manifest-parquet", part.sha256), part.sha256, part.length);
  const [shard] = await parsePart(table, part);
  const path = objectPath("shard", shard.sha256, shard.prefix);
  const object = new VerifiedObject(store, path, shard.sha256, shard.length, shard.blocks);
  const [tail] = await object.read([[shard.length - shard.footer_length, shard.length]]);
  assert.equal(parseFooter(tail, 64, 128).rows, shard.rows);
  assert.equal(store.requests, 4);
  assert.equal(store.bytesRead, server.sent);
  assert.deepEqual(
    server.seen.map(({ cache }) => cache),
    ["no-cache", "default", "default", "default"],
  );
});

test("ranges are asked for one by one and counted", async () => {
  const { server, store } = one(noise(100_000));
  const [a, b] = await store.getRanges("x", [
    [10, 20],
    [50_000, 90_000],
  ]);
  assert.deepEqual([a, b], [noise(100_000).slice(10, 20), noise(100_000).slice(50_000, 90_000)]);
  assert.deepEqual(
    server.seen.map(({ range }) => range),
    ["bytes=10-19", "bytes=50000-89999"],
  );
  assert.deepEqual([store.requests, store.bytesRead], [2, 40_010]);
  assert.deepEqual(await store.getRanges("x", []), []);
});

test("at most six requests are in flight, whoever asks", async () => {
  const { server, store } = one(noise(1000));
  const ranges = Array.from({ length: 20 }, (_, i) => /** @type {[number, number]} */ ([i, i + 1]));
  await Promise.all([store.getRanges("x", ranges), store.getRanges("x", ranges), store.get("x")]);
  assert.equal(store.requests, 41);
  assert.equal(server.most, 6);
});

for (const [kind, status] of /** @type {[Kind, number?][]} */ ([
  ["status", 500],
  ["status", 503],
  ["status", 429],
  ["network"],
  ["cut"],
  ["short"],
  ["empty"],
  ["long"],
  ["mislabelled"],
])) {
  test(`${kind} ${status ?? ""} once is survived`, async () => {
    const { server, store } = one(noise(30_000));
    server.break_("x", kind, 1, status);
    const [body] = await store.getRanges("x", [[5, 20_005]]);
    assert.deepEqual(body, noise(30_000).slice(5, 20_005));
    assert.equal(store.requests, 2);
  });
}

for (const [kind, kinds, status] of /** @type {[Kind, any, number?][]} */ ([
  ["status", StoreUnreachable, 503],
  ["status", StoreUnreachable, 403],
  ["status", Missing, 404],
  ["network", StoreUnreachable],
  ["redirect", StoreUnreachable],
  ["followed", StoreUnreachable],
  ["hang", StoreUnreachable],
  ["drip", StoreUnreachable],
  ["cut", StoreUnreachable],
  ["short", Damaged],
  ["empty", Damaged],
  ["long", Damaged],
  ["full", StoreUnreachable],
  ["mislabelled", Damaged],
  ["unlabelled", Damaged],
  ["encoded", StoreUnreachable],
])) {
  const name = `${kind} ${status ?? ""} for a range every time is ${kinds.name}, in time`;
  test(name, async () => {
    const { server, store } = one(noise(30_000));
    server.break_("x", kind, Infinity, status);
    const began = performance.now();
    await assert.rejects(store.getRanges("x", [[5, 20_005]]), (/** @type {Error} */ error) => {
      assert.equal(error.constructor, kinds);
      assert.match(error.message, /^(http:\/\/archive\.test\/data\/)?x: expected .+, found .+$/);
      return true;
    });
    assert.ok(performance.now() - began < 2000);
  });
}

for (const [kind, kinds, status] of /** @type {[Kind, any, number?][]} */ ([
  ["status", StoreUnreachable, 500],
  ["status", Missing, 404],
  ["hang", StoreUnreachable],
  ["cut", StoreUnreachable],
  ["short", Damaged],
  ["long", Damaged],
  ["partial", Damaged],
])) {
  test(`${kind} ${status ?? ""} for a whole object every time is ${kinds.name}`, async () => {
    const { server, store } = one(noise(30_000));
    server.break_("x", kind, Infinity, status);
    await assert.rejects(store.get("x", { length: 30_000 }), kinds);
  });
}

test("a server that ignores ranges is named as one, and its body is not read", async () => {
  const { server, store } = one(noise(5_000_000));
  server.break_("x", "full", Infinity);
  await assert.rejects(store.getRanges("x", [[5, 10]]), /found a server without range requests/);
  assert.equal(store.requests, 1);
  assert.ok(server.sent <= 10_000, `${server.sent}`);
});

test("a body is given up as soon as it is too long", async () => {
  const { server, store } = one(noise(5_000_000));
  await assert.rejects(
    store.get("x", { limit: 1000 }),
    /expected a body of 1000 bytes, found 10000 or more/,
  );
  assert.ok(server.sent <= 30_000, `${server.sent}`);
  assert.equal((await store.get("x", { limit: 5_000_000 })).length, 5_000_000);
});

test("a hang ends with the deadline and the request is given up", async () => {
  const { server, store } = one(noise(100));
  server.break_("x", "hang", Infinity);
  const began = performance.now();
  await assert.rejects(store.get("x"), /expected an answer within 0.4 s, found a time-out/);
  assert.ok(performance.now() - began < 1000);
});

test("a body that keeps coming may take longer than the deadline", async () => {
  const pieces = 12;
  const body = new ReadableStream({
    async pull(controller) {
      await new Promise((done) => setTimeout(done, 40));
      controller.enqueue(new Uint8Array(10_000));
      if ((at += 1) === pieces) controller.close();
    },
  });
  let at = 0;
  const store = new Store("http://a.test", {
    deadline: 0.2,
    fetch: async () => new Response(body),
  });
  assert.equal((await store.get("x")).length, pieces * 10_000);
});

test("another site's answer may hide its Content-Range", async () => {
  const { server } = one(noise(100));
  server.break_("x", "unlabelled", Infinity);
  const fetch = async (/** @type {any} */ url, /** @type {any} */ init) => {
    const answer = await server.fetch(url, init);
    return Object.defineProperty(answer, "type", { value: "cors" });
  };
  const store = new Store(server.root, { ...FAST, fetch: /** @type {any} */ (fetch) });
  assert.deepEqual(await store.getRanges("x", [[1, 3]]), [noise(100).slice(1, 3)]);
});

test("paths, ranges and roots that could lead elsewhere are bad input", async () => {
  const { server, store } = one(noise(10));
  for (const path of [
    "",
    "/x",
    "../x",
    "a/../x",
    "a//x",
    "x?y",
    "x#",
    "http://b/x",
    "a/./x",
    "x\n",
  ]) {
    await assert.rejects(store.get(path), BadInput, path);
  }
  for (const range of [
    [5, 5],
    [6, 5],
    [-1, 5],
    [NaN, 5],
  ]) {
    await assert.rejects(store.getRanges("x", [/** @type {any} */ (range)]), BadInput);
  }
  for (const root of [
    "",
    "data",
    "ftp://a/b",
    "file:///a",
    "http://u:p@a/b",
    "http://a/b?key=1",
    "http://a/#x",
  ]) {
    assert.throws(
      () => new Store(root),
      (/** @type {Error} */ error) => {
        return (
          error instanceof BadInput &&
          !error.message.includes("key=1") &&
          !error.message.includes("u:p")
        );
      },
    );
  }
  assert.equal(server.seen.length, 0);
});

// ---------------------------------------------------------------- verified objects

test("a flipped byte is damaged: the object, the hash expected and the one found", async () => {
  const data = noise(1000);
  const { server, store } = one(data);
  const object = new VerifiedObject(store, "x", await sha256(data), 1000);
  assert.deepEqual(await object.whole(), data);
  server.break_("x", "flip", Infinity);
  await assert.rejects(
    object.whole(),
    /^Damaged: x: expected sha256 [0-9a-f]{64}, found [0-9a-f]{64}$/,
  );
});

test("ranges are rounded to blocks, verified by the outboard, and cut again", async () => {
  const { data, server, object, store } = await large();
  const wanted = /** @type {[number, number][]} */ ([
    [2_990_000, 3_000_000],
    [20_000, 20_010],
    [5, 5],
    [40_000, 70_000],
  ]);
  const found = await object.read(wanted);
  assert.deepEqual(
    found,
    wanted.map(([start, end]) => data.slice(start, end)),
  );
  assert.deepEqual(server.seen.map(({ range }) => range).sort(), [
    "bytes=16384-81919",
    "bytes=2981888-2999999",
    null,
  ]);
  await object.read([[500_000, 500_001]]);
  assert.equal(store.requests, 4);
});

test("most of an object, or a small one, is fetched whole and in one request", async () => {
  const { data, object, store } = await large();
  const [a, b] = await object.read([
    [0, 1_600_000],
    [2_999_999, 3_000_000],
  ]);
  assert.deepEqual([a, b], [data.slice(0, 1_600_000), data.slice(2_999_999)]);
  assert.equal(store.requests, 1);
  const small = await large(200 * KB);
  assert.deepEqual(await small.object.read([[7, 9]]), [small.data.slice(7, 9)]);
  assert.equal(small.store.requests, 1);
});

test("a flipped byte in a range, or in the outboard, is damaged", async () => {
  const { server, object } = await large();
  server.break_("x", "flip", 2);
  await assert.rejects(
    object.read([[20_000, 20_001]]),
    /^Damaged: x: block 1: expected digest [0-9a-f]{32}, found/,
  );
  const other = await large();
  other.server.break_("blocks/", "flip", 2);
  await assert.rejects(
    other.object.read([[20_000, 20_001]]),
    /^Damaged: blocks\/.*expected sha256/,
  );
  assert.equal((await other.object.read([[20_000, 20_001]]))[0].length, 1);
});

test("what is damaged once is fetched again, past the browser's cache", async () => {
  const { server, object } = await large();
  server.break_("x", "flip", 1);
  assert.equal((await object.read([[20_000, 20_001]]))[0].length, 1);
  const asked = server.seen.filter(({ path }) => path === "x").map(({ cache }) => cache);
  assert.deepEqual(asked, ["default", "reload"]);
});

test("an object that is gone is missing, one without outboard is read whole", async () => {
  const server = serve(new Map());
  const store = new Store(server.root, { ...FAST, fetch: server.fetch });
  await assert.rejects(new VerifiedObject(store, "x", "0".repeat(64), 10).whole(), Missing);
  const data = noise(300 * KB);
  const found = one(data);
  const object = new VerifiedObject(found.store, "x", await sha256(data), data.length);
  assert.deepEqual(await object.read([[9, 11]]), [data.slice(9, 11)]);
  await assert.rejects(object.outboard(), BadInput);
});

test("a range outside the object is bad input, an empty one asks for nothing", async () => {
  const { object, store } = await large(300 * KB);
  for (const range of [
    [0, 300 * KB + 1],
    [-1, 5],
    [9, 8],
    [0, NaN],
  ]) {
    await assert.rejects(object.read([/** @type {any} */ (range)]), BadInput);
  }
  assert.deepEqual(await object.read([[5, 5]]), [new Uint8Array(0)]);
  assert.equal(store.requests, 0);
});

test("ranges closer than 256 KiB become one, in any order", () => {
  const MB = KB * KB;
  assert.deepEqual(
    coalesce(
      [
        [100 * KB, 101 * KB],
        [0, 1],
      ],
      MB,
    ),
    [[0, 112 * KB]],
  );
  assert.deepEqual(
    coalesce(
      [
        [272 * KB + 1, 273 * KB],
        [0, 1],
      ],
      MB,
    ),
    [[0, 288 * KB]],
  );
  assert.deepEqual(
    coalesce(
      [
        [288 * KB, 289 * KB],
        [0, 1],
      ],
      MB,
    ),
    [
      [0, 16 * KB],
      [288 * KB, 304 * KB],
    ],
  );
  assert.deepEqual(
    coalesce(
      [
        [0, 40 * KB],
        [1, 2],
        [5, 5],
      ],
      39 * KB,
    ),
    [[0, 39 * KB]],
  );
});

// ---------------------------------------------------------------- the real fetch

test("a real server: a redirect is not followed, ranges and hangs behave the same", async () => {
  const data = noise(50_000);
  const server = createServer((request, answer) => {
    if (request.url === "/a/moved") return answer.writeHead(302, { Location: "/a/x" }).end();
    if (request.url === "/a/hang") return undefined;
    const span = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "");
    const body = span ? data.subarray(Number(span[1]), Number(span[2]) + 1) : data;
    const head = span ? { "Content-Range": `bytes ${span[1]}-${span[2]}/${data.length}` } : {};
    return answer.writeHead(span ? 206 : 200, head).end(body);
  });
  await new Promise((done) => server.listen(0, "127.0.0.1", () => done(null)));
  const { port } = /** @type {import("node:net").AddressInfo} */ (server.address());
  try {
    const root = `http://127.0.0.1:${port}/a`;
    const store = new Store(root, { deadline: 20 });
    const hasty = new Store(root, { deadline: 0.6 });
    assert.deepEqual(await store.getRanges("x", [[100, 40_000]]), [data.slice(100, 40_000)]);
    assert.deepEqual(await store.get("x", { length: 50_000 }), data);
    await assert.rejects(hasty.get("moved"), StoreUnreachable);
    await assert.rejects(hasty.get("hang"), /a time-out/);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
