# Passes over the samples of one curve: sums, extremes and searches, sixteen samples at a time.
#
# Every sum has sixteen partial sums, sample i in number i mod 16, combined in a fixed order: the result does not
# depend on the width of the vector registers. Samples are single precision, 6e-8 of the range, far below the noise of
# any instrument; what is fitted is computed in double precision.

from fvproc._core.lanes cimport (
    WIDE, first_at_least_of, first_at_most_of, gathered, greatest_of, least_of, of_shorts, wide, wide_larger, wide_load,
    wide_smaller, wide_splat, wide_store,
)
from fvproc._core.narrow cimport add_ints, add_shorts
from fvproc._core.types cimport Samples

cdef enum:
    PARTS = 16              # partial sums
    EACH = PARTS // WIDE    # registers that hold them: 16 where a register is one sample
    PADDING = 2 * PARTS     # zeros behind a branch's samples
    WIDEST_BLOCK = 65536


cdef inline void subtract_line(
    const Samples* samples, Py_ssize_t start, Py_ssize_t n, const float* zeta, double unit, double offset, double tilt,
    float* d, float* lowest, float* highest
) noexcept nogil:
    """d = sample·unit − (offset + tilt·ζ) over [start, n), and its least and greatest, NaN passed over. start < n.

    Beyond n stand PADDING zeros, so that sums of all d up to there need not stop at n.
    """
    cdef float u = <float>unit, o = <float>offset, t = <float>tilt
    cdef wide wide_u = wide_splat(u), wide_o = wide_splat(o), wide_t = wide_splat(t), x, low, high
    cdef Py_ssize_t i = start
    cdef const short* s = samples.x
    cdef const float* f = samples.f
    low = wide_splat((<float>s[i] if s != NULL else f[i]) * u - (o + t * zeta[i]))
    high = low
    while i + WIDE <= n:
        x = of_shorts(s + i) if s != NULL else wide_load(f + i)
        x = x * wide_u - (wide_o + wide_t * wide_load(zeta + i))
        low = wide_smaller(x, low)
        high = wide_larger(x, high)
        wide_store(d + i, x)
        i += WIDE
    lowest[0] = least_of(low)
    highest[0] = greatest_of(high)
    while i < n:
        d[i] = (<float>s[i] if s != NULL else f[i]) * u - (o + t * zeta[i])
        lowest[0] = d[i] if d[i] < lowest[0] else lowest[0]
        highest[0] = d[i] if d[i] > highest[0] else highest[0]
        i += 1
    for i in range(n, n + PADDING):
        d[i] = 0.0


cdef inline void block_means(
    const float* f, Py_ssize_t blocks, Py_ssize_t width, double unit, float* work, double* means
) noexcept nogil:
    """Means of `blocks` runs of `width` samples, a power of two, times `unit`; work holds blocks·width floats.

    Neighbours are added in pairs, then the pairs, and so on: each round is a loop that vectorises.
    """
    cdef Py_ssize_t i, n = blocks * width
    cdef double factor = unit / <double>width
    cdef const float* x = f
    while n > blocks:
        n //= 2
        for i in range(n):
            work[i] = x[2 * i] + x[2 * i + 1]
        x = work
        work += n
    for i in range(blocks):
        means[i] = x[i] * factor


cdef inline void block_means_of_shorts(
    const short* x, Py_ssize_t blocks, Py_ssize_t width, double unit, int* work, double* means
) noexcept nogil:
    """The same of int16: sums of up to WIDEST_BLOCK of them are exact."""
    cdef Py_ssize_t i, n = blocks * width
    cdef double factor = unit / <double>width
    cdef int* sums = work
    if width == 1:
        for i in range(blocks):
            means[i] = x[i] * factor
        return
    n //= 2
    add_shorts(x, n, sums)
    while n > blocks:
        n //= 2
        work = sums + 2 * n
        add_ints(sums, n, work)
        sums = work
    for i in range(blocks):
        means[i] = sums[i] * factor


