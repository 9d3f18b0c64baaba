# What noise of given components (noise.pxd) does: to means, to blocks about a line, to the parameters of a fit.

from fvproc._core.axis cimport REGISTERS, TAIL, sums_of_zeta
from fvproc._core.lanes cimport LANES, lanes, load, splat, store, sum_of_eight
from fvproc._core.noise cimport COMPONENTS, Neighbours, correlations, neighbours_of, powers, sum_of_neighbours
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


cdef inline void put_before(
    const Neighbours* group, const double* rho, double zeta, const double* beyond, double* here
) noexcept nogil:
    """What noise does to a line over samples, from that to a group of more of them before these (see extend_tail).

    With an influence f₀ + f₁·ζ on them, constant over a group, all together have a variance of
    f₀²·V₀ + 2·f₀f₁·V₁ + f₁²·V₂, and what has been passed before them correlates with f₀·X₀ + f₁·X₁. In eight components
    of unit variance: V₀, V₁, V₂, X₀, X₁. zeta: mean of the group; here may be beyond.
    """
    cdef lanes variance, across, linked, x0, x1
    cdef int j, r
    for r in range(REGISTERS):
        j = r * LANES
        variance = load(group.variance + j)
        across = load(group.across + j)
        linked = across * load(rho + j)
        x0 = load(beyond + 24 + j)
        x1 = load(beyond + 32 + j)
        store(here + j, load(beyond + j) + variance + 2.0 * linked * x0)
        store(here + 8 + j, load(beyond + 8 + j) + zeta * variance + linked * (x1 + zeta * x0))
        store(here + 16 + j, load(beyond + 16 + j) + zeta * (zeta * variance + 2.0 * linked * x1))
        store(here + 24 + j, across + load(group.power + j) * x0)
        store(here + 32 + j, zeta * across + load(group.power + j) * x1)


cdef inline double weighed(const double* shape, const double* x) noexcept nogil:
    """Σ shape·x over the components."""
    cdef lanes[8] parts
    cdef int r
    for r in range(REGISTERS):
        parts[r] = load(shape + r * LANES) * load(x + r * LANES)
    return sum_of_eight(parts)


cdef inline void set_tolerance(
    Axis* axis, int order, const double* shape, const Neighbours* table, const double* rho
) noexcept nogil:
    """Set tolerance and step_tolerance of an axis under noise of the map's components, per Allan variance of neighbours.

    Of the mean of a block about the line through the far blocks; and of its difference from the next one's about that
    line's slope, which slow noise hardly blurs: where the contact begins shows in it however far the line may be off.
    """
    cdef Neighbours own
    cdef const Neighbours* group = neighbours_of(table, rho, axis.width, &own)
    cdef double[40] line
    cdef double[8] with_mean    # covariances of the line's mean and slope with the sample before the far blocks, weighed
    cdef double[8] with_slope
    cdef double[8] decay
    cdef double[8] difference
    cdef lanes[8] parts
    cdef Py_ssize_t far = axis.far, blocks = axis.blocks, i
    cdef double count = blocks - far, mean, spread, a, f0 = 0.0, f1 = 0.0, at, total, v0, v1, v2
    cdef double of_block, of_step, of_mean, of_both, of_slope, per_sample = 1.0 / axis.width
    cdef int j, r
    if far >= blocks:
        return
    for j in range(TAIL):
        line[j] = 0.0
    for i in range(blocks - 1, far - 1, -1):
        put_before(group, rho, axis.block_zeta[i], line, line)
    # a block has 1/count in the line's mean, f₀ + f₁·ζ in its slope
    a = 1.0 / count
    mean = axis.rest_zeta[far] * a
    spread = axis.rest_zeta2[far] - count * mean * mean
    if order > 0 and spread > 0.0:
        f1 = 1.0 / spread
        f0 = -mean * f1
    v0 = weighed(shape, line)
    v1 = weighed(shape, line + 8)
    v2 = weighed(shape, line + 16)
    of_mean = a * a * v0
    of_both = a * (f0 * v0 + f1 * v1)
    of_slope = f0 * f0 * v0 + 2.0 * f0 * f1 * v1 + f1 * f1 * v2
    for j in range(COMPONENTS):
        with_mean[j] = shape[j] * (rho[j] * a * line[24 + j])
        with_slope[j] = shape[j] * (rho[j] * (f0 * line[24 + j] + f1 * line[32 + j]))
        decay[j] = group.across[j]
        difference[j] = group.variance[j] - group.across[j] * group.across[j] * rho[j]
    of_block = weighed(shape, group.variance)
    of_step = 2.0 * weighed(shape, difference)
    for i in range(blocks - 1, -1, -1):
        at = axis.block_zeta[i] - mean
        total = of_block + of_mean + 2.0 * at * of_both + at * at * of_slope
        if i < far:
            for r in range(REGISTERS):
                j = r * LANES
                parts[r] = load(decay + j) * (load(with_mean + j) + at * load(with_slope + j))
                store(decay + j, load(decay + j) * load(group.power + j))
            total -= 2.0 * sum_of_eight(parts)
        axis.tolerance[i] = total * (per_sample * per_sample)
        at = axis.block_zeta[i] - axis.block_zeta[i + 1]
        axis.step_tolerance[i] = (of_step + at * at * of_slope) * (per_sample * per_sample)


