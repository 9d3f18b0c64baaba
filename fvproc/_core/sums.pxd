# Passes over the samples of one curve: sums, extremes and searches, sixteen samples at a time.
#
# Every sum has sixteen partial sums, combined in a fixed order: such loops vectorise without fast-math, and the result
# does not depend on the width of the vector registers. Samples are single precision, 6e-8 of the range, far
# below the noise of any instrument; what is fitted is computed in double precision.

cdef enum:
    WIDE = 16


cdef inline double combined(const float* a) noexcept nogil:
    """The sixteen partial sums added in pairs."""
    cdef double[8] b
    cdef int j
    for j in range(8):
        b[j] = <double>a[j] + <double>a[j + 8]
    return ((b[0] + b[4]) + (b[1] + b[5])) + ((b[2] + b[6]) + (b[3] + b[7]))


cdef inline void subtract_line(
    const float* f, const float* zeta, Py_ssize_t n, double unit, double offset, double tilt, float* d
) noexcept nogil:
    """d = f·unit − (offset + tilt·ζ)."""
    cdef float u = <float>unit, o = <float>offset, t = <float>tilt
    cdef Py_ssize_t i
    for i in range(n):
        d[i] = f[i] * u - (o + t * zeta[i])


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
    cdef float[16] s0 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef float[16] s1 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef float[16] s2 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef float[16] s3 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef float[16] s4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef float[16] s5 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = (n - 1) // WIDE * WIDE if n > 0 else 0
    cdef int j
    for i in range(0, whole, 16):
        for j in range(WIDE):
            s0[j] += zeta[i + j]
            s1[j] += zeta[i + j] * zeta[i + j]
            s2[j] += d[i + j]
            s3[j] += zeta[i + j] * d[i + j]
            s4[j] += d[i + j] * d[i + j]
            s5[j] += d[i + j] * d[i + j + 1]
    for i in range(whole, n):
        j = <int>(i - whole)
        s0[j] += zeta[i]
        s1[j] += zeta[i] * zeta[i]
        s2[j] += d[i]
        s3[j] += zeta[i] * d[i]
        s4[j] += d[i] * d[i]
        if i + 1 < n:
            s5[j] += d[i] * d[i + 1]
    sums[0] = combined(s0)
    sums[1] = combined(s1)
    sums[2] = combined(s2)
    sums[3] = combined(s3)
    sums[4] = combined(s4)
    sums[5] = combined(s5)


cdef inline double weighted(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·d."""
    cdef float[16] s = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = n - n % WIDE
    cdef int j
    for i in range(0, whole, 16):
        for j in range(WIDE):
            s[j] += w[i + j] * d[i + j]
    for i in range(whole, n):
        s[i - whole] += w[i] * d[i]
    return combined(s)


cdef inline void extremes(const float* d, Py_ssize_t n, float* lowest, float* highest) noexcept nogil:
    """Least and greatest; NaN is passed over."""
    cdef float[16] low
    cdef float[16] high
    cdef Py_ssize_t i, whole = n - n % WIDE
    cdef int j
    for j in range(WIDE):
        low[j] = d[0]
        high[j] = d[0]
    for i in range(0, whole, 16):
        for j in range(WIDE):
            low[j] = d[i + j] if d[i + j] < low[j] else low[j]
            high[j] = d[i + j] if d[i + j] > high[j] else high[j]
    for i in range(whole, n):
        low[0] = d[i] if d[i] < low[0] else low[0]
        high[0] = d[i] if d[i] > high[0] else high[0]
    for j in range(1, WIDE):
        low[0] = low[j] if low[j] < low[0] else low[0]
        high[0] = high[j] if high[j] > high[0] else high[0]
    lowest[0] = low[0]
    highest[0] = high[0]


cdef inline Py_ssize_t first_at_most(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] <= level; n if there is none."""
    cdef Py_ssize_t i = start
    cdef int j, found
    while i + WIDE <= n:
        found = 0
        for j in range(WIDE):
            found |= d[i + j] <= level
        if found:
            break
        i += WIDE
    while i < n and not d[i] <= level:
        i += 1
    return i


cdef inline Py_ssize_t first_at_least(const float* d, float level, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First i >= start with d[i] >= level; n if there is none."""
    cdef Py_ssize_t i = start
    cdef int j, found
    while i + WIDE <= n:
        found = 0
        for j in range(WIDE):
            found |= d[i + j] >= level
        if found:
            break
        i += WIDE
    while i < n and not d[i] >= level:
        i += 1
    return i


cdef inline double weighted_below(const float* w, const float* d, Py_ssize_t n) noexcept nogil:
    """Σ w·min(d, 0)."""
    cdef float[16] s = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = n - n % WIDE
    cdef int j
    for i in range(0, whole, 16):
        for j in range(WIDE):
            s[j] += w[i + j] * (d[i + j] if d[i + j] < 0.0 else <float>0.0)
    for i in range(whole, n):
        s[i - whole] += w[i] * (d[i] if d[i] < 0.0 else <float>0.0)
    return combined(s)
