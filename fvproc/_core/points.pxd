# From a branch with its edges to a lane of the fit: the points, what is known besides, and back to errors in nm.

from libc.math cimport fabs, sqrt

from fvproc._core.axis cimport reach
from fvproc._core.covariance cimport correlated_variances
from fvproc._core.lanes cimport LANES
from fvproc._core.noise cimport COMPONENTS, Neighbours, correlations, neighbours_of
from fvproc._core.problem cimport FEWEST, MOST_POINTS, Problem, Solution
from fvproc._core.types cimport FIT_FAILED, JKR, TOO_FEW_POINTS, Branch, ContactFit

cdef enum:
    CONTACT_RATIO = 5   # a point holds one sample for each so many between it and the end of contact
    FREE_RATIO = 2      # ... outside the contact
    RESERVED = 24       # points for those outside
    HIDEABLE = 8        # multiples of the noise: force above zero where it first crosses it, and a pull-off not seen
    # depth of a pull-off, multiples of the noise
    UNSURE = 7          # up to which the sample where the force comes back half way may be any of several
    CERTAIN = 12        # from which on it is the first one free


cdef inline void leave_idle(Problem* problem, int lane) noexcept nogil:
    """Fill a lane with numbers that do no harm."""
    cdef Py_ssize_t i
    for i in range(problem.points):
        problem.spread[i * LANES + lane] = 0.0
        problem.y[i * LANES + lane] = 0.0
        problem.zeta[i * LANES + lane] = 0.0
        problem.weight[i * LANES + lane] = 0.0
        problem.count[i * LANES + lane] = 0.0
    for i in range(6):
        problem.free_sums[i][lane] = 0.0
    problem.adhesion[lane] = 0.0
    problem.top[lane] = 1.0
    problem.expected[lane] = 0.0
    problem.of_z0[lane] = 0.0
    problem.of_end[lane] = 0.0
    problem.film_reach[lane] = 0.0
    problem.anchor_weight[lane] = 0.0
    problem.noise[lane] = 1.0
    problem.per_reach[lane] = 0.0
    problem.ends[lane] = 1.0
    problem.holds[0][lane] = 1.0
    problem.holds[1][lane] = 1.0
    problem.holds[2][lane] = 1.0
    problem.idle[lane] = 1.0


cdef inline void fill_up(Problem* problem) noexcept nogil:
    """Give every lane as many points as the one with most, and lanes without a curve numbers that do no harm."""
    cdef int lane, p, last
    for lane in range(LANES):
        if problem.used[lane] == 0:
            leave_idle(problem, lane)
            continue
        last = problem.used[lane] - 1
        for p in range(last + 1, problem.points):
            # as the last: what is solved there gives no more trouble than it
            problem.y[p * LANES + lane] = problem.y[last * LANES + lane]
            problem.zeta[p * LANES + lane] = problem.zeta[last * LANES + lane]
            problem.weight[p * LANES + lane] = 0.0
            problem.count[p * LANES + lane] = 0.0
            problem.spread[p * LANES + lane] = 0.0


cdef inline Py_ssize_t samples_of_fit(const Branch* branch) noexcept nogil:
    """How many samples from the turning point on the fit looks at.

    Where the pull-off stands out, those in contact. Elsewhere as many more as may be in contact, among which the model
    finds its own end: noise lets the force cross zero early, and hides a pull-off. A load q has pressed a contact in by
    no more than √(q/peak) of what the peak has, from punch to cone. Were the end not among them, the model would take
    all of them for contact, with an adhesion as deep as it likes. The far part of the baseline stays out.
    """
    cdef const double* z = branch.axis.z
    cdef Py_ssize_t count = branch.end, far = branch.axis.far * branch.axis.width
    cdef double last
    if branch.ends or branch.end >= branch.axis.n or not branch.peak > 0.0:
        return branch.end
    last = z[branch.end] - (z[0] - z[branch.end]) * sqrt(HIDEABLE * branch.noise / branch.peak)
    count += 4
    while count < far and z[count] > last:
        count += 1
    return count if count < branch.axis.n else branch.axis.n


