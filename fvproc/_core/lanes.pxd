# Sums with a fixed number of lanes: they vectorise without fast-math and give the same bits on every machine.
#
# The eight partial sums are combined in a fixed order, so the result does not depend on the width of the vector
# registers; contraction to fused multiply-add is switched off for the whole build (setup.py).

cdef inline double _combine(const double* a) noexcept nogil:
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))


cdef inline double total(const double* x, Py_ssize_t n) noexcept nogil:
    """Σ x."""
    cdef double[8] a = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = n - n % 8
    cdef int j
    for i in range(0, whole, 8):
        for j in range(8):
            a[j] += x[i + j]
    for i in range(whole, n):
        a[i - whole] += x[i]
    return _combine(a)


cdef inline double dot(const double* x, const double* y, Py_ssize_t n) noexcept nogil:
    """Σ x·y."""
    cdef double[8] a = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = n - n % 8
    cdef int j
    for i in range(0, whole, 8):
        for j in range(8):
            a[j] += x[i + j] * y[i + j]
    for i in range(whole, n):
        a[i - whole] += x[i] * y[i]
    return _combine(a)


cdef inline double trapezia(const double* z, const double* d, Py_ssize_t n) noexcept nogil:
    """Σ (z[i] − z[i+1])·(d[i] + d[i+1]) over the n − 1 intervals: twice ∫ d dz of a branch in surface order."""
    cdef double[8] a = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, last = n - 1, whole
    cdef int j
    if n < 2:
        return 0.0
    whole = last - last % 8
    for i in range(0, whole, 8):
        for j in range(8):
            a[j] += (z[i + j] - z[i + j + 1]) * (d[i + j] + d[i + j + 1])
    for i in range(whole, last):
        a[i - whole] += (z[i] - z[i + 1]) * (d[i] + d[i + 1])
    return _combine(a)


cdef inline double largest(const double* x, Py_ssize_t n) noexcept nogil:
    """max x; NaN is passed over."""
    cdef double[8] a
    cdef Py_ssize_t i, whole = n - n % 8
    cdef int j
    for j in range(8):
        a[j] = x[0]
    for i in range(0, whole, 8):
        for j in range(8):
            a[j] = x[i + j] if x[i + j] > a[j] else a[j]
    for i in range(whole, n):
        a[0] = x[i] if x[i] > a[0] else a[0]
    for j in range(1, 8):
        a[0] = a[j] if a[j] > a[0] else a[0]
    return a[0]


cdef inline double smallest(const double* x, Py_ssize_t n) noexcept nogil:
    """min x; NaN is passed over."""
    cdef double[8] a
    cdef Py_ssize_t i, whole = n - n % 8
    cdef int j
    for j in range(8):
        a[j] = x[0]
    for i in range(0, whole, 8):
        for j in range(8):
            a[j] = x[i + j] if x[i + j] < a[j] else a[j]
    for i in range(whole, n):
        a[0] = x[i] if x[i] < a[0] else a[0]
    for j in range(1, 8):
        a[0] = a[j] if a[j] < a[0] else a[0]
    return a[0]


cdef inline Py_ssize_t first_of(const double* x, double value, Py_ssize_t start, Py_ssize_t n) noexcept nogil:
    """First index from start at which x equals value; start if none does."""
    cdef Py_ssize_t i
    for i in range(start, n):
        if x[i] == value:
            return i
    return start


cdef inline void line_sums(
    const double* z, const double* d, Py_ssize_t n, double centre, double* sums
) noexcept nogil:
    """sums[0..5] = Σ1, Σζ, Σζ², Σd, Σζd, Σd² with ζ = z − centre."""
    cdef double[8] s1 = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] s2 = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] s3 = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] s4 = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] s5 = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = n - n % 8
    cdef double zeta
    cdef int j
    # two passes: forty partial sums at once would not fit the sixteen registers of the smallest instruction set
    for i in range(0, whole, 8):
        for j in range(8):
            zeta = z[i + j] - centre
            s1[j] += zeta
            s2[j] += zeta * zeta
    for i in range(0, whole, 8):
        for j in range(8):
            s3[j] += d[i + j]
            s4[j] += (z[i + j] - centre) * d[i + j]
            s5[j] += d[i + j] * d[i + j]
    for i in range(whole, n):
        j = <int>(i - whole)
        zeta = z[i] - centre
        s1[j] += zeta
        s2[j] += zeta * zeta
        s3[j] += d[i]
        s4[j] += zeta * d[i]
        s5[j] += d[i] * d[i]
    sums[0] = <double>n
    sums[1] = _combine(s1)
    sums[2] = _combine(s2)
    sums[3] = _combine(s3)
    sums[4] = _combine(s4)
    sums[5] = _combine(s5)
