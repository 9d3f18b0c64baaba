/* Eight curves at once: `lanes` holds the same number of eight curves, one in each lane.
 *
 * Arithmetic on lanes is that of each curve alone: no lane ever sees another, so a record does not depend on which
 * curves happen to be fitted beside it, and every width of vector register gives the same bits (setup.py switches
 * contraction to fused multiply-add off). gcc and clang compile this to SSE2, NEON, AVX2 or AVX-512 as the flags say;
 * a compiler without vector types takes one curve at a time, with the same results.
 */
#ifndef FVPROC_LANES_H
#define FVPROC_LANES_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(__clang__)

#define FVPROC_LANES 8
typedef double fvproc_lanes __attribute__((vector_size(64)));
typedef int64_t fvproc_mask __attribute__((vector_size(64)));
#define FVPROC_INLINE static inline __attribute__((always_inline, unused))

FVPROC_INLINE fvproc_lanes fvproc_splat(double x) { return (fvproc_lanes){x, x, x, x, x, x, x, x}; }
FVPROC_INLINE fvproc_mask fvproc_none(void) { return (fvproc_mask){0, 0, 0, 0, 0, 0, 0, 0}; }
FVPROC_INLINE double fvproc_get(fvproc_lanes x, int lane) { return x[lane]; }
FVPROC_INLINE fvproc_lanes fvproc_sqrt(fvproc_lanes x) {
    fvproc_lanes y;
    for (int i = 0; i < FVPROC_LANES; i++) y[i] = sqrt(x[i]);
    return y;
}
FVPROC_INLINE int fvproc_any(fvproc_mask m) {
    return (m[0] | m[1] | m[2] | m[3] | m[4] | m[5] | m[6] | m[7]) != 0;
}

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
FVPROC_INLINE double fvproc_get(fvproc_lanes x, int lane) { (void)lane; return x; }
FVPROC_INLINE fvproc_lanes fvproc_sqrt(fvproc_lanes x) { return sqrt(x); }
FVPROC_INLINE int fvproc_any(fvproc_mask m) { return m != 0; }

#endif

/* a scalar comparison gives 1, a vector one −1 in each lane: negated where it is scalar, so that a mask is all bits */
#if FVPROC_LANES == 1
#define FVPROC_TRUE(c) (-(int64_t)(c))
#else
#define FVPROC_TRUE(c) ((fvproc_mask)(c))
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
    return fvproc_of_bits((m & fvproc_bits(x)) | (~m & fvproc_bits(y)));
}
FVPROC_INLINE fvproc_lanes fvproc_larger(fvproc_lanes x, fvproc_lanes y) {
    return fvproc_choose(fvproc_less(x, y), y, x);
}
FVPROC_INLINE fvproc_lanes fvproc_smaller(fvproc_lanes x, fvproc_lanes y) {
    return fvproc_choose(fvproc_less(y, x), y, x);
}
FVPROC_INLINE fvproc_lanes fvproc_load(const double *p) {
    fvproc_lanes x;
    memcpy(&x, p, sizeof x);
    return x;
}
FVPROC_INLINE void fvproc_store(double *p, fvproc_lanes x) { memcpy(p, &x, sizeof x); }

/* A guess at x^(1/3), within 4 %, from a third of the exponent by the bits; for x > 1e-280. */
FVPROC_INLINE fvproc_lanes fvproc_cube_root_guess(fvproc_lanes x) {
    fvproc_mask bits = fvproc_bits(x), high = bits >> 32;
    high += high << 2;   /* times 5, 85, 21845: a third of 2^16, by shifts, for a 64-bit product is slow */
    high += high << 4;
    high += high << 8;
    return fvproc_of_bits(((high >> 16) + (int64_t)715100000) << 32);
}

#endif