# A walk along the samples of a fit, group by group of neighbours of one influence; of unit variance in each component.
cdef struct Walk:
    double[8] rho
    double[3][8] before         # what has been passed, as it correlates with the sample before the next
    double[3][8] variance       # of B, z0, a
    double[8] cost              # expected of the points, each its weight times the square of its mean's error


cdef inline void step_over(Walk* walk, const Problem* problem, Py_ssize_t count) noexcept nogil:
    """Pass samples that the fit does not use."""
    cdef Neighbours own
    cdef const Neighbours* group
    cdef double* before
    cdef int j, k, r
    if count <= 0:
        return
    group = neighbours_of(problem.neighbours, walk.rho, count, &own)
    for r in range(REGISTERS):
        j = r * LANES
        for k in range(3):
            before = walk.before[k] + j
            store(before, load(before) * load(group.power + j))


cdef inline void step_on(Walk* walk, const Neighbours* group, const double* influence) noexcept nogil:
    """Add a group whose influence on B, z0, a is given."""
    cdef lanes c, before, power, across, linked, variance
    cdef int j, k, r
    for r in range(REGISTERS):
        j = r * LANES
        power = load(group.power + j)
        across = load(group.across + j)
        linked = load(group.linked + j)
        variance = load(group.variance + j)
        for k in range(3):
            c = splat(influence[k])
            before = load(walk.before[k] + j)
            store(walk.variance[k] + j, load(walk.variance[k] + j) + c * (c * variance + linked * before))
            store(walk.before[k] + j, before * power + c * across)


cdef inline void step_point(Walk* walk, const Problem* problem, const Solution* solution, Py_ssize_t at) noexcept nogil:
    """Add the point of a fit that stands `at` this place of the problem's arrays."""
    cdef Neighbours own
    cdef const Neighbours* group = neighbours_of(
        problem.neighbours, walk.rho, <Py_ssize_t>problem.count[at], &own
    )
    cdef double[3] influence
    cdef double each = problem.weight[at] / problem.count[at], one = each / problem.count[at]
    cdef int j, k, r
    for k in range(3):
        influence[k] = each * solution.influence[k][at]
    for r in range(REGISTERS):
        j = r * LANES
        store(walk.cost + j, load(walk.cost + j) + one * load(group.variance + j))
    step_on(walk, group, influence)


