/* The steps of the decoder (manifests/FORMAT.md, "Weights"), float32 in WebAssembly SIMD.

   packing.js holds the memory and network.js calls these in order, and so does refine.js in a memory
   of its own; nothing here allocates or keeps anything.

   Memory. Channels come last and are padded with zeros to eights, so a vector of four never
   straddles two pixels.

     matrix   rows of `in` or `out` numbers; rows are worked on in fours, so up to three more
              can be read and written after the last
     weights  of `mix`: for every eight outputs in turn, for every input, eight numbers; the
              inner loop reads them in one direction
     map      (2 down) x (2 across) pixels within a frame of one zero pixel, row by row: a
              convolution needs no test for the edge
     kernel   of `conv`: 16 weights of `mix`, one after another; see below
     image    bands, then rows, then columns

   A 3 x 3 convolution goes by F(2 x 2, 3 x 3) of Winograd: Lavin and Gray, "Fast algorithms for
   convolutional neural networks", CVPR 2016, section 4.1. Every 2 x 2 pixels of output come from
   4 x 4 of input; both are taken to 16 numbers between which the convolution is a plain product,
   so 16 multiplications do what took 36, and `mix` is where all the time goes. */

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name), visibility("default"))) name
#define SLOPE 0.1f
/* 2 x 2 tiles that one pass of a convolution takes: 16 of them x 32 channels stay in cache. */
#define TILES 16

typedef v128_t four;

static inline four load(const float *at) { return wasm_v128_load(at); }
static inline four spread(const float *at) { return wasm_v128_load32_splat(at); }
static inline void store(float *at, four x) { wasm_v128_store(at, x); }
static inline four add(four a, four b) { return wasm_f32x4_add(a, b); }
static inline four sub(four a, four b) { return wasm_f32x4_sub(a, b); }
static inline four mul(four a, four b) { return wasm_f32x4_mul(a, b); }
static inline four leak(four x) { return wasm_f32x4_pmax(x, mul(x, wasm_f32x4_splat(SLOPE))); }

/* Four rows of x times eight columns of weights: the inner loop of everything. */
static inline void mix_4x8(const float *x, int in, const float *weights, four left, four right,
                           float *y, int out) {
  const float *x1 = x + in, *x2 = x1 + in, *x3 = x2 + in;
  four a0 = left, a1 = left, a2 = left, a3 = left;
  four b0 = right, b1 = right, b2 = right, b3 = right;
  for (int i = 0; i < in; i++, weights += 8) {
    four a = load(weights), b = load(weights + 4);
    four p0 = spread(x + i), p1 = spread(x1 + i), p2 = spread(x2 + i), p3 = spread(x3 + i);
    a0 = add(a0, mul(p0, a)), b0 = add(b0, mul(p0, b));
    a1 = add(a1, mul(p1, a)), b1 = add(b1, mul(p1, b));
    a2 = add(a2, mul(p2, a)), b2 = add(b2, mul(p2, b));
    a3 = add(a3, mul(p3, a)), b3 = add(b3, mul(p3, b));
  }
  store(y, a0), store(y + 4, b0), y += out;
  store(y, a1), store(y + 4, b1), y += out;
  store(y, a2), store(y + 4, b2), y += out;
  store(y, a3), store(y + 4, b3);
}

/* y = x weights + bias: x (rows, in), y (rows, out); no bias is zero. */
void EXPORT(mix)(const float *x, int rows, int in, const float *weights, const float *bias, int out,
                 float *y) {
  const four zero = wasm_f32x4_splat(0);
  for (int o = 0; o < out; o += 8, weights += 8 * in) {
    four left = bias ? load(bias + o) : zero, right = bias ? load(bias + o + 4) : zero;
    for (int row = 0; row < rows; row += 4)
      mix_4x8(x + row * in, in, weights, left, right, y + row * out + o, out);
  }
}

/* Depth to space by 2: x (down across, 4 k), its columns row, column, channel; to a map. */
void EXPORT(unfold)(const float *x, int down, int across, int k, float *map) {
  int line = (2 * across + 2) * k;
  for (int y = 0; y < down; y++)
    for (int p = 0; p < across; p++)
      for (int r = 0; r < 2; r++) {
        float *to = map + (2 * y + r + 1) * line + (2 * p + 1) * k;
        for (int i = 0; i < 2 * k; i += 4, x += 4) store(to + i, load(x));
      }
}

/* One side of B' d B, the way of the input: four values, `step` apart. */
static inline void enter(four *d, int step) {
  four d0 = d[0], d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
  d[0] = sub(d0, d2), d[step] = add(d1, d2), d[2 * step] = sub(d2, d1), d[3 * step] = sub(d1, d3);
}

