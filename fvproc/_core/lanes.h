/* Vectors of two kinds: `lanes`, the same number of several curves; `wide`, neighbouring samples of one curve.
 *
 * Both are as wide as a register: 64 bytes (8 curves, 16 samples) with AVX-512, 32 with AVX2, 16 with SSE2 and NEON;
 * a compiler without vector types takes one curve, and one sample, at a time. The results are the same for all.
 * Arithmetic on lanes is that of each curve alone: no lane ever sees another, so a record does not depend on which
 * curves happen to be fitted beside it. Sums over samples are kept as sixteen partial sums, sample i in number
 * i mod 16, whatever the width. Contraction to fused multiply-add is switched off (setup.py).
 */
#ifndef FVPROC_LANES_H
#define FVPROC_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* FVPROC_SCALAR: as a compiler without vector types, MSVC, has it; tests/test_packaging.py builds that with gcc */
#if (defined(__GNUC__) || defined(__clang__)) && !defined(FVPROC_SCALAR)
#if defined(__AVX2__)
#define FVPROC_AVX2     /* MSVC, too, says __AVX2__, but its lanes are numbers */
#endif

/* the compilers make poor code of a minimum, or of a test of a mask, written element by element */
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define FVPROC_REGISTER 64
#elif defined(__AVX2__)
#define FVPROC_REGISTER 32
#else
#define FVPROC_REGISTER 16
#endif

#define FVPROC_LANES (FVPROC_REGISTER / 8)
typedef double fvproc_lanes __attribute__((vector_size(FVPROC_REGISTER)));
typedef int64_t fvproc_mask __attribute__((vector_size(FVPROC_REGISTER)));
#define FVPROC_INLINE static inline __attribute__((always_inline, unused))

FVPROC_INLINE fvproc_lanes fvproc_splat(double x) {
    fvproc_lanes y;
    for (int i = 0; i < FVPROC_LANES; i++) y[i] = x;
    return y;
}
FVPROC_INLINE fvproc_mask fvproc_none(void) {
    fvproc_mask m;
    for (int i = 0; i < FVPROC_LANES; i++) m[i] = 0;
    return m;
}
FVPROC_INLINE double fvproc_get(fvproc_lanes x, int lane) { return x[lane]; }
FVPROC_INLINE fvproc_lanes fvproc_sqrt(fvproc_lanes x) {
    fvproc_lanes y;
    for (int i = 0; i < FVPROC_LANES; i++) y[i] = sqrt(x[i]);
    return y;
}
typedef float fvproc_few __attribute__((vector_size(FVPROC_REGISTER / 2)));
FVPROC_INLINE fvproc_lanes fvproc_of_floats(const float *p) {
    fvproc_few x;
    memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, fvproc_lanes);
}
/* the smaller, the larger; y where x is NaN */
FVPROC_INLINE fvproc_lanes fvproc_smaller(fvproc_lanes x, fvproc_lanes y) {
#if defined(__AVX512F__)
    return (fvproc_lanes)_mm512_min_pd((__m512d)x, (__m512d)y);
#elif defined(__AVX2__)
    return (fvproc_lanes)_mm256_min_pd((__m256d)x, (__m256d)y);
#elif defined(__SSE2__)
    return (fvproc_lanes)_mm_min_pd((__m128d)x, (__m128d)y);
#else
    for (int i = 0; i < FVPROC_LANES; i++) x[i] = x[i] < y[i] ? x[i] : y[i];
    return x;
#endif
}
FVPROC_INLINE fvproc_lanes fvproc_larger(fvproc_lanes x, fvproc_lanes y) {
#if defined(__AVX512F__)
    return (fvproc_lanes)_mm512_max_pd((__m512d)x, (__m512d)y);
#elif defined(__AVX2__)
    return (fvproc_lanes)_mm256_max_pd((__m256d)x, (__m256d)y);
#elif defined(__SSE2__)
    return (fvproc_lanes)_mm_max_pd((__m128d)x, (__m128d)y);
#else
    for (int i = 0; i < FVPROC_LANES; i++) x[i] = x[i] > y[i] ? x[i] : y[i];
    return x;
#endif
}
FVPROC_INLINE int fvproc_any(fvproc_mask m) {
#if defined(__AVX512F__)
    return _mm512_test_epi64_mask((__m512i)m, (__m512i)m) != 0;
#elif defined(__AVX2__)
    return !_mm256_testz_si256((__m256i)m, (__m256i)m);
#elif defined(__SSE2__)
    return _mm_movemask_epi8((__m128i)m) != 0;
#else
    int64_t x = 0;
    for (int i = 0; i < FVPROC_LANES; i++) x |= m[i];
    return x != 0;
#endif
}

