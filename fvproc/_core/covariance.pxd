# What noise of given components (noise.pxd) does: to means, to blocks about a line, to the parameters of a fit.

from fvproc._core.axis cimport sums_of_zeta
from fvproc._core.lanes cimport LANES
from fvproc._core.noise cimport COMPONENTS, FREE_GROUPS, correlations, powers, sum_of_neighbours
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.types cimport Axis, Branch, Settings


cdef inline double variance_of_mean(
    const Branch* branch, Py_ssize_t count, const Settings* settings, const double* shape
) noexcept nogil:
    """Of so many neighbouring samples of a branch, nm²; white where the map's noise is not known to be other."""
    cdef double[8] rho
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double total = 0.0
    cdef int j
    if not settings.noise_known:
        return branch.noise * branch.noise / count
    correlations(rho)
    powers(rho, count, power)
    sum_of_neighbours(rho, power, <double>count, across, variance)
    for j in range(COMPONENTS):
        total += shape[j] * variance[j]
    return branch.allan * total / (<double>count * count)


cdef inline void set_tolerance(Axis* axis, int order, const double* shape) noexcept nogil:
    """Set tolerance and step_tolerance of an axis under noise of the map's components, per Allan variance of neighbours.

    Of the mean of a block about the line through the far blocks; and of its difference from the next one's about that
    line's slope, which slow noise hardly blurs: where the contact begins shows in it however far the line may be off.
    """
    cdef double[8] rho
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double[8] mean_before = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] slope_before = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] of_mean = [0, 0, 0, 0, 0, 0, 0, 0]       # variances of mean and slope of the far line
    cdef double[8] of_both = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] of_slope = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] with_mean = [0, 0, 0, 0, 0, 0, 0, 0]     # covariances with the sample before the far blocks
    cdef double[8] with_slope = [0, 0, 0, 0, 0, 0, 0, 0]
    cdef double[8] decay = [1, 1, 1, 1, 1, 1, 1, 1]
    cdef Py_ssize_t far = axis.far, blocks = axis.blocks, i
    cdef double count = blocks - far, mean, spread, a, b, at, total, per_sample = 1.0 / axis.width
    cdef int j
    if far >= blocks:
        return
    mean = axis.rest_zeta[far] / count
    spread = axis.rest_zeta2[far] - count * mean * mean
    correlations(rho)
    powers(rho, axis.width, power)
    sum_of_neighbours(rho, power, <double>axis.width, across, variance)
    a = 1.0 / count
    for i in range(far, blocks):
        b = (axis.block_zeta[i] - mean) / spread if order > 0 and spread > 0.0 else 0.0
        for j in range(COMPONENTS):
            at = across[j] * rho[j]
            of_mean[j] += a * (a * variance[j] + 2.0 * at * mean_before[j])
            of_both[j] += a * b * variance[j] + at * (a * slope_before[j] + b * mean_before[j])
            of_slope[j] += b * (b * variance[j] + 2.0 * at * slope_before[j])
            mean_before[j] = mean_before[j] * power[j] + a * across[j]
            slope_before[j] = slope_before[j] * power[j] + b * across[j]
            with_mean[j] += a * (at * decay[j])
            with_slope[j] += b * (at * decay[j])
            decay[j] = decay[j] * power[j]
    for j in range(COMPONENTS):
        decay[j] = across[j]
    for i in range(blocks - 1, -1, -1):
        at = axis.block_zeta[i] - mean
        total = 0.0
        for j in range(COMPONENTS):
            b = variance[j] + of_mean[j] + 2.0 * at * of_both[j] + at * at * of_slope[j]
            if i < far:
                b -= 2.0 * (decay[j] * (with_mean[j] + at * with_slope[j]))
                decay[j] = decay[j] * power[j]
            total += shape[j] * b
        axis.tolerance[i] = total * (per_sample * per_sample)
        at = axis.block_zeta[i] - axis.block_zeta[i + 1]
        total = 0.0
        for j in range(COMPONENTS):
            total += shape[j] * (2.0 * (variance[j] - across[j] * across[j] * rho[j]) + at * at * of_slope[j])
        axis.step_tolerance[i] = total * (per_sample * per_sample)


# A walk along the samples of a fit, group by group of neighbours of one influence; of unit variance in each component.
cdef struct Walk:
    double[8] rho
    double[3][8] before         # what has been passed, as it correlates with the sample before the next
    double[3][8] variance       # of B, z0, a
    double[8] cost              # expected of the points, each its weight times the square of its mean's error


