# Correlated noise: its components, from the free samples of a branch or those of the map. What follows: covariance.pxd.
#
# The covariance is a sum of exponentials with fixed correlations, v_j·ρ_j^|i − j|, of memories from none to 2000
# samples: a first-order autoregression, 1/f and white noise are such sums closely enough. The variances v_j are those
# that explain the Allan variances of the free samples best, none of them negative. Rejected: (1 + ρ)/(1 − ρ) from
# neighbours alone (wrong for all but a first-order autoregression, and for that in short contacts); steps that multiply
# the variances (after a thousand, slow noise is still found where there is none); the measured
# autocovariance (its sum has a variance of its own that is as large as the sum).

from fvproc._core.types cimport Branch

cdef enum:
    COMPONENTS = 8
    LEVELS = 24             # widths 1, 2, 4 … of blocks
    FEWEST_BLOCKS = 8
    SWEEPS = 30
    SLOPE_GROUPS = 32
    MOST_NEIGHBOURS = 128
    MOST_DEGREES = 30


cdef inline void correlations(double* rho) noexcept nogil:
    """Correlation of neighbours: none, then exp(−1/t) for memories t of 1.1, 2.5, 6, 18, 70, 350 and 2000 samples."""
    rho[0] = 0.0
    rho[1] = 0.402890321529133
    rho[2] = 0.6703200460356393
    rho[3] = 0.8464817248906141
    rho[4] = 0.9459594689067654
    rho[5] = 0.9858158423524046
    rho[6] = 0.997146934891016
    rho[7] = 0.9995001249791693


cdef inline void powers(const double* rho, Py_ssize_t exponent, double* power) noexcept nogil:
    """ρ^exponent of all components; ρ⁰ = 1."""
    cdef double[8] square
    cdef int j
    for j in range(COMPONENTS):
        square[j] = rho[j]
        power[j] = 1.0
    while exponent > 0:
        if exponent & 1:
            for j in range(COMPONENTS):
                power[j] = power[j] * square[j]
        exponent >>= 1
        for j in range(COMPONENTS):
            square[j] = square[j] * square[j]


cdef inline void sum_of_neighbours(
    const double* rho, const double* power, double count, double* across, double* variance
) noexcept nogil:
    """Of a sum of `count` neighbours, power = ρ^count: h = (1 − ρ^count)/(1 − ρ), variance per that of the component.

    The covariance of two such sums, `gap` from the last sample of the one to the first of the other, is ρ^gap·h₁·h₂.
    """
    cdef double less
    cdef int j
    for j in range(COMPONENTS):
        less = 1.0 / (1.0 - rho[j])
        across[j] = (1.0 - power[j]) * less
        variance[j] = (count * (1.0 + rho[j]) - 2.0 * rho[j] * across[j]) * less


# What sum_of_neighbours tells of so many of them.
cdef struct Neighbours:
    double[8] power         # ρ^count
    double[8] across        # h
    double[8] linked        # 2·h·ρ
    double[8] variance


cdef inline void set_neighbours(const double* rho, Py_ssize_t count, Neighbours* group) noexcept nogil:
    cdef int j
    powers(rho, count, group.power)
    sum_of_neighbours(rho, group.power, <double>count, group.across, group.variance)
    for j in range(COMPONENTS):
        group.linked[j] = 2.0 * (group.across[j] * rho[j])


cdef inline const Neighbours* neighbours_of(
    const Neighbours* table, const double* rho, Py_ssize_t count, Neighbours* own
) noexcept nogil:
    """A group of count >= 1 samples: from the table of those up to MOST_NEIGHBOURS, else made in `own`."""
    if count <= MOST_NEIGHBOURS:
        return table + count
    set_neighbours(rho, count, own)
    return own


cdef inline double squares_of_differences(const double* x, Py_ssize_t count, Py_ssize_t half) noexcept nogil:
    """Σ over i < count of the square of the difference of neighbouring blocks of `half` entries, 1 or 2."""
    cdef double[8] s = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef Py_ssize_t i, whole = count // 8 * 8
    cdef double e
    cdef int j
    for i in range(0, whole, 8):
        for j in range(8):
            e = x[i + j + 1] - x[i + j] if half == 1 else (
                (x[i + j + 3] + x[i + j + 2]) - (x[i + j + 1] + x[i + j])
            )
            s[j] += e * e
    for i in range(whole, count):
        e = x[i + 1] - x[i] if half == 1 else (x[i + 3] + x[i + 2]) - (x[i + 1] + x[i])
        s[i - whole] += e * e
    return ((s[0] + s[4]) + (s[1] + s[5])) + ((s[2] + s[6]) + (s[3] + s[7]))


