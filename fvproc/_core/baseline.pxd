# The non-contact part of a branch: its line, its noise, and how far it reaches towards the surface.

from libc.math cimport sqrt

from fvproc._core.axis cimport sums_from
from fvproc._core.lanes cimport LANES, any_of, lanes, less, load, splat, sum_of_eight
from fvproc._core.sums cimport noise_sums, subtract_line
from fvproc._core.types cimport Axis, Branch, Samples, Settings


cdef extern from *:
    """
    /* part of the contact's height that the far part's line may be off by there, four standard errors */
    #define FVPROC_SHAKY 0.3
    """
    const double SHAKY "FVPROC_SHAKY"


cdef inline void line_of_blocks(
    const Axis* axis, const double* means, Py_ssize_t start, int order, double* offset, double* tilt
) noexcept nogil:
    """Least-squares line through the means of blocks [start, blocks), zeros behind; order 0 keeps the tilt at zero.

    On a line, means are as good as the samples they are made of, up to one part in blocks² of the variance.
    """
    cdef double count = axis.blocks - start, z1 = axis.rest_zeta[start], z2 = axis.rest_zeta2[start], y, zy, determinant
    cdef lanes[8] sy            # eight partial sums
    cdef lanes[8] szy
    cdef double per_count = 1.0 / count, per_determinant = 0.0
    cdef Py_ssize_t i = start
    cdef int k
    # divided before the sums are there, for which all else has to wait
    determinant = count * z2 - z1 * z1
    if order > 0 and determinant > 1e-12 * count * z2:
        per_determinant = 1.0 / determinant
    for k in range(8 // LANES):
        sy[k] = splat(0.0)
        szy[k] = splat(0.0)
    while i < axis.blocks:
        for k in range(8 // LANES):
            sy[k] = sy[k] + load(means + i + k * LANES)
            szy[k] = szy[k] + load(axis.block_zeta + i + k * LANES) * load(means + i + k * LANES)
        i += 8
    y = sum_of_eight(sy)
    zy = sum_of_eight(szy)
    tilt[0] = (count * zy - z1 * y) * per_determinant if per_determinant > 0.0 else 0.0
    offset[0] = (y - tilt[0] * z1) * per_count


cdef inline Py_ssize_t first_block_on_growing_line(
    const Axis* axis, const double* means, int order, double variance
) noexcept nogil:
    """As first_quiet_block under white noise, each block held against the line through all those behind it.

    Lines and their variances are multiplied by their determinant, so that nothing is divided.
    """
    cdef double limit = 16.0 * variance / axis.width, count, z1, z2, x, determinant, of_line, off
    cdef double y = 0.0, zy = 0.0
    cdef Py_ssize_t i
    for i in range(axis.far, axis.blocks):
        y += means[i]
        zy += means[i] * axis.block_zeta[i]
    i = axis.far
    while i > 0:
        count = axis.blocks - i
        determinant = count
        of_line = 1.0
        off = means[i - 1] * count - y
        if order > 0:
            z1 = axis.rest_zeta[i]
            z2 = axis.rest_zeta2[i]
            x = axis.block_zeta[i - 1]
            determinant = count * z2 - z1 * z1
            of_line = z2 - 2.0 * x * z1 + count * x * x
            off = means[i - 1] * determinant - (y * z2 - zy * z1) - x * (count * zy - z1 * y)
        if off * off > limit * determinant * (determinant + of_line):
            break
        y += means[i - 1]
        zy += means[i - 1] * axis.block_zeta[i - 1]
        i -= 1
    return i


cdef inline Py_ssize_t first_quiet_block(
    const Axis* axis, const double* means, double offset, double tilt, int order, double variance, bint stepwise
) noexcept nogil:
    """First block of the non-contact part: from the far part toward the surface while blocks lie on its line.

    A block lies on it whose mean departs by no more than four of its standard errors, those of the line included; under
    slow noise, which lets it depart far, by no more than four from its neighbour, too. The line of a short far part,
    carried on to the contact, may be off by as much as the contact is high: where four of its standard errors there are
    more than `SHAKY` of that height, the line grows with the blocks.
    """
    cdef double limit = 16.0 * variance, e
    cdef lanes off
    cdef Py_ssize_t i = axis.far
    e = means[0] - offset - tilt * axis.block_zeta[0]
    if not stepwise and limit * axis.tolerance[0] > SHAKY * SHAKY * e * e:
        return first_block_on_growing_line(axis, means, order, variance)
    while i >= LANES:
        off = load(means + i - LANES) - offset - tilt * load(axis.block_zeta + i - LANES)
        if any_of(less(limit * load(axis.tolerance + i - LANES), off * off)):
            break
        if stepwise:
            off = load(means + i - LANES) - load(means + i - LANES + 1) - tilt * (
                load(axis.block_zeta + i - LANES) - load(axis.block_zeta + i - LANES + 1)
            )
            if any_of(less(limit * load(axis.step_tolerance + i - LANES), off * off)):
                break
        i -= LANES
    while i > 0:
        e = means[i - 1] - offset - tilt * axis.block_zeta[i - 1]
        if e * e > limit * axis.tolerance[i - 1]:
            break
        if stepwise:
            e = means[i - 1] - means[i] - tilt * (axis.block_zeta[i - 1] - axis.block_zeta[i])
            if e * e > limit * axis.step_tolerance[i - 1]:
                break
        i -= 1
    return i


cdef inline void measure_noise(Branch* branch, Py_ssize_t start, int order, double quantum) noexcept nogil:
    """Standard deviation of d about its own line over [start, n), the sums, and what neighbours tell of correlation.

    Takes the noise to be a first-order autoregression: the variance of a mean is (1 + ρ)/(1 − ρ) times that of
    white noise, ρ the correlation of neighbours. `quantum` is the width of a step of the converter: its variance
    quantum²/12 is the least there can be.
    """
    cdef double[4] sums
    cdef double* free = branch.free_sums
    cdef double determinant, per_determinant = 0.0, tilt, offset, squares, variance, rho
    cdef Py_ssize_t count = branch.axis.n - start
    cdef double per_count = 1.0 / count, per_degree = 1.0 / (count - 1 - order)
    free[0] = <double>count
    sums_from(&branch.axis, start, &free[1], &free[2])
    # what the samples say nothing of is divided before their sums are there, for which all else has to wait
    determinant = free[0] * free[2] - free[1] * free[1]
    if order > 0 and determinant > 1e-6 * free[0] * free[2]:
        per_determinant = 1.0 / determinant
    noise_sums(branch.axis.zeta + start, branch.d + start, count, sums)
    free[3] = sums[0]
    free[4] = sums[1]
    free[5] = sums[2]
    branch.free = start
    tilt = (free[0] * free[4] - free[1] * free[3]) * per_determinant if per_determinant > 0.0 else 0.0
    offset = (free[3] - tilt * free[1]) * per_count
    squares = free[5] - offset * free[3] - tilt * free[4]
    variance = squares * per_degree
    # what the line takes from the products is what it takes from the squares, up to the two ends
    rho = (sums[3] - offset * free[3] - tilt * free[4]) / squares if squares > 0.0 else 0.0
    if not variance > quantum * quantum / 12.0:
        variance = quantum * quantum / 12.0
    branch.noise = sqrt(variance)
    # the squares of differences: all but the two ends stand in two of them
    branch.allan = (squares * (1.0 - per_count) - (sums[3] - offset * free[3] - tilt * free[4])) / (count - 1)
    if not branch.allan > quantum * quantum / 12.0:
        branch.allan = quantum * quantum / 12.0
    branch.correlated = rho * rho * count > 9.0 and rho > 0.0
    branch.inflation = 1.0
    if branch.correlated:
        if rho > 0.98:
            rho = 0.98
        branch.inflation = (1.0 + rho) / (1.0 - rho)


cdef inline double noise_level(const Branch* branch, const Settings* settings) noexcept nogil:
    """Variance in whose units the axis has its tolerance."""
    return branch.allan if settings.noise_known else branch.noise * branch.noise * branch.inflation


cdef inline void take_line(
    Branch* branch, const Samples* samples, double unit, double offset, double tilt
) noexcept nogil:
    """Set d to the samples less a line, peak to its greatest value and lowest to its least."""
    cdef float lowest, highest
    branch.offset = offset
    branch.tilt = tilt
    subtract_line(samples, 0, branch.axis.n, branch.axis.zeta, unit, offset, tilt, branch.d, &lowest, &highest)
    branch.lowest = lowest
    branch.peak = highest