#define FVPROC_WIDE (FVPROC_REGISTER / 4)
typedef float fvproc_wide __attribute__((vector_size(FVPROC_REGISTER)));
typedef int32_t fvproc_wide_mask __attribute__((vector_size(FVPROC_REGISTER)));
typedef int16_t fvproc_shorts __attribute__((vector_size(FVPROC_REGISTER / 2)));

FVPROC_INLINE fvproc_wide fvproc_wide_splat(float x) {
    fvproc_wide y;
    for (int i = 0; i < FVPROC_WIDE; i++) y[i] = x;
    return y;
}
FVPROC_INLINE fvproc_wide fvproc_wide_smaller(fvproc_wide x, fvproc_wide y) {
#if defined(__AVX512F__)
    return (fvproc_wide)_mm512_min_ps((__m512)x, (__m512)y);
#elif defined(__AVX2__)
    return (fvproc_wide)_mm256_min_ps((__m256)x, (__m256)y);
#elif defined(__SSE2__)
    return (fvproc_wide)_mm_min_ps((__m128)x, (__m128)y);
#else
    for (int i = 0; i < FVPROC_WIDE; i++) x[i] = x[i] < y[i] ? x[i] : y[i];
    return x;
#endif
}
FVPROC_INLINE fvproc_wide fvproc_wide_larger(fvproc_wide x, fvproc_wide y) {
#if defined(__AVX512F__)
    return (fvproc_wide)_mm512_max_ps((__m512)x, (__m512)y);
#elif defined(__AVX2__)
    return (fvproc_wide)_mm256_max_ps((__m256)x, (__m256)y);
#elif defined(__SSE2__)
    return (fvproc_wide)_mm_max_ps((__m128)x, (__m128)y);
#else
    for (int i = 0; i < FVPROC_WIDE; i++) x[i] = x[i] > y[i] ? x[i] : y[i];
    return x;
#endif
}
/* gcc 12 makes six instructions of the conversion where two or three do */
FVPROC_INLINE fvproc_wide fvproc_of_shorts(const int16_t *p) {
#if defined(__AVX512F__)
    return (fvproc_wide)_mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(_mm256_loadu_si256((const __m256i *)p)));
#elif defined(__AVX2__)
    return (fvproc_wide)_mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(_mm_loadu_si128((const __m128i *)p)));
#elif defined(__SSE2__)
    __m128i x = _mm_loadl_epi64((const __m128i *)p);
    return (fvproc_wide)_mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(x, x), 16));
#else
    fvproc_shorts s;
    memcpy(&s, p, sizeof s);
    return __builtin_convertvector(s, fvproc_wide);
#endif
}
/* the least and the greatest element; which of two zeros is of no matter */
#if defined(__SSE2__)
FVPROC_INLINE __m128 fvproc_quarter(fvproc_wide x, int largest) {
#if defined(__AVX512F__)
    __m256 upper = _mm512_extractf32x8_ps((__m512)x, 1), lower = _mm512_castps512_ps256((__m512)x);
    __m256 half = largest ? _mm256_max_ps(lower, upper) : _mm256_min_ps(lower, upper);
#elif defined(__AVX2__)
    __m256 half = (__m256)x;
#endif
#if defined(__AVX2__)
    __m128 high = _mm256_extractf128_ps(half, 1), low = _mm256_castps256_ps128(half);
    return largest ? _mm_max_ps(low, high) : _mm_min_ps(low, high);
#else
    (void)largest;
    return (__m128)x;
#endif
}
FVPROC_INLINE float fvproc_least(fvproc_wide x) {
    __m128 y = fvproc_quarter(x, 0);
    y = _mm_min_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_min_ss(y, _mm_shuffle_ps(y, y, 1)));
}
FVPROC_INLINE float fvproc_greatest(fvproc_wide x) {
    __m128 y = fvproc_quarter(x, 1);
    y = _mm_max_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_max_ss(y, _mm_shuffle_ps(y, y, 1)));
}
#else
FVPROC_INLINE float fvproc_least(fvproc_wide x) {
    float y = x[0];
    for (int i = 1; i < FVPROC_WIDE; i++) y = x[i] < y ? x[i] : y;
    return y;
}
FVPROC_INLINE float fvproc_greatest(fvproc_wide x) {
    float y = x[0];
    for (int i = 1; i < FVPROC_WIDE; i++) y = x[i] > y ? x[i] : y;
    return y;
}
#endif
/* which element is the first for which it holds; as many as there are where it holds for none */
#if defined(__SSE2__)
FVPROC_INLINE int fvproc_first_wide(fvproc_wide_mask m) {
#if defined(__AVX512F__)
    uint32_t bits = _mm512_test_epi32_mask((__m512i)m, (__m512i)m);
#elif defined(__AVX2__)
    uint32_t bits = (uint32_t)_mm256_movemask_ps((__m256)m);
#else
    uint32_t bits = (uint32_t)_mm_movemask_ps((__m128)m);
#endif
    return bits ? __builtin_ctz(bits) : FVPROC_WIDE;
}
#else
FVPROC_INLINE int fvproc_first_wide(fvproc_wide_mask m) {
    int i = 0;
    while (i < FVPROC_WIDE && !m[i]) i++;
    return i;
}
#endif
#define FVPROC_PREFETCH(p) __builtin_prefetch(p)

