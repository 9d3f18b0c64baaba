# Normal equations of five parameters, for eight curves at once: A = L·D·Lᵀ, solution, diagonal of the inverse.

from fvproc._core.lanes cimport lanes, less, mask, none, splat

cdef enum:
    PARAMETERS = 5
    ENTRIES = 15        # of a lower triangle, row by row: (i, j) is at i (i + 1)/2 + j

# A factorised: D as its inverses, L with ones on its diagonal.
cdef struct Factors:
    lanes[15] low
    lanes[5] inverse


cdef inline mask factorise(const lanes* matrix, lanes damping, Factors* factors) noexcept nogil:
    """Factorise A + damping·diag A; return the lanes where that is not positive definite."""
    cdef lanes[5] scaled    # row i of L·D
    cdef lanes rest, pivot
    cdef mask bad = none()
    cdef int i, j, k
    for i in range(PARAMETERS):
        pivot = matrix[i * (i + 1) // 2 + i]
        rest = pivot * (1.0 + damping)
        for j in range(i):
            scaled[j] = matrix[i * (i + 1) // 2 + j]
            for k in range(j):
                scaled[j] = scaled[j] - scaled[k] * factors.low[j * (j + 1) // 2 + k]
            factors.low[i * (i + 1) // 2 + j] = scaled[j] * factors.inverse[j]
            rest = rest - scaled[j] * factors.low[i * (i + 1) // 2 + j]
        bad = bad | ~less(1e-13 * pivot, rest)
        factors.inverse[i] = splat(1.0) / rest
    return bad


cdef inline lanes solve(const Factors* factors, const lanes* gradient, lanes* step) noexcept nogil:
    """step = A⁻¹·gradient; return gradient·step, by which the cost falls where the model is linear."""
    cdef lanes promised = splat(0.0)
    cdef int i, k
    for i in range(PARAMETERS):
        step[i] = gradient[i]
        for k in range(i):
            step[i] = step[i] - factors.low[i * (i + 1) // 2 + k] * step[k]
        promised = promised + step[i] * step[i] * factors.inverse[i]
    for i in range(PARAMETERS - 1, -1, -1):
        step[i] = step[i] * factors.inverse[i]
        for k in range(i + 1, PARAMETERS):
            step[i] = step[i] - factors.low[k * (k + 1) // 2 + i] * step[k]
    return promised


cdef inline void inverse_diagonal(const Factors* factors, lanes* diagonal) noexcept nogil:
    """diagonal = diag A⁻¹: Σ over rows i of (L⁻¹)²_ij / D_i."""
    cdef lanes[5] column    # of L⁻¹
    cdef int i, j, k
    for j in range(PARAMETERS):
        diagonal[j] = factors.inverse[j]
        for i in range(j + 1, PARAMETERS):
            column[i] = -factors.low[i * (i + 1) // 2 + j]
            for k in range(j + 1, i):
                column[i] = column[i] - factors.low[i * (i + 1) // 2 + k] * column[k]
            diagonal[j] = diagonal[j] + column[i] * column[i] * factors.inverse[i]