cdef inline void noise_sums(const float* zeta, const float* d, Py_ssize_t n, double* sums) noexcept nogil:
    """sums[0..3] = Σd, Σζd, Σd², Σd·d', d' the next sample; d is zero beyond n (see subtract_line)."""
    cdef wide[16] ones
    cdef wide[16] moments
    cdef wide[16] squares
    cdef wide[16] products
    cdef wide x
    cdef Py_ssize_t i = 0
    cdef int k
    for k in range(EACH):
        ones[k] = wide_splat(0.0)
        moments[k] = ones[k]
        squares[k] = ones[k]
        products[k] = ones[k]
    while i < n:
        for k in range(EACH):
            x = wide_load(d + i + k * WIDE)
            ones[k] = ones[k] + x
            moments[k] = moments[k] + wide_load(zeta + i + k * WIDE) * x
            squares[k] = squares[k] + x * x
            products[k] = products[k] + x * wide_load(d + i + k * WIDE + 1)
        i += PARTS
    sums[0] = gathered(ones)
    sums[1] = gathered(moments)
    sums[2] = gathered(squares)
    sums[3] = gathered(products)


cdef inline double weighted(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·d; d is zero beyond n."""
    cdef wide[16] s
    cdef Py_ssize_t i = 0
    cdef int k
    for k in range(EACH):
        s[k] = wide_splat(0.0)
    while i < n:
        for k in range(EACH):
            s[k] = s[k] + wide_load(w + i + k * WIDE) * wide_load(d + i + k * WIDE)
        i += PARTS
    return gathered(s)


cdef inline double weighted_below(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·min(d, 0)."""
    cdef wide[16] s
    cdef wide zero = wide_splat(0.0)
    cdef Py_ssize_t i = 0, whole = n // PARTS * PARTS
    cdef double total
    cdef int k
    for k in range(EACH):
        s[k] = zero
    while i < whole:
        for k in range(EACH):
            s[k] = s[k] + wide_load(w + i + k * WIDE) * wide_smaller(wide_load(d + i + k * WIDE), zero)
        i += PARTS
    total = gathered(s)
    for i in range(whole, n):
        total += w[i] * (d[i] if d[i] < 0.0 else <float>0.0)
    return total


cdef inline void extremes(const float* d, Py_ssize_t n, float* lowest, float* highest) noexcept nogil:
    """Least and greatest; NaN is passed over."""
    cdef wide low = wide_splat(d[0]), high = low, x
    cdef Py_ssize_t i = 0, whole = n // WIDE * WIDE
    while i < whole:
        x = wide_load(d + i)
        low = wide_smaller(x, low)
        high = wide_larger(x, high)
        i += WIDE
    lowest[0] = least_of(low)
    highest[0] = greatest_of(high)
    for i in range(whole, n):
        lowest[0] = d[i] if d[i] < lowest[0] else lowest[0]
        highest[0] = d[i] if d[i] > highest[0] else highest[0]


cdef inline Py_ssize_t first_at_most(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] <= level; n if there is none. Samples of a branch: it looks at some beyond n."""
    cdef wide levels = wide_splat(level)
    cdef Py_ssize_t i = start
    cdef wide none = wide_splat(3.4e38)
    cdef int k = WIDE
    while i + 4 * WIDE <= n and first_at_most_of(
        wide_smaller(
            wide_load(d + i), wide_smaller(
                wide_load(d + i + WIDE), wide_smaller(
                    wide_load(d + i + 2 * WIDE), wide_smaller(wide_load(d + i + 3 * WIDE), none)
                )
            )
        ), levels
    ) == WIDE:      # a NaN is passed over
        i += 4 * WIDE
    while i < n and k == WIDE:
        k = first_at_most_of(wide_load(d + i), levels)
        i += k
    return i if i < n else n


cdef inline Py_ssize_t first_at_least(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] >= level; n if there is none; as above."""
    cdef wide levels = wide_splat(level)
    cdef Py_ssize_t i = start
    cdef wide none = wide_splat(-3.4e38)
    cdef int k = WIDE
    while i + 4 * WIDE <= n and first_at_least_of(
        wide_larger(
            wide_load(d + i), wide_larger(
                wide_load(d + i + WIDE), wide_larger(
                    wide_load(d + i + 2 * WIDE), wide_larger(wide_load(d + i + 3 * WIDE), none)
                )
            )
        ), levels
    ) == WIDE:      # a NaN is passed over
        i += 4 * WIDE
    while i < n and k == WIDE:
        k = first_at_least_of(wide_load(d + i), levels)
        i += k
    return i if i < n else n
