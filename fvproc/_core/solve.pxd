# Normal equations of five parameters, for eight curves at once: solution, and the diagonal of the inverse.
#
# Of three the contact depends (B, z0, a), two are the baseline's (offset, tilt). The model is linear in these, so that
# their block stays the same from step to step: it is inverted once, and what is factorised for each step, as L·D·Lᵀ,
# are the three equations that are left without them (its Schur complement).

from fvproc._core.lanes cimport lanes, less, mask, none, splat

cdef enum:
    PARAMETERS = 5
    ENTRIES = 15        # of a lower triangle, row by row: (i, j) is at i (i + 1)/2 + j
    CONTACT = 3         # of the parameters, the contact's first
    OFFSET = 6          # where the rows of the baseline begin
    TILT = 10

cdef struct Factors:
    lanes[3] baseline   # inverse of its block: (0, 0), (0, 1), (1, 1)
    lanes[6] shares     # of the contact's parameters in the baseline: rows of (contact, baseline)·inverse
    lanes[6] low        # L with ones on its diagonal, row by row
    lanes[3] inverse    # of D


cdef inline mask factorise_baseline(const lanes* matrix, Factors* factors) noexcept nogil:
    """Invert the block of the baseline; return the lanes where that is not positive definite."""
    cdef lanes offset = matrix[OFFSET + 3], both = matrix[TILT + 3], tilt = matrix[TILT + 4]
    cdef lanes determinant = offset * tilt - both * both, inverse = splat(1.0) / determinant
    factors.baseline[0] = tilt * inverse
    factors.baseline[1] = -both * inverse
    factors.baseline[2] = offset * inverse
    return ~less(1e-13 * offset * tilt, determinant)


cdef inline mask factorise(const lanes* matrix, lanes damping, Factors* factors) noexcept nogil:
    """Factorise what is left of A + damping·diag(B, z0, a) of A; return the lanes where it is not positive definite.

    Of parameters in which the model is linear no step is too long.
    """
    cdef lanes[3] scaled    # row i of L·D
    cdef lanes rest, pivot, offset, tilt
    cdef mask bad = none()
    cdef int i, j, k
    for i in range(CONTACT):
        offset = matrix[OFFSET + i] * factors.baseline[0] + matrix[TILT + i] * factors.baseline[1]
        tilt = matrix[OFFSET + i] * factors.baseline[1] + matrix[TILT + i] * factors.baseline[2]
        factors.shares[2 * i] = offset
        factors.shares[2 * i + 1] = tilt
        for j in range(i):
            scaled[j] = matrix[i * (i + 1) // 2 + j] - (offset * matrix[OFFSET + j] + tilt * matrix[TILT + j])
            for k in range(j):
                scaled[j] = scaled[j] - scaled[k] * factors.low[j * (j + 1) // 2 + k]
        pivot = matrix[i * (i + 1) // 2 + i]
        rest = pivot * (1.0 + damping) - (offset * matrix[OFFSET + i] + tilt * matrix[TILT + i])
        for j in range(i):
            factors.low[i * (i + 1) // 2 + j] = scaled[j] * factors.inverse[j]
            rest = rest - scaled[j] * factors.low[i * (i + 1) // 2 + j]
        bad = bad | ~less(1e-13 * pivot, rest)
        factors.inverse[i] = splat(1.0) / rest
    return bad


cdef inline lanes solve(const Factors* factors, const lanes* gradient, lanes* step) noexcept nogil:
    """step = A⁻¹·gradient; return gradient·step, by which the cost falls where the model is linear."""
    cdef lanes offset = gradient[3] * factors.baseline[0] + gradient[4] * factors.baseline[1]
    cdef lanes tilt = gradient[3] * factors.baseline[1] + gradient[4] * factors.baseline[2]
    cdef lanes promised = gradient[3] * offset + gradient[4] * tilt
    cdef int i, k
    for i in range(CONTACT):
        step[i] = gradient[i] - (gradient[3] * factors.shares[2 * i] + gradient[4] * factors.shares[2 * i + 1])
        for k in range(i):
            step[i] = step[i] - factors.low[i * (i + 1) // 2 + k] * step[k]
        promised = promised + step[i] * step[i] * factors.inverse[i]
    for i in range(CONTACT - 1, -1, -1):
        step[i] = step[i] * factors.inverse[i]
        for k in range(i + 1, CONTACT):
            step[i] = step[i] - factors.low[k * (k + 1) // 2 + i] * step[k]
        offset = offset - factors.shares[2 * i] * step[i]
        tilt = tilt - factors.shares[2 * i + 1] * step[i]
    step[3] = offset
    step[4] = tilt
    return promised


cdef inline void inverse_diagonal(const Factors* factors, lanes* diagonal) noexcept nogil:
    """diagonal = that of A⁻¹ for the contact's parameters: Σ over rows i of (L⁻¹)²_ij / D_i."""
    cdef lanes[3] column    # of L⁻¹
    cdef int i, j, k
    for j in range(CONTACT):
        diagonal[j] = factors.inverse[j]
        for i in range(j + 1, CONTACT):
            column[i] = -factors.low[i * (i + 1) // 2 + j]
            for k in range(j + 1, i):
                column[i] = column[i] - factors.low[i * (i + 1) // 2 + k] * column[k]
            diagonal[j] = diagonal[j] + column[i] * column[i] * factors.inverse[i]