cdef inline void set_anchor(const Branch* branch, bint retract, Problem* problem, int lane) noexcept nogil:
    """What is known of pull-off or snap-in besides the forces.

    In a stiff contact the forces hardly tell the adhesion: the place of the jump does. On retract the pull-off,
    z0 − a (elsewhere with JKR), lies between the last sample in contact and the first one free. On approach the contact
    point itself does, but for the distance from which the tip jumps in, about as far as the jump is high. Where no jump stands out, the
    adhesion is no more than what noise and the distance of the samples can hide.
    """
    cdef const double* z = branch.axis.z
    cdef double spacing = 0.0, weight, depth
    cdef Py_ssize_t first, last
    problem.of_z0[lane] = 1.0 if branch.ends else 0.0
    problem.expected[lane] = 0.0
    if branch.ends:
        spacing = branch.holds - z[branch.off]
        # a coarse z may be the same on both sides: then the distance of samples here
        first = branch.off - 1
        last = branch.off
        while not spacing > 0.0 and (first > 0 or last < branch.axis.n - 1):
            first = first - 1 if first > 0 else 0
            last = last + 1 if last < branch.axis.n - 1 else last
            spacing = (z[first] - z[last]) / (last - first)
        problem.expected[lane] = 0.5 * (branch.holds + z[branch.off]) - branch.axis.centre
    problem.of_end[lane] = 0.0
    if not branch.ends:
        weight = 0.0
    elif retract:
        problem.of_end[lane] = 1.0
        weight = 0.4 * branch.noise
        if branch.faint > 0.0:
            weight = branch.faint
        elif branch.pulled:
            # the nearer the jump is to the noise, the less sure is which sample was the last
            depth = -branch.lowest / branch.noise
            weight = 0.0
            if depth < CERTAIN:
                weight = 2.0 * branch.noise / depth
                if depth > UNSURE:
                    weight *= (CERTAIN - depth) / (CERTAIN - UNSURE)
        weight = branch.noise / (sqrt(0.09 * spacing * spacing + weight * weight) + branch.jump_width)
    else:
        weight = branch.noise / (spacing + branch.noise - branch.lowest)
    problem.anchor_weight[lane] = weight * weight


cdef inline Py_ssize_t take_points(
    const Branch* branch, Py_ssize_t start, int direction, Py_ssize_t stop, Problem* problem, int lane, Py_ssize_t points
) noexcept nogil:
    """Add the points from `start` toward `stop` to `points` of a lane; return how many there are then.

    Points of samples that grow in number with the distance from the start: what a sample far from it tells, its
    neighbours tell nearly as well. Beyond the first zero crossing, where the model soon is a line, they may be wider.
    """
    cdef const double* way = branch.axis.way
    cdef const double* way2 = branch.axis.way2
    cdef double first_z = branch.axis.z[0] - branch.axis.centre, y, more, x, one
    cdef Py_ssize_t done = 0, total = (stop - start) * direction, size, first, i, at
    while done < total:
        size = 1 + done // (CONTACT_RATIO if direction < 0 else FREE_RATIO)
        if size > total - done or points == MOST_POINTS - (1 if direction > 0 else RESERVED + 1):
            size = total - done
        first = start + done if direction > 0 else start - done - size
        done += size
        # two sums, for one waits for each of its additions
        y = branch.d[first]
        more = 0.0
        for i in range(first + 1, first + size - 1, 2):
            more += branch.d[i]
            y += branch.d[i + 1]
        if size % 2 == 0:
            more += branch.d[first + size - 1]
        y += more
        one = 1.0 / size
        x = (way[first + size] - way[first]) * one
        at = points * LANES + lane
        problem.y[at] = y * one
        problem.zeta[at] = x + first_z
        problem.spread[at] = (way2[first + size] - way2[first]) * one - x * x if size > 1 else 0.0
        problem.weight[at] = <double>size
        problem.count[at] = <double>size
        points += 1
    return points


cdef inline void weigh_points(const Branch* branch, Problem* problem, int lane) noexcept nogil:
    """Weights of points under correlated noise: slow noise leaves the mean of many samples little surer than one.

    By the variance of each point's mean, how points hang together left aside: that comes within about a tenth of the
    bound of generalised least squares, where weights by the number of samples were up to a quarter above (1/f noise).
    """
    cdef Neighbours own
    cdef const Neighbours* group
    cdef double[8] rho
    cdef double one = 0.0, variance, count
    cdef Py_ssize_t i, at
    cdef int j
    correlations(rho)
    for j in range(COMPONENTS):
        one += branch.components[j]
    for i in range(problem.used[lane]):
        at = i * LANES + lane
        count = problem.count[at]
        if count < 2.0:
            continue
        group = neighbours_of(problem.neighbours, rho, <Py_ssize_t>count, &own)
        variance = 0.0
        for j in range(COMPONENTS):
            variance += branch.components[j] * group.variance[j]
        if variance > 0.0:
            problem.weight[at] = one * count * count / variance