/* 4 x 4 pixels of a map to 16 rows, each in a matrix of its own, `apart` numbers apart. */
static void tile_in(const float *map, int line, int k, float *rows, int apart) {
  for (int c = 0; c < k; c += 4) {
    four d[16];
#pragma unroll
    for (int i = 0; i < 16; i++) d[i] = load(map + (i / 4) * line + (i % 4) * k + c);
#pragma unroll
    for (int i = 0; i < 4; i++) enter(d + i, 4);
#pragma unroll
    for (int i = 0; i < 4; i++) enter(d + 4 * i, 1);
#pragma unroll
    for (int i = 0; i < 16; i++) store(rows + i * apart + c, d[i]);
  }
}

/* What becomes of a pixel of output: FiLM between two leaky ReLUs, or added to what is there. */
static inline four finish(four x, const float *film, int k, const float *there) {
  if (!film) return add(x, load(there));
  return leak(add(mul(leak(x), load(film)), load(film + k)));
}

/* A' m A, the way of the output: 16 rows back to 2 x 2 pixels of a map. */
static void tile_out(const float *rows, int apart, const float *film, int line, int k, float *map) {
  for (int c = 0; c < k; c += 4) {
    four m[16], upper[4], lower[4];
#pragma unroll
    for (int i = 0; i < 16; i++) m[i] = load(rows + i * apart + c);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      upper[i] = add(add(m[i], m[4 + i]), m[8 + i]);
      lower[i] = sub(sub(m[4 + i], m[8 + i]), m[12 + i]);
    }
    const float *f = film ? film + c : 0;
    float *a = map + c, *b = a + k, *e = a + line, *g = e + k;
    store(a, finish(add(add(upper[0], upper[1]), upper[2]), f, k, a));
    store(b, finish(sub(sub(upper[1], upper[2]), upper[3]), f, k, b));
    store(e, finish(add(add(lower[0], lower[1]), lower[2]), f, k, e));
    store(g, finish(sub(sub(lower[1], lower[2]), lower[3]), f, k, g));
  }
}

/* A 3 x 3 convolution of a map, from `in` channels to `out`. With film, `out` factors and `out`
   shifts, `to` becomes leaky(leaky(found) factor + shift); without, it is added to. scratch:
   16 TILES (in + out) numbers. */
void EXPORT(conv)(const float *from, int down, int across, int in, int out, const float *kernel,
                  const float *bias, const float *film, float *scratch, float *to) {
  int pixels = 2 * across + 2, tiles = down * across, apart = TILES * in, mixed_apart = TILES * out;
  float *entered = scratch, *mixed = scratch + 16 * apart;
  for (int start = 0; start < tiles; start += TILES) {
    int some = tiles - start < TILES ? tiles - start : TILES;
    for (int t = 0; t < some; t++) {
      int y = (start + t) / across, x = (start + t) % across;
      tile_in(from + 2 * (y * pixels + x) * in, pixels * in, in, entered + t * in, apart);
    }
    /* Of the 16, number 5 goes into all four pixels with factor 1: the place for the bias. */
    for (int i = 0; i < 16; i++)
      mix(entered + i * apart, some, in, kernel + i * in * out, i == 5 ? bias : 0, out,
          mixed + i * mixed_apart);
    for (int t = 0; t < some; t++) {
      int y = (start + t) / across, x = (start + t) % across;
      float *at = to + (2 * (y * pixels + x) + pixels + 1) * out;
      tile_out(mixed + t * out, mixed_apart, film, pixels * out, out, at);
    }
  }
}

/* Leaky ReLU of the first rows and columns of a map of k channels, to the same place of another. */
void EXPORT(bend)(const float *map, int across, int k, int rows, int columns, float *to) {
  int line = (2 * across + 2) * k;
  for (int y = 1; y <= rows; y++)
    for (int i = k; i < (columns + 1) * k; i += 4)
      store(to + y * line + i, leak(load(map + y * line + i)));
}

/* Leaky ReLU of a map, without its frame: to (4 down across, k). */
void EXPORT(leaky)(const float *map, int down, int across, int k, float *to) {
  int line = (2 * across + 2) * k;
  for (int y = 1; y <= 2 * down; y++)
    for (int i = k; i < line - k; i += 4, to += 4) store(to, leak(load(map + y * line + i)));
}

/* Depth to space of both parts and their sum: image = (coarse + fine) gain + bias.
   coarse (down across, wide), its columns band, row, column of a patch of side 2 half; fine
   (4 down across, narrow), the same of side half; gain, bias: one a band. */
void EXPORT(assemble)(const float *coarse, int wide, const float *fine, int narrow, int down,
                      int across, int bands, int half, const float *gain, const float *bias,
                      float *image) {
  int side = 2 * half;
  for (int band = 0; band < bands; band++)
    for (int y = 0; y < down * side; y++)
      for (int x = 0; x < 2 * across; x++) {
        const float *a = coarse + (y / side * across + x / 2) * wide;
        a += (band * side + y % side) * side + x % 2 * half;
        const float *b = fine + (y / half * 2 * across + x) * narrow;
        b += (band * half + y % half) * half;
        for (int i = 0; i < half; i += 4, image += 4) {
          four sum = add(load(a + i), load(b + i));
          store(image, add(mul(sum, spread(gain + band)), spread(bias + band)));
        }
      }
}