#else

#define FVPROC_LANES 1
typedef double fvproc_lanes;
typedef int64_t fvproc_mask;
#if defined(_MSC_VER)
#define FVPROC_INLINE static __forceinline
#else
#define FVPROC_INLINE static inline
#endif

FVPROC_INLINE fvproc_lanes fvproc_splat(double x) { return x; }
FVPROC_INLINE fvproc_mask fvproc_none(void) { return 0; }
FVPROC_INLINE fvproc_lanes fvproc_of_floats(const float *p) { return *p; }
FVPROC_INLINE double fvproc_get(fvproc_lanes x, int lane) { (void)lane; return x; }
FVPROC_INLINE fvproc_lanes fvproc_sqrt(fvproc_lanes x) { return sqrt(x); }
FVPROC_INLINE int fvproc_any(fvproc_mask m) { return m != 0; }

#define FVPROC_WIDE 1
typedef float fvproc_wide;
typedef int32_t fvproc_wide_mask;
FVPROC_INLINE fvproc_wide fvproc_wide_splat(float x) { return x; }
FVPROC_INLINE fvproc_lanes fvproc_smaller(fvproc_lanes x, fvproc_lanes y) { return x < y ? x : y; }
FVPROC_INLINE fvproc_lanes fvproc_larger(fvproc_lanes x, fvproc_lanes y) { return x > y ? x : y; }
FVPROC_INLINE fvproc_wide fvproc_wide_smaller(fvproc_wide x, fvproc_wide y) { return x < y ? x : y; }
FVPROC_INLINE fvproc_wide fvproc_wide_larger(fvproc_wide x, fvproc_wide y) { return x > y ? x : y; }
FVPROC_INLINE fvproc_wide fvproc_of_shorts(const int16_t *p) { return (float)*p; }
FVPROC_INLINE float fvproc_least(fvproc_wide x) { return x; }
FVPROC_INLINE float fvproc_greatest(fvproc_wide x) { return x; }
FVPROC_INLINE int fvproc_first_wide(fvproc_wide_mask m) { return m == 0; }
#define FVPROC_PREFETCH(p) ((void)(p))

#endif

/* a scalar comparison gives 1, a vector one −1 in each lane: negated where it is scalar, so that a mask is all bits */
#if FVPROC_LANES == 1
#define FVPROC_TRUE(c) (-(int64_t)(c))
#define FVPROC_WIDE_TRUE(c) (-(int32_t)(c))
#else
#define FVPROC_TRUE(c) ((fvproc_mask)(c))
#define FVPROC_WIDE_TRUE(c) ((fvproc_wide_mask)(c))
#endif

FVPROC_INLINE fvproc_mask fvproc_less(fvproc_lanes x, fvproc_lanes y) { return FVPROC_TRUE(x < y); }
FVPROC_INLINE fvproc_mask fvproc_at_most(fvproc_lanes x, fvproc_lanes y) { return FVPROC_TRUE(x <= y); }