cdef inline int pose(
    Branch* branch, Py_ssize_t begin, Py_ssize_t count, bint free_adhesion, double adhesion,
    int baseline_parameters, bint retract, double film_reach, Problem* problem, int lane
) noexcept nogil:
    """Fill a lane with the fit of samples [begin, count); return 0, or the flag that says why there is none."""
    cdef const double* z = branch.axis.z
    cdef double top = branch.peak
    cdef Py_ssize_t points, i
    if branch.end - begin < FEWEST:
        return TOO_FEW_POINTS
    if begin > 0:
        # start_values looks at the upper nine tenths of the load: of these samples, not of those left out
        top = branch.d[begin]
        for i in range(begin, count):
            if branch.d[i] > top:
                top = branch.d[i]
    reach(&branch.axis, branch.end if branch.end > count else count)
    # from the end of contact, where the model bends most, to both sides
    points = take_points(branch, branch.end if branch.end < count else count, -1, begin, problem, lane, 0)
    points = take_points(branch, branch.end, 1, count, problem, lane, points)
    # lanes with fewer points are filled up when all are posed
    problem.used[lane] = <int>points
    if branch.correlated:
        weigh_points(branch, problem, lane)
    if points > problem.points:
        problem.points = <int>points
    for i in range(6):
        problem.free_sums[i][lane] = branch.free_sums[i]
    if baseline_parameters == 0 and branch.ends:
        for i in range(6):
            problem.free_sums[i][lane] = 0.0
    set_anchor(branch, retract, problem, lane)
    if not free_adhesion:
        problem.anchor_weight[lane] = 0.0
    problem.adhesion[lane] = adhesion
    if problem.law.kind == JKR and free_adhesion and not branch.pulled:
        # at zero the root of the adhesion has no derivative
        problem.adhesion[lane] = branch.noise
    problem.film_reach[lane] = film_reach
    problem.top[lane] = top
    problem.noise[lane] = branch.noise
    problem.ends[lane] = 1.0 if branch.ends else 0.0
    if branch.correlated:
        problem.correlated = True
    problem.per_reach[lane] = 0.0
    if free_adhesion and not branch.ends:
        i = branch.end if branch.end < branch.axis.n - 1 else branch.axis.n - 1
        problem.per_reach[lane] = 1.0 / (z[i - 1] - z[i] + 3.0 * branch.noise)
        problem.hidden = True
    problem.holds[0][lane] = 0.0 if free_adhesion else 1.0
    problem.holds[1][lane] = 0.0 if baseline_parameters > 0 else 1.0
    problem.holds[2][lane] = 0.0 if baseline_parameters > 1 else 1.0
    problem.idle[lane] = 0.0
    return 0


cdef inline void conclude(
    Branch* branch, const Problem* problem, const Solution* solution, int lane, Py_ssize_t begin,
    bint free_adhesion, int baseline_parameters, double quantum, ContactFit* fit
) noexcept nogil:
    """Parameters and their standard errors from the solution of a lane."""
    cdef double variance, contact_variance, degrees, points = problem.used[lane], squares, least, expected
    cdef double[3] variances
    cdef Py_ssize_t inside = <Py_ssize_t>solution.inside[lane]
    cdef int k
    if solution.failed[lane] > 0.5:
        fit.status = FIT_FAILED
        return
    if inside < FEWEST:
        fit.status = TOO_FEW_POINTS
        return
    degrees = points - 2 - free_adhesion
    least = quantum * quantum / 12.0
    if branch.correlated:
        # cost of the contact over what the noise lets expect; only where it is plainly larger does it widen the errors
        expected = correlated_variances(branch, problem, solution, lane, begin, baseline_parameters, variances)
        contact_variance = 1.0
        if degrees >= 1.0:
            contact_variance = solution.contact_cost[lane] * points / (degrees * expected)
            if not contact_variance > 1.0 + 4.0 * sqrt(2.0 / degrees):
                contact_variance = 1.0
        for k in range(3):
            variances[k] = contact_variance * variances[k] + (
                branch.noise * branch.noise * solution.of_anchor[k][lane]
            )
    else:
        # residual variance: pooled over contact and baseline, unless the contact is plainly worse than the rest
        contact_variance = solution.contact_cost[lane] / degrees if degrees >= 1.0 else 0.0
        variance = branch.noise * branch.noise
        if baseline_parameters > 0 or not branch.ends:
            variance = solution.cost[lane] / (
                points + problem.free_sums[0][lane] - 2 - free_adhesion - baseline_parameters
            )
        if variance < least:
            variance = least
        if degrees >= 1.0 and contact_variance > variance * (1.0 + 4.0 * sqrt(2.0 / degrees)):
            variance = contact_variance
        for k in range(3):
            variances[k] = variance * solution.inverse[k][lane]
    fit.compliance = solution.theta[0][lane]
    fit.compliance_std = sqrt(variances[0])
    fit.z0 = solution.theta[1][lane] + branch.axis.centre
    fit.z0_std = sqrt(variances[1])
    fit.adhesion = solution.theta[2][lane]
    fit.adhesion_std = sqrt(variances[2])
    if problem.law.kind == JKR:
        # from its root α, of which noise moves the square by 2α·σ and σ² (the variance of a Gaussian's square)
        fit.adhesion_std *= sqrt(4.0 * fit.adhesion * fit.adhesion + 2.0 * variances[2])
        fit.adhesion *= fabs(fit.adhesion)
    if not free_adhesion:
        fit.adhesion_std = branch.noise
    fit.reach = problem.film_reach[lane]
    fit.offset = solution.theta[3][lane]
    fit.tilt = solution.theta[4][lane]
    fit.rmse = sqrt(solution.contact_cost[lane] / points)
    squares = solution.squares[lane]
    fit.r_squared = 1.0 - solution.contact_cost[lane] / squares if squares > 0.0 else 0.0
    fit.start = begin
    fit.stop = begin + inside
    fit.samples = inside
    fit.status = 0
