/* Hamming distances of many codes to one, in WebAssembly SIMD.

   Memory, all of it given by the caller (quantize.js):

     codes    n x width bytes, one code after another; 16 more bytes can be read
     query    width bytes, then zeros up to a multiple of 16
     out      n numbers, uint16

   A code is read 16 bytes at a time; of its last 16 the bytes of the next code are masked. */

#include <stdint.h>
#include <wasm_simd128.h>

#define EXPORT(name) __attribute__((export_name(#name), visibility("default"))) name
/* A lane counts at most 8 a vector, so 31 vectors fit its byte. */
#define FULL 31

static inline v128_t load(const uint8_t *at) { return wasm_v128_load(at); }

/* Differing bits of 16 bytes, a byte lane each. */
static inline v128_t differing(const uint8_t *code, v128_t query) {
  return wasm_i8x16_popcnt(wasm_v128_xor(load(code), query));
}

/* Sums of neighbours: 16 byte lanes of a and b become 8 of each. */
static inline v128_t pairs(v128_t a, v128_t b) {
  v128_t low = wasm_u16x8_extadd_pairwise_u8x16(a), high = wasm_u16x8_extadd_pairwise_u8x16(b);
  return wasm_u8x16_narrow_i16x8(low, high);
}

/* The sum of 16 byte lanes. */
static inline uint32_t sum(v128_t bytes) {
  v128_t fours = wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16(bytes));
  v128_t twos = wasm_i32x4_add(fours, wasm_i32x4_shuffle(fours, fours, 2, 3, 0, 1));
  return wasm_i32x4_extract_lane(twos, 0) + wasm_i32x4_extract_lane(twos, 1);
}

/* Codes of 16 bytes, 16 at a time: four rounds of `pairs` leave one byte a code. */
static void sixteens(const uint8_t *codes, uint32_t n, v128_t query, uint16_t *out) {
  uint32_t i = 0;
  for (; i + 16 <= n; i += 16, codes += 256) {
    v128_t a[16];
#pragma unroll
    for (int k = 0; k < 16; k++) a[k] = differing(codes + 16 * k, query);
#pragma unroll
    for (int left = 8; left; left /= 2)
#pragma unroll
      for (int k = 0; k < left; k++) a[k] = pairs(a[2 * k], a[2 * k + 1]);
    wasm_v128_store(out + i, wasm_u16x8_extend_low_u8x16(a[0]));
    wasm_v128_store(out + i + 8, wasm_u16x8_extend_high_u8x16(a[0]));
  }
  for (; i < n; i++, codes += 16) out[i] = sum(differing(codes, query));
}

/* Codes of 128 bytes, the query in eight registers. */
static void bits1024(const uint8_t *codes, uint32_t n, const uint8_t *query, uint16_t *out) {
  v128_t q[8];
#pragma unroll
  for (int k = 0; k < 8; k++) q[k] = load(query + 16 * k);
  for (uint32_t i = 0; i < n; i++, codes += 128) {
    v128_t bytes = differing(codes, q[0]);
#pragma unroll
    for (int k = 1; k < 8; k++) bytes = wasm_i8x16_add(bytes, differing(codes + 16 * k, q[k]));
    out[i] = sum(bytes);
  }
}

/* `vectors` times 16 bytes of one code. */
static uint32_t run(const uint8_t *code, const uint8_t *query, uint32_t vectors) {
  uint32_t total = 0;
  while (vectors) {
    uint32_t some = vectors < FULL ? vectors : FULL;
    v128_t bytes = wasm_i8x16_splat(0);
    for (uint32_t k = 0; k < some; k++, code += 16, query += 16)
      bytes = wasm_i8x16_add(bytes, differing(code, load(query)));
    total += sum(bytes);
    vectors -= some;
  }
  return total;
}

/* Codes of any width: whole vectors, then the rest under a mask. */
static void any(const uint8_t *codes, uint32_t n, uint32_t width, const uint8_t *query,
                uint16_t *out) {
  const v128_t lanes = wasm_i8x16_make(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  uint32_t vectors = width / 16, rest = width % 16;
  v128_t mask = wasm_i8x16_lt(lanes, wasm_i8x16_splat(rest)), last = load(query + 16 * vectors);
  for (uint32_t i = 0; i < n; i++, codes += width) {
    uint32_t found = run(codes, query, vectors);
    if (rest) found += sum(wasm_v128_and(mask, differing(codes + 16 * vectors, last)));
    out[i] = found;
  }
}

void EXPORT(distances)(const uint8_t *codes, uint32_t n, uint32_t width, const uint8_t *query,
                       uint16_t *out) {
  if (width == 16) sixteens(codes, n, load(query), out);
  else if (width == 128) bits1024(codes, n, query, out);
  else any(codes, n, width, query, out);
}