cdef inline void extend_tail(Axis* axis, const Neighbours* table, const double* rho, Py_ssize_t block) noexcept nogil:
    """Fill the tail of an axis for `block` and all beyond it, from the far end on; see put_before."""
    cdef Neighbours own
    cdef double* here = axis.tail + TAIL * axis.blocks
    cdef Py_ssize_t rest = axis.n - axis.blocks * axis.width, i
    if axis.tailed > axis.blocks:
        # the samples behind the last block
        axis.tailed = axis.blocks
        for i in range(TAIL):
            here[i] = 0.0
        if rest > 0:
            put_before(neighbours_of(table, rho, rest, &own), rho, axis.sum_zeta[axis.blocks] / rest, here, here)
    for i in range(axis.tailed - 1, block - 1, -1):
        here = axis.tail + TAIL * i
        put_before(neighbours_of(table, rho, axis.width, &own), rho, axis.block_zeta[i], here + TAIL, here)
        axis.tailed = i


cdef inline void step_to_end(
    Walk* walk, Axis* axis, const Problem* problem, const Solution* solution, int lane, Py_ssize_t start
) noexcept nogil:
    """Add all free samples, from `start` on: those up to the next block as one group, then its tail."""
    cdef Neighbours own
    cdef const double* tail
    cdef double[3] influence
    cdef double zeta, squares
    cdef lanes f0, f1
    cdef Py_ssize_t block = (start + axis.width - 1) >> axis.bits, count
    cdef int j, k, r
    if block > axis.blocks:
        block = axis.blocks
        count = axis.n - start
    else:
        count = (block << axis.bits) - start
    if count > 0:
        sums_of_zeta(axis.z, axis.centre, start, start + count, &zeta, &squares)
        zeta /= count
        for k in range(3):
            influence[k] = solution.free_influence[k][0][lane] + solution.free_influence[k][1][lane] * zeta
        step_on(walk, neighbours_of(problem.neighbours, walk.rho, count, &own), influence)
    if start + count >= axis.n:
        return
    extend_tail(axis, problem.neighbours, walk.rho, block)
    tail = axis.tail + TAIL * block
    for k in range(3):
        f0 = splat(solution.free_influence[k][0][lane])
        f1 = splat(solution.free_influence[k][1][lane])
        for r in range(REGISTERS):
            j = r * LANES
            store(
                walk.variance[k] + j, load(walk.variance[k] + j)
                + (f0 * f0 * load(tail + j) + 2.0 * f0 * f1 * load(tail + 8 + j) + f1 * f1 * load(tail + 16 + j))
                + 2.0 * load(walk.rho + j) * load(walk.before[k] + j) * (
                    f0 * load(tail + 24 + j) + f1 * load(tail + 32 + j)
                ),
            )


cdef inline double correlated_variances(
    Branch* branch, const Problem* problem, const Solution* solution, int lane, Py_ssize_t begin,
    int baseline_parameters, double* variances
) noexcept nogil:
    """Variances of B, z0, a by the samples' noise, that of the anchor left out; return the expected cost of the points.

    A⁻¹·JᵀCJ·A⁻¹ with J constant over each point and over each block of the free samples, nm².
    """
    cdef Walk walk
    cdef const double* v = &branch.components[0]
    cdef Py_ssize_t inner = 0, points = problem.used[lane], end = begin, p, stop
    cdef double expected = 0.0
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
        end += <Py_ssize_t>problem.count[inner * LANES + lane]
        inner += 1
    for p in range(inner - 1, -1, -1):
        step_point(&walk, problem, solution, p * LANES + lane)
    for p in range(inner, points):
        end += <Py_ssize_t>problem.count[p * LANES + lane]
        step_point(&walk, problem, solution, p * LANES + lane)
    if baseline_parameters > 0:
        step_over(&walk, problem, branch.free - end)
        step_to_end(&walk, &branch.axis, problem, solution, lane, branch.free)
    for k in range(3):
        variances[k] = 0.0
        for j in range(COMPONENTS):
            variances[k] += v[j] * walk.variance[k][j]
    for j in range(COMPONENTS):
        expected += v[j] * walk.cost[j]
    return expected