cdef inline void step_over(Walk* walk, Py_ssize_t count) noexcept nogil:
    """Pass samples that the fit does not use."""
    cdef double[8] power
    cdef int j, k
    if count <= 0:
        return
    powers(walk.rho, count, power)
    for k in range(3):
        for j in range(COMPONENTS):
            walk.before[k][j] = walk.before[k][j] * power[j]


cdef inline void step_on(
    Walk* walk, double count, const double* power, const double* across, const double* variance, const double* influence
) noexcept nogil:
    """Add a group of `count` neighbours whose influence on B, z0, a is given; see sum_of_neighbours."""
    cdef double c
    cdef int j, k
    for k in range(3):
        c = influence[k]
        for j in range(COMPONENTS):
            walk.variance[k][j] += c * (
                c * variance[j] + 2.0 * across[j] * (walk.rho[j] * walk.before[k][j])
            )
            walk.before[k][j] = walk.before[k][j] * power[j] + c * across[j]


cdef inline void step_point(Walk* walk, const Problem* problem, const Solution* solution, Py_ssize_t at) noexcept nogil:
    """Add the point of a fit that stands `at` this place of the problem's arrays."""
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double[3] influence
    cdef double one = 1.0 / problem.weight[at]
    cdef int j, k
    powers(walk.rho, <Py_ssize_t>problem.weight[at], power)
    sum_of_neighbours(walk.rho, power, problem.weight[at], across, variance)
    for k in range(3):
        influence[k] = solution.influence[k][at]
    for j in range(COMPONENTS):
        walk.cost[j] += one * variance[j]
    step_on(walk, problem.weight[at], power, across, variance, influence)


cdef inline double correlated_variances(
    const Branch* branch, const Problem* problem, const Solution* solution, int lane, Py_ssize_t begin,
    int baseline_parameters, double* variances
) noexcept nogil:
    """Variances of B, z0, a by the samples' noise, that of the anchor left out; return the expected cost of the points.

    A⁻¹·JᵀCJ·A⁻¹ with J constant over each point and over each of FREE_GROUPS parts of the free samples, nm².
    """
    cdef Walk walk
    cdef const double* v = &branch.components[0]
    cdef double[8] power
    cdef double[8] across
    cdef double[8] variance
    cdef double[3] influence
    cdef Py_ssize_t inner = 0, points = problem.used[lane], reached, end = begin, p, size, stop
    cdef double zeta, squares, expected = 0.0
    cdef int j, k
    correlations(walk.rho)
    for j in range(COMPONENTS):
        walk.cost[j] = 0.0
        for k in range(3):
            walk.before[k][j] = 0.0
            walk.variance[k][j] = 0.0
    # points stand from the end of contact to the surface, then from the end of contact outward
    stop = branch.end if branch.end < branch.axis.n else branch.axis.n
    while inner < points and end < stop:
        end += <Py_ssize_t>problem.weight[inner * LANES + lane]
        inner += 1
    for p in range(inner - 1, -1, -1):
        step_point(&walk, problem, solution, p * LANES + lane)
    for p in range(inner, points):
        end += <Py_ssize_t>problem.weight[p * LANES + lane]
        step_point(&walk, problem, solution, p * LANES + lane)
    if baseline_parameters > 0:
        step_over(&walk, branch.free - end)
        reached = branch.free
        size = (branch.axis.n - reached + FREE_GROUPS - 1) // FREE_GROUPS
        powers(walk.rho, size, power)
        sum_of_neighbours(walk.rho, power, <double>size, across, variance)
        while reached < branch.axis.n:
            if size > branch.axis.n - reached:
                size = branch.axis.n - reached
                powers(walk.rho, size, power)
                sum_of_neighbours(walk.rho, power, <double>size, across, variance)
            sums_of_zeta(branch.axis.z, branch.axis.centre, reached, reached + size, &zeta, &squares)
            zeta /= size
            for k in range(3):
                influence[k] = solution.free_influence[k][0][lane] + solution.free_influence[k][1][lane] * zeta
            step_on(&walk, <double>size, power, across, variance, influence)
            reached += size
    for k in range(3):
        variances[k] = 0.0
        for j in range(COMPONENTS):
            variances[k] += v[j] * walk.variance[k][j]
    for j in range(COMPONENTS):
        expected += v[j] * walk.cost[j]
    return expected