cdef inline int allan_variances(double* x, Py_ssize_t n, Py_ssize_t fewest, double* variances) noexcept nogil:
    """Half the mean square of the difference of neighbouring means of 1, 2, 4 … of n samples x, which is spoilt.

    The blocks of a width start at every half of a block, and are `fewest` (>= 2) and more side by side. Returns how
    many widths.
    """
    cdef Py_ssize_t count = n, i
    cdef double width = 2.0
    cdef int level = 1
    variances[0] = 0.5 * squares_of_differences(x, n - 1, 1) / (n - 1)
    while (n >> level) >= fewest and level < LEVELS:
        variances[level] = 0.5 * squares_of_differences(x, count - 3, 2) / ((count - 3) * width * width)
        count = count // 2
        for i in range(count):
            x[i] = x[2 * i] + x[2 * i + 1]
        width = 2.0 * width
        level += 1
    return level


cdef inline void slope_variances(const double* rho, double n, double* variances) noexcept nogil:
    """Variance per sample² of the least-squares slope through n samples of each component of unit variance."""
    cdef Py_ssize_t size = <Py_ssize_t>(n / SLOPE_GROUPS) if n >= SLOPE_GROUPS else 1
    cdef Py_ssize_t groups = <Py_ssize_t>(n / size), i
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double[8] before = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double c, spread = 0.0
    cdef int j
    for i in range(groups):
        c = (i - 0.5 * (groups - 1)) * size
        spread += size * c * c
    powers(rho, size, power)
    sum_of_neighbours(rho, power, <double>size, across, variance)
    for j in range(COMPONENTS):
        variances[j] = 0.0
    for i in range(groups):
        c = (i - 0.5 * (groups - 1)) * size / spread
        for j in range(COMPONENTS):
            variances[j] += c * (c * variance[j] + 2.0 * across[j] * (rho[j] * before[j]))
            before[j] = before[j] * power[j] + c * across[j]


cdef inline void fit_components(
    const double* rho, const double* measured, int levels, double n, double length, double* v
) noexcept nogil:
    """Variances v_j >= 0 of the components, by weighted least squares through the Allan variances of n samples.

    A line through `length` of them (0: none) was taken off. It takes from the slow components what goes into its slope,
    and from an Allan variance half the square of what that rises by over a width. An Allan variance scatters by
    √(2/degrees) of itself. Twice: first that of the measurement, then of the model. One component after the other is set
    to its best, which keeps all positive; from the slowest, so that what two explain alike goes to the slower, which
    gives the larger errors. More than MOST_DEGREES would let the shortest widths, which matter least for the errors,
    rule the fit.
    """
    cdef double[24][8] made         # Allan variance per variance of the component
    cdef double[24] weight
    cdef double[8][8] normal
    cdef double[8] right
    cdef double[8] inverse
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double[8] slope = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double model, width = 1.0, x, degrees
    cdef int level, i, j, stage, sweep
    if length > 0.0:
        slope_variances(rho, length, slope)
    for j in range(COMPONENTS):
        power[j] = rho[j]
        v[j] = 0.0
    for level in range(levels):
        sum_of_neighbours(rho, power, width, across, variance)
        for j in range(COMPONENTS):
            made[level][j] = (variance[j] - rho[j] * across[j] * across[j]) / (width * width)
            made[level][j] -= 0.5 * slope[j] * width * width
            power[j] = power[j] * power[j]
        width = 2.0 * width
    for stage in range(2):
        width = 1.0
        for level in range(levels):
            model = measured[level]
            if stage == 1:
                model = 0.0
                for j in range(COMPONENTS):
                    model += made[level][j] * v[j]
                if model < 1e-3 * measured[level]:
                    model = 1e-3 * measured[level]
            degrees = n / width
            if degrees > MOST_DEGREES:
                degrees = MOST_DEGREES
            weight[level] = degrees / (model * model) if model > 0.0 else 0.0
            width = 2.0 * width
        for i in range(COMPONENTS):
            right[i] = 0.0
            for j in range(COMPONENTS):
                normal[i][j] = 0.0
        for level in range(levels):
            for i in range(COMPONENTS):
                x = weight[level] * made[level][i]
                right[i] += x * measured[level]
                for j in range(COMPONENTS):
                    normal[i][j] += x * made[level][j]
        # right becomes the slope of the cost, half and negative, at v
        for i in range(COMPONENTS):
            inverse[i] = 1.0 / normal[i][i] if normal[i][i] > 0.0 else 0.0
            for j in range(COMPONENTS):
                right[j] -= normal[i][j] * v[i]
        for sweep in range(SWEEPS):
            for i in range(COMPONENTS - 1, -1, -1):
                x = v[i] + right[i] * inverse[i]
                x = (x if x > 0.0 else 0.0) - v[i]
                v[i] += x
                for j in range(COMPONENTS):
                    right[j] -= normal[i][j] * x


