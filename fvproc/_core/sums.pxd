# Passes over the samples of one curve: sums, extremes and searches, sixteen samples at a time.
#
# Every sum has sixteen partial sums, sample i in number i mod 16, combined in a fixed order: the result does not
# depend on the width of the vector registers. Samples are single precision, 6e-8 of the range, far below the noise of
# any instrument; what is fitted is computed in double precision.

from fvproc._core.lanes cimport (
    WIDE, any_at_least, any_at_most, wide, wide_larger, wide_load, wide_smaller, wide_splat, wide_store,
)

cdef enum:
    PARTS = 16      # partial sums; a multiple of WIDE


cdef inline double combined(const float* a) noexcept nogil:
    """The sixteen partial sums added in pairs."""
    cdef double[8] b
    cdef int j
    for j in range(8):
        b[j] = <double>a[j] + <double>a[j + 8]
    return ((b[0] + b[4]) + (b[1] + b[5])) + ((b[2] + b[6]) + (b[3] + b[7]))


cdef inline void subtract_line(
    const float* f, const float* zeta, Py_ssize_t n, double unit, double offset, double tilt, float* d,
    float* lowest, float* highest
) noexcept nogil:
    """d = f·unit − (offset + tilt·ζ), and its least and greatest, NaN passed over. n > 0."""
    cdef float u = <float>unit, o = <float>offset, t = <float>tilt
    cdef wide wide_u = wide_splat(u), wide_o = wide_splat(o), wide_t = wide_splat(t), x, low, high
    cdef Py_ssize_t i = 0
    cdef float[16] lows
    cdef float[16] highs
    cdef int k
    low = wide_splat(f[0] * u - (o + t * zeta[0]))
    high = low
    while i + WIDE <= n:
        x = wide_load(f + i) * wide_u - (wide_o + wide_t * wide_load(zeta + i))
        low = wide_smaller(x, low)
        high = wide_larger(x, high)
        wide_store(d + i, x)
        i += WIDE
    wide_store(lows, low)
    wide_store(highs, high)
    while i < n:
        d[i] = f[i] * u - (o + t * zeta[i])
        lows[0] = d[i] if d[i] < lows[0] else lows[0]
        highs[0] = d[i] if d[i] > highs[0] else highs[0]
        i += 1
    lowest[0] = lows[0]
    highest[0] = highs[0]
    for k in range(1, WIDE):
        lowest[0] = lows[k] if lows[k] < lowest[0] else lowest[0]
        highest[0] = highs[k] if highs[k] > highest[0] else highest[0]


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


cdef inline void noise_sums(const float* zeta, const float* d, Py_ssize_t n, double* sums) noexcept nogil:
    """sums[0..5] = Σζ, Σζ², Σd, Σζd, Σd², Σd·d', d' the next sample."""
    cdef float[96] s
    cdef wide z, x
    cdef Py_ssize_t i = 0, whole = (n - 1) // PARTS * PARTS if n > 0 else 0
    cdef int j, k
    for j in range(96):
        s[j] = 0.0
    while i < whole:
        k = 0
        while k < PARTS:
            z = wide_load(zeta + i + k)
            x = wide_load(d + i + k)
            wide_store(s + k, wide_load(s + k) + z)
            wide_store(s + 16 + k, wide_load(s + 16 + k) + z * z)
            wide_store(s + 32 + k, wide_load(s + 32 + k) + x)
            wide_store(s + 48 + k, wide_load(s + 48 + k) + z * x)
            wide_store(s + 64 + k, wide_load(s + 64 + k) + x * x)
            wide_store(s + 80 + k, wide_load(s + 80 + k) + x * wide_load(d + i + k + 1))
            k += WIDE
        i += PARTS
    for i in range(whole, n):
        j = <int>(i - whole)
        s[j] += zeta[i]
        s[16 + j] += zeta[i] * zeta[i]
        s[32 + j] += d[i]
        s[48 + j] += zeta[i] * d[i]
        s[64 + j] += d[i] * d[i]
        if i + 1 < n:
            s[80 + j] += d[i] * d[i + 1]
    for j in range(6):
        sums[j] = combined(s + 16 * j)


cdef inline double weighted(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·d."""
    cdef float[16] s
    cdef Py_ssize_t i = 0, whole = n // PARTS * PARTS
    cdef int k
    for k in range(PARTS):
        s[k] = 0.0
    while i < whole:
        k = 0
        while k < PARTS:
            wide_store(s + k, wide_load(s + k) + wide_load(w + i + k) * wide_load(d + i + k))
            k += WIDE
        i += PARTS
    for i in range(whole, n):
        s[i - whole] += w[i] * d[i]
    return combined(s)


cdef inline double weighted_below(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·min(d, 0)."""
    cdef float[16] s
    cdef wide zero = wide_splat(0.0)
    cdef Py_ssize_t i = 0, whole = n // PARTS * PARTS
    cdef int k
    for k in range(PARTS):
        s[k] = 0.0
    while i < whole:
        k = 0
        while k < PARTS:
            wide_store(s + k, wide_load(s + k) + wide_load(w + i + k) * wide_smaller(wide_load(d + i + k), zero))
            k += WIDE
        i += PARTS
    for i in range(whole, n):
        s[i - whole] += w[i] * (d[i] if d[i] < 0.0 else <float>0.0)
    return combined(s)


cdef inline void extremes(const float* d, Py_ssize_t n, float* lowest, float* highest) noexcept nogil:
    """Least and greatest; NaN is passed over."""
    cdef float[16] low
    cdef float[16] high
    cdef wide x
    cdef Py_ssize_t i = 0, whole = n // PARTS * PARTS
    cdef int k
    for k in range(PARTS):
        low[k] = d[0]
        high[k] = d[0]
    while i < whole:
        k = 0
        while k < PARTS:
            x = wide_load(d + i + k)
            wide_store(low + k, wide_smaller(x, wide_load(low + k)))
            wide_store(high + k, wide_larger(x, wide_load(high + k)))
            k += WIDE
        i += PARTS
    for i in range(whole, n):
        low[0] = d[i] if d[i] < low[0] else low[0]
        high[0] = d[i] if d[i] > high[0] else high[0]
    for k in range(1, PARTS):
        low[0] = low[k] if low[k] < low[0] else low[0]
        high[0] = high[k] if high[k] > high[0] else high[0]
    lowest[0] = low[0]
    highest[0] = high[0]


cdef inline Py_ssize_t first_at_most(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] <= level; n if there is none."""
    cdef wide levels = wide_splat(level)
    cdef Py_ssize_t i = start
    while i + WIDE <= n and not any_at_most(wide_load(d + i), levels):
        i += WIDE
    while i < n and not d[i] <= level:
        i += 1
    return i


cdef inline Py_ssize_t first_at_least(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] >= level; n if there is none."""
    cdef wide levels = wide_splat(level)
    cdef Py_ssize_t i = start
    while i + WIDE <= n and not any_at_least(wide_load(d + i), levels):
        i += WIDE
    while i < n and not d[i] >= level:
        i += 1
    return i
