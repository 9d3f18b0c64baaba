/* Registers of int16: neighbouring samples of one curve, twice as many as floats, and sums of them in int32.
 *
 * What is computed in integers is exact, and so the same whatever the width of the registers and the order.
 */
#ifndef FVPROC_NARROW_H
#define FVPROC_NARROW_H

#include <stddef.h>

#include "lanes.h"

#if FVPROC_LANES > 1

/* twice as many int16 as there are floats */
#define FVPROC_NARROW (2 * FVPROC_WIDE)
typedef int16_t fvproc_narrow __attribute__((vector_size(FVPROC_REGISTER)));
FVPROC_INLINE fvproc_narrow fvproc_narrow_load(const int16_t *p) {
    fvproc_narrow x;
    memcpy(&x, p, sizeof x);
    return x;
}
FVPROC_INLINE void fvproc_narrow_store(int16_t *p, fvproc_narrow x) { memcpy(p, &x, sizeof x); }
FVPROC_INLINE fvproc_narrow fvproc_narrow_reversed(fvproc_narrow x) {
    fvproc_narrow y;
    for (int i = 0; i < FVPROC_NARROW; i++) y[i] = x[FVPROC_NARROW - 1 - i];
    return y;
}
#if defined(__AVX512BW__)
#define FVPROC_OF_NARROW(name, x, y) ((fvproc_narrow)_mm512_##name##_epi16((__m512i)(x), (__m512i)(y)))
#define FVPROC_OF_NARROW_UNSIGNED(name, x, y) ((fvproc_narrow)_mm512_##name##_epu16((__m512i)(x), (__m512i)(y)))
#define FVPROC_PAIRS(x) ((fvproc_wide_mask)_mm512_madd_epi16((__m512i)(x), _mm512_set1_epi16(1)))
#elif defined(__AVX2__)
#define FVPROC_OF_NARROW(name, x, y) ((fvproc_narrow)_mm256_##name##_epi16((__m256i)(x), (__m256i)(y)))
#define FVPROC_OF_NARROW_UNSIGNED(name, x, y) ((fvproc_narrow)_mm256_##name##_epu16((__m256i)(x), (__m256i)(y)))
#define FVPROC_PAIRS(x) ((fvproc_wide_mask)_mm256_madd_epi16((__m256i)(x), _mm256_set1_epi16(1)))
#elif defined(__SSE2__)
#define FVPROC_OF_NARROW(name, x, y) ((fvproc_narrow)_mm_##name##_epi16((__m128i)(x), (__m128i)(y)))
#define FVPROC_OF_NARROW_UNSIGNED(name, x, y) ((fvproc_narrow)_mm_##name##_epu16((__m128i)(x), (__m128i)(y)))
#define FVPROC_PAIRS(x) ((fvproc_wide_mask)_mm_madd_epi16((__m128i)(x), _mm_set1_epi16(1)))
#endif
#if defined(FVPROC_OF_NARROW)
/* these wrap round: 65536 is 0 */
FVPROC_INLINE fvproc_narrow fvproc_narrow_plus(fvproc_narrow x, fvproc_narrow y) {
    return FVPROC_OF_NARROW(add, x, y);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_minus(fvproc_narrow x, fvproc_narrow y) {
    return FVPROC_OF_NARROW(sub, x, y);
}
/* both from 0 to 65535: what of x is above y */
FVPROC_INLINE fvproc_narrow fvproc_narrow_above(fvproc_narrow x, fvproc_narrow y) {
    return FVPROC_OF_NARROW_UNSIGNED(subs, x, y);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_smaller(fvproc_narrow x, fvproc_narrow y) {
    return FVPROC_OF_NARROW(min, x, y);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_larger(fvproc_narrow x, fvproc_narrow y) {
    return FVPROC_OF_NARROW(max, x, y);
}
/* sums of neighbours */
FVPROC_INLINE fvproc_wide_mask fvproc_pairs(fvproc_narrow x) { return FVPROC_PAIRS(x); }
#else
FVPROC_INLINE fvproc_narrow fvproc_narrow_plus(fvproc_narrow x, fvproc_narrow y) {
    for (int i = 0; i < FVPROC_NARROW; i++) x[i] = (int16_t)((uint16_t)x[i] + (uint16_t)y[i]);
    return x;
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_minus(fvproc_narrow x, fvproc_narrow y) {
    for (int i = 0; i < FVPROC_NARROW; i++) x[i] = (int16_t)((uint16_t)x[i] - (uint16_t)y[i]);
    return x;
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_above(fvproc_narrow x, fvproc_narrow y) {
    for (int i = 0; i < FVPROC_NARROW; i++) {
        x[i] = (int16_t)((uint16_t)x[i] > (uint16_t)y[i] ? (uint16_t)x[i] - (uint16_t)y[i] : 0);
    }
    return x;
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_smaller(fvproc_narrow x, fvproc_narrow y) {
    for (int i = 0; i < FVPROC_NARROW; i++) x[i] = x[i] < y[i] ? x[i] : y[i];
    return x;
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_larger(fvproc_narrow x, fvproc_narrow y) {
    for (int i = 0; i < FVPROC_NARROW; i++) x[i] = x[i] > y[i] ? x[i] : y[i];
    return x;
}
FVPROC_INLINE fvproc_wide_mask fvproc_pairs(fvproc_narrow x) {
    fvproc_wide_mask y;
    for (int i = 0; i < FVPROC_WIDE; i++) y[i] = x[2 * i] + x[2 * i + 1];
    return y;
}
#endif
FVPROC_INLINE fvproc_narrow fvproc_narrow_splat(int16_t x) { return x - (fvproc_narrow){0}; }
/* which element is the first for which it holds; as many as there are where it holds for none */
#if defined(__AVX512BW__)
FVPROC_INLINE int fvproc_first_narrow(fvproc_narrow x, fvproc_narrow y) {
    uint32_t m = _mm512_cmpge_epi16_mask((__m512i)x, (__m512i)y);
    return m ? __builtin_ctz(m) : FVPROC_NARROW;
}
#elif defined(__SSE2__)
FVPROC_INLINE int fvproc_first_narrow(fvproc_narrow x, fvproc_narrow y) {
#if defined(__AVX2__)
    uint32_t m = (uint32_t)_mm256_movemask_epi8((__m256i)(x >= y));
#else
    uint32_t m = (uint32_t)_mm_movemask_epi8((__m128i)(x >= y));
#endif
    return m ? __builtin_ctz(m) / 2 : FVPROC_NARROW;
}
#else
FVPROC_INLINE int fvproc_first_narrow(fvproc_narrow x, fvproc_narrow y) {
    int i = 0;
    while (i < FVPROC_NARROW && x[i] < y[i]) i++;
    return i;
}
#endif
FVPROC_INLINE fvproc_wide_mask fvproc_no_pairs(void) { return (fvproc_wide_mask){0}; }
#if defined(__SSE2__)
/* one quarter of a register, or what there is, from halves joined by an operation */
#if defined(__AVX512F__)
#define FVPROC_JOIN(op512, op, x) \
    op(_mm256_castsi256_si128(op512(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1))), \
       _mm256_extracti128_si256(op512(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1)), 1))
#define FVPROC_REGISTER_OF(x) ((__m512i)(x))
#elif defined(__AVX2__)
#define FVPROC_JOIN(op512, op, x) op(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1))
#define FVPROC_REGISTER_OF(x) ((__m256i)(x))
#else
#define FVPROC_JOIN(op512, op, x) (x)
#define FVPROC_REGISTER_OF(x) ((__m128i)(x))
#endif
/* |x| < 2^31 in all */
FVPROC_INLINE int fvproc_sum_of_pairs(fvproc_wide_mask x) {
    __m128i y = FVPROC_JOIN(_mm256_add_epi32, _mm_add_epi32, FVPROC_REGISTER_OF(x));
    y = _mm_add_epi32(y, _mm_srli_si128(y, 8));
    return _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_srli_si128(y, 4)));
}
FVPROC_INLINE int fvproc_narrow_least(fvproc_narrow x) {
    __m128i y = FVPROC_JOIN(_mm256_min_epi16, _mm_min_epi16, FVPROC_REGISTER_OF(x));
    y = _mm_min_epi16(y, _mm_srli_si128(y, 8));
    y = _mm_min_epi16(y, _mm_shufflelo_epi16(y, 0x0e));
    return (int16_t)_mm_cvtsi128_si32(_mm_min_epi16(y, _mm_shufflelo_epi16(y, 0x01)));
}
FVPROC_INLINE int fvproc_narrow_greatest(fvproc_narrow x) {
    __m128i y = FVPROC_JOIN(_mm256_max_epi16, _mm_max_epi16, FVPROC_REGISTER_OF(x));
    y = _mm_max_epi16(y, _mm_srli_si128(y, 8));
    y = _mm_max_epi16(y, _mm_shufflelo_epi16(y, 0x0e));
    return (int16_t)_mm_cvtsi128_si32(_mm_max_epi16(y, _mm_shufflelo_epi16(y, 0x01)));
}
#else
FVPROC_INLINE int fvproc_sum_of_pairs(fvproc_wide_mask x) {
    int sum = 0;
    for (int i = 0; i < FVPROC_WIDE; i++) sum += x[i];
    return sum;
}
FVPROC_INLINE int fvproc_narrow_least(fvproc_narrow x) {
    int y = x[0];
    for (int i = 1; i < FVPROC_NARROW; i++) y = x[i] < y ? x[i] : y;
    return y;
}
FVPROC_INLINE int fvproc_narrow_greatest(fvproc_narrow x) {
    int y = x[0];
    for (int i = 1; i < FVPROC_NARROW; i++) y = x[i] > y ? x[i] : y;
    return y;
}
#endif

#else

#define FVPROC_NARROW 1
typedef int16_t fvproc_narrow;
FVPROC_INLINE fvproc_narrow fvproc_narrow_load(const int16_t *p) { return *p; }
FVPROC_INLINE void fvproc_narrow_store(int16_t *p, fvproc_narrow x) { *p = x; }
FVPROC_INLINE fvproc_narrow fvproc_narrow_reversed(fvproc_narrow x) { return x; }
FVPROC_INLINE fvproc_narrow fvproc_narrow_plus(fvproc_narrow x, fvproc_narrow y) {
    return (int16_t)((uint16_t)x + (uint16_t)y);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_minus(fvproc_narrow x, fvproc_narrow y) {
    return (int16_t)((uint16_t)x - (uint16_t)y);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_above(fvproc_narrow x, fvproc_narrow y) {
    return (int16_t)((uint16_t)x > (uint16_t)y ? (uint16_t)x - (uint16_t)y : 0);
}
FVPROC_INLINE fvproc_narrow fvproc_narrow_smaller(fvproc_narrow x, fvproc_narrow y) { return x < y ? x : y; }
FVPROC_INLINE fvproc_narrow fvproc_narrow_larger(fvproc_narrow x, fvproc_narrow y) { return x > y ? x : y; }
FVPROC_INLINE fvproc_narrow fvproc_narrow_splat(int16_t x) { return x; }
FVPROC_INLINE int fvproc_first_narrow(fvproc_narrow x, fvproc_narrow y) { return x < y; }
FVPROC_INLINE int32_t fvproc_pairs(fvproc_narrow x) { return x; }
FVPROC_INLINE int32_t fvproc_no_pairs(void) { return 0; }
FVPROC_INLINE int fvproc_sum_of_pairs(int32_t x) { return x; }
FVPROC_INLINE int fvproc_narrow_least(fvproc_narrow x) { return x; }
FVPROC_INLINE int fvproc_narrow_greatest(fvproc_narrow x) { return x; }

#endif

/* out[i] = x[2i] + x[2i + 1] for i < n */
FVPROC_INLINE void fvproc_add_shorts(const int16_t *x, ptrdiff_t n, int32_t *out) {
    ptrdiff_t i = 0;
#if FVPROC_NARROW > 1
    for (; i + FVPROC_WIDE <= n; i += FVPROC_WIDE) {
        fvproc_wide_mask sums = fvproc_pairs(fvproc_narrow_load(x + 2 * i));
        memcpy(out + i, &sums, sizeof sums);
    }
#endif
    for (; i < n; i++) out[i] = x[2 * i] + x[2 * i + 1];
}
/* __restrict: MSVC knows the word of C99 only if told to */
FVPROC_INLINE void fvproc_add_ints(const int32_t *__restrict x, ptrdiff_t n, int32_t *__restrict out) {
    ptrdiff_t i = 0;
#if defined(FVPROC_AVX2)
    /* gcc 12 takes three times as many instructions for eight sums */
    for (; i + 8 <= n; i += 8) {
        __m256i low = _mm256_loadu_si256((const __m256i *)(x + 2 * i));
        __m256i high = _mm256_loadu_si256((const __m256i *)(x + 2 * i + 8));
        _mm256_storeu_si256((__m256i *)(out + i), _mm256_permute4x64_epi64(_mm256_hadd_epi32(low, high), 0xd8));
    }
#endif
    for (; i < n; i++) out[i] = x[2 * i] + x[2 * i + 1];
}

#endif