cdef inline int branch_allan(
    const Branch* branch, int order, Py_ssize_t fewest, double* work, double* measured
) noexcept nogil:
    """Allan variances of the free samples of a branch about a line of their own; return how many widths."""
    cdef const double* free = &branch.free_sums[0]
    cdef const float* d = branch.d + branch.free
    cdef const float* zeta = branch.axis.zeta + branch.free
    cdef Py_ssize_t n = branch.axis.n - branch.free, i
    cdef double determinant = free[0] * free[2] - free[1] * free[1], tilt = 0.0, offset
    if order > 0 and determinant > 1e-6 * free[0] * free[2]:
        tilt = (free[0] * free[4] - free[1] * free[3]) / determinant
    offset = (free[3] - tilt * free[1]) / free[0]
    for i in range(n):
        work[i] = d[i] - (offset + tilt * zeta[i])
    return allan_variances(work, n, fewest, measured)


cdef inline void take_components(Branch* branch, const double* shape) noexcept nogil:
    """Set the components of the noise of a branch, nm²: those of the map, at the level that its own neighbours tell."""
    cdef int j
    branch.correlated = True
    for j in range(COMPONENTS):
        branch.components[j] = shape[j] * branch.allan


cdef inline void set_components(Branch* one, Branch* other, int order, double least, double* work) noexcept nogil:
    """Set the components of the noise of both branches of a curve, nm², from what both have in common.

    One instrument has made both: with as many samples in both, at one rate, their noise is alike but for its level,
    which neighbours tell well, and the slow part of it is known the better from twice the samples.

    Parameters
    ----------
    order : of the line that is taken off the free samples.
    least : variance that there is at least, of quantisation.
    work : room for as many numbers as a branch has samples.
    """
    cdef Branch* branches[2]
    cdef double[2][24] measured
    cdef double[24] pooled
    cdef double[8] rho
    cdef double[8] v
    cdef double n, total
    cdef int[2] levels
    cdef int b, level, j, first, last, most
    cdef bint together = one.axis.n == other.axis.n
    branches[0] = one
    branches[1] = other
    correlations(rho)
    for b in range(2):
        branches[b].correlated = True
        levels[b] = branch_allan(branches[b], order, FEWEST_BLOCKS, work, measured[b])
    for b in range(2):
        first = 0 if together else b
        last = 1 if together else b
        most = levels[first] if levels[first] > levels[last] else levels[last]
        n = 0.0
        for level in range(most):
            pooled[level] = 0.0
            total = 0.0
            for j in range(first, last + 1):
                if level < levels[j] and measured[j][0] > 0.0:
                    total += branches[j].free_sums[0]
                    pooled[level] += branches[j].free_sums[0] * (measured[j][level] / measured[j][0])
            pooled[level] = pooled[level] / total if total > 0.0 else 0.0
            n = total if total > n else n
        if b == 0 or not together:
            fit_components(rho, pooled, most, n, n / (1 + last - first) if order > 0 else 0.0, v)
        total = 0.0
        for j in range(COMPONENTS):
            branches[b].components[j] = v[j] * measured[b][0]
            total += branches[b].components[j]
        if total < least:
            branches[b].components[0] += least - total