FVPROC_INLINE fvproc_mask fvproc_bits(fvproc_lanes x) {
    fvproc_mask m;
    memcpy(&m, &x, sizeof m);
    return m;
}
FVPROC_INLINE fvproc_lanes fvproc_of_bits(fvproc_mask m) {
    fvproc_lanes x;
    memcpy(&x, &m, sizeof x);
    return x;
}
/* x where the mask is set, else y */
FVPROC_INLINE fvproc_lanes fvproc_choose(fvproc_mask m, fvproc_lanes x, fvproc_lanes y) {
#if defined(FVPROC_AVX2) && !defined(__AVX512F__)
    return (fvproc_lanes)_mm256_blendv_pd((__m256d)y, (__m256d)x, (__m256d)m);  /* AVX-512 has one for the three below */
#else
    return fvproc_of_bits((m & fvproc_bits(x)) | (~m & fvproc_bits(y)));
#endif
}
FVPROC_INLINE fvproc_lanes fvproc_load(const double *p) {
    fvproc_lanes x;
    memcpy(&x, p, sizeof x);
    return x;
}
#if defined(FVPROC_AVX2)
/* Four numbers added in pairs. */
FVPROC_INLINE double fvproc_sum_of_four(__m256d x) {
    __m128d low = _mm256_castpd256_pd128(x), high = _mm256_extractf128_pd(x, 1);
    return (_mm_cvtsd_f64(low) + _mm_cvtsd_f64(_mm_unpackhi_pd(low, low)))
        + (_mm_cvtsd_f64(high) + _mm_cvtsd_f64(_mm_unpackhi_pd(high, high)));
}
#endif
/* Eight partial sums in 8 / FVPROC_LANES registers added in pairs: i and i + 4, and so forth. */
FVPROC_INLINE double fvproc_sum_of_eight(const fvproc_lanes *p) {
#if defined(FVPROC_AVX2) && defined(__AVX512F__)
    return fvproc_sum_of_four(
        _mm256_add_pd(_mm512_castpd512_pd256((__m512d)p[0]), _mm512_extractf64x4_pd((__m512d)p[0], 1)));
#elif defined(FVPROC_AVX2)
    return fvproc_sum_of_four(_mm256_add_pd((__m256d)p[0], (__m256d)p[1]));
#else
    double b[8];
    memcpy(b, p, sizeof b);
    return ((b[0] + b[4]) + (b[1] + b[5])) + ((b[2] + b[6]) + (b[3] + b[7]));
#endif
}
FVPROC_INLINE void fvproc_store(double *p, fvproc_lanes x) { memcpy(p, &x, sizeof x); }

FVPROC_INLINE fvproc_wide fvproc_wide_load(const float *p) {
    fvproc_wide x;
    memcpy(&x, p, sizeof x);
    return x;
}
FVPROC_INLINE void fvproc_wide_store(float *p, fvproc_wide x) { memcpy(p, &x, sizeof x); }

/* Sixteen partial sums in 16 / FVPROC_WIDE registers added in pairs, in double precision: i and i + 8, those and the
 * ones four on, and so forth. */
FVPROC_INLINE double fvproc_gathered(const fvproc_wide *p) {
#if defined(FVPROC_AVX2)
#if defined(__AVX512F__)
    __m512d a = _mm512_add_pd(
        _mm512_cvtps_pd(_mm512_castps512_ps256((__m512)p[0])), _mm512_cvtps_pd(_mm512_extractf32x8_ps((__m512)p[0], 1)));
    __m256d b = _mm256_add_pd(_mm512_castpd512_pd256(a), _mm512_extractf64x4_pd(a, 1));
#else
    __m256 low = (__m256)p[0], high = (__m256)p[1];
    __m256d b = _mm256_add_pd(
        _mm256_add_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(low)), _mm256_cvtps_pd(_mm256_castps256_ps128(high))),
        _mm256_add_pd(
            _mm256_cvtps_pd(_mm256_extractf128_ps(low, 1)), _mm256_cvtps_pd(_mm256_extractf128_ps(high, 1))));
#endif
    return fvproc_sum_of_four(b);
#else
    float a[16];
    double b[8];
    memcpy(a, p, sizeof a);
    for (int i = 0; i < 8; i++) b[i] = (double)a[i] + (double)a[i + 8];
    return ((b[0] + b[4]) + (b[1] + b[5])) + ((b[2] + b[6]) + (b[3] + b[7]));
#endif
}
FVPROC_INLINE fvproc_wide fvproc_wide_magnitude(fvproc_wide x) {
    fvproc_wide_mask m;
    memcpy(&m, &x, sizeof m);
    m = m & 0x7fffffff;
    memcpy(&x, &m, sizeof x);
    return x;
}
FVPROC_INLINE int fvproc_first_at_most(fvproc_wide x, fvproc_wide y) {
    return fvproc_first_wide(FVPROC_WIDE_TRUE(x <= y));
}
FVPROC_INLINE int fvproc_first_at_least(fvproc_wide x, fvproc_wide y) {
    return fvproc_first_wide(FVPROC_WIDE_TRUE(x >= y));
}

/* A guess at √x, within 4 %, from half of the exponent by the bits; for x > 1e-280. */
FVPROC_INLINE fvproc_lanes fvproc_square_root_guess(fvproc_lanes x) {
    fvproc_mask bits = fvproc_bits(x);
    return fvproc_of_bits((bits >> 1) + ((int64_t)0x1ff7a3be << 32));
}

/* A guess at x^(1/3), within 4 %, from a third of the exponent by the bits; for x > 1e-280. */
FVPROC_INLINE fvproc_lanes fvproc_cube_root_guess(fvproc_lanes x) {
    fvproc_mask bits = fvproc_bits(x), high = bits >> 32;
    high += high << 2;   /* times 5, 85, 21845: a third of 2^16, by shifts, for a 64-bit product is slow */
    high += high << 4;
    high += high << 8;
    return fvproc_of_bits(((high >> 16) + (int64_t)715100000) << 32);
}

#endif
