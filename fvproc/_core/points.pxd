# From a branch with its edges to a lane of the fit: the points, what is known besides, and back to errors in nm.

from libc.math cimport fabs, sqrt

from fvproc._core.fit cimport FEWEST, MOST_POINTS, Problem, Solution
from fvproc._core.lanes cimport LANES
from fvproc._core.types cimport FIT_FAILED, JKR, TOO_FEW_POINTS, Branch, ContactFit

cdef enum:
    SINGLE = 16     # samples nearest to the end of a long contact that are not taken together


cdef inline void leave_idle(Problem* problem, int lane) noexcept nogil:
    """Fill a lane with numbers that do no harm."""
    cdef Py_ssize_t i
    for i in range(problem.points):
        problem.spread[i * LANES + lane] = 0.0
        problem.y[i * LANES + lane] = 0.0
        problem.zeta[i * LANES + lane] = 0.0
        problem.weight[i * LANES + lane] = 0.0
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
    problem.holds[0][lane] = 1.0
    problem.holds[1][lane] = 1.0
    problem.holds[2][lane] = 1.0
    problem.idle[lane] = 1.0


cdef inline void fill_up(Problem* problem) noexcept nogil:
    """Give every lane as many points as the one with most, and lanes without a curve numbers that do no harm."""
    cdef int lane, p
    for lane in range(LANES):
        if problem.used[lane] == 0:
            leave_idle(problem, lane)
            continue
        for p in range(problem.used[lane], problem.points):
            problem.y[p * LANES + lane] = 0.0
            problem.zeta[p * LANES + lane] = 0.0
            problem.weight[p * LANES + lane] = 0.0
            problem.spread[p * LANES + lane] = 0.0


cdef inline Py_ssize_t samples_of_fit(const Branch* branch) noexcept nogil:
    """How many samples from the turning point on the fit looks at.

    Where the pull-off stands out, those in contact. Elsewhere some more, among which the model finds its own end.
    """
    cdef Py_ssize_t count = branch.end
    if not branch.pulled:
        count += 4 + count // 8
    return count if count < branch.axis.n else branch.axis.n


cdef inline void set_anchor(const Branch* branch, bint retract, Problem* problem, int lane) noexcept nogil:
    """What is known of pull-off or snap-in besides the forces.

    In a stiff contact the forces hardly tell the adhesion: the place of the jump does. On retract the pull-off,
    z0 − a (elsewhere with JKR), lies between the last sample in contact and the first one free. On approach the contact point itself does,
    but for the distance from which the tip jumps in, about as far as the jump is high. Where no jump stands out, the
    adhesion is no more than what noise and the distance of the samples can hide.
    """
    cdef const double* z = branch.axis.z
    cdef Py_ssize_t i = branch.end if branch.end < branch.axis.n - 1 else branch.axis.n - 1
    cdef double spacing = z[i - 1] - z[i], weight
    problem.of_z0[lane] = 1.0 if branch.pulled else 0.0
    problem.expected[lane] = 0.5 * (z[i - 1] + z[i]) - branch.axis.centre if branch.pulled else 0.0
    problem.of_end[lane] = 0.0
    if not branch.pulled:
        weight = 0.0
    elif retract:
        problem.of_end[lane] = 1.0
        weight = branch.noise / (0.3 * spacing + 0.4 * branch.noise + branch.jump_width)
    else:
        weight = branch.noise / (spacing + branch.noise - branch.lowest)
    problem.anchor_weight[lane] = weight * weight


cdef inline int pose(
    const Branch* branch, Py_ssize_t count, bint free_adhesion, double adhesion, int baseline_parameters, bint retract,
    double film_reach, Problem* problem, int lane
) noexcept nogil:
    """Fill a lane with the fit of samples [0, count); return 0, or the flag that says why there is none."""
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef double centre = branch.axis.centre, y, x, xx, one
    cdef Py_ssize_t group, single, points, p, i, first, last
    if branch.end < FEWEST:
        return TOO_FEW_POINTS
    # the last samples stay single: toward the end of contact the model bends most
    single = count if count <= MOST_POINTS else SINGLE
    group = 1 if count == single else 1 + (count - single - 1) // (MOST_POINTS - SINGLE)
    points = (count - single + group - 1) // group
    for p in range(single):
        i = count - single + p
        problem.y[(points + p) * LANES + lane] = d[i]
        problem.zeta[(points + p) * LANES + lane] = z[i] - centre
        problem.weight[(points + p) * LANES + lane] = 1.0
        problem.spread[(points + p) * LANES + lane] = 0.0
    if points > 0:
        for p in range(points):
            first = p * group
            last = first + group if first + group < count - single else count - single
            y = 0.0
            x = 0.0
            xx = 0.0
            for i in range(first, last):
                y += d[i]
                x += z[i] - z[first]
                xx += (z[i] - z[first]) * (z[i] - z[first])
            one = 1.0 / (last - first)
            problem.y[p * LANES + lane] = y * one
            problem.zeta[p * LANES + lane] = x * one + (z[first] - centre)
            problem.spread[p * LANES + lane] = xx * one - (x * one) * (x * one)
            problem.weight[p * LANES + lane] = <double>(last - first)
    if points > problem.grouped:
        problem.grouped = <int>points
    points += single
    # lanes with fewer points are filled up when all are posed
    problem.used[lane] = <int>points
    if points > problem.points:
        problem.points = <int>points
    for i in range(6):
        problem.free_sums[i][lane] = branch.free_sums[i]
    if baseline_parameters == 0 and branch.pulled:
        for i in range(6):
            problem.free_sums[i][lane] = 0.0
    set_anchor(branch, retract, problem, lane)
    if not free_adhesion:
        problem.anchor_weight[lane] = 0.0
    problem.adhesion[lane] = adhesion
    problem.film_reach[lane] = film_reach
    problem.top[lane] = branch.peak
    problem.noise[lane] = branch.noise
    problem.per_reach[lane] = 0.0
    if free_adhesion and not branch.pulled:
        i = branch.end if branch.end < branch.axis.n - 1 else branch.axis.n - 1
        problem.per_reach[lane] = 1.0 / (z[i - 1] - z[i] + 3.0 * branch.noise)
        problem.hidden = True
    problem.holds[0][lane] = 0.0 if free_adhesion else 1.0
    problem.holds[1][lane] = 0.0 if baseline_parameters > 0 else 1.0
    problem.holds[2][lane] = 0.0 if baseline_parameters > 1 else 1.0
    problem.idle[lane] = 0.0
    return 0


cdef inline void conclude(
    const Branch* branch, const Problem* problem, const Solution* solution, int lane, Py_ssize_t count,
    bint free_adhesion, int baseline_parameters, double quantum, ContactFit* fit
) noexcept nogil:
    """Parameters and their standard errors from the solution of a lane."""
    cdef double variance, contact_variance, degrees, mean = 0.0, total = 0.0, squares = 0.0, w, y, end
    cdef Py_ssize_t points = 0, inside = 0, p
    if solution.failed[lane] > 0.5:
        fit.status = FIT_FAILED
        return
    end = solution.theta[1][lane] + solution.end[lane]
    for p in range(problem.points):
        w = problem.weight[p * LANES + lane]
        if not w > 0.0:
            continue
        y = problem.y[p * LANES + lane]
        points += 1
        if branch.pulled or problem.zeta[p * LANES + lane] > end:
            inside += <Py_ssize_t>w
        mean += w * y
        squares += w * y * y
        total += w
    if inside < FEWEST:
        fit.status = TOO_FEW_POINTS
        return
    # residual variance: pooled over contact and baseline, unless the contact is plainly worse than the rest
    degrees = points - 2 - free_adhesion
    contact_variance = solution.contact_cost[lane] / degrees if degrees >= 1.0 else 0.0
    variance = branch.noise * branch.noise
    if baseline_parameters > 0 or not branch.pulled:
        variance = solution.cost[lane] / (
            points + problem.free_sums[0][lane] - 2 - free_adhesion - baseline_parameters
        )
    if variance < quantum * quantum / 12.0:
        variance = quantum * quantum / 12.0
    if degrees >= 1.0 and contact_variance > variance * (1.0 + 4.0 * sqrt(2.0 / degrees)):
        variance = contact_variance
    variance *= branch.inflation
    fit.compliance = solution.theta[0][lane]
    fit.compliance_std = sqrt(variance * solution.inverse[0][lane])
    fit.z0 = solution.theta[1][lane] + branch.axis.centre
    fit.z0_std = sqrt(variance * solution.inverse[1][lane])
    fit.adhesion = solution.theta[2][lane]
    fit.adhesion_std = sqrt(variance * solution.inverse[2][lane])
    if problem.law.kind == JKR:     # from its root
        fit.adhesion_std *= 2.0 * fabs(fit.adhesion)
        fit.adhesion *= fabs(fit.adhesion)
    if not free_adhesion:
        fit.adhesion_std = branch.noise
    fit.reach = problem.film_reach[lane]
    fit.offset = solution.theta[3][lane]
    fit.tilt = solution.theta[4][lane]
    fit.rmse = sqrt(solution.contact_cost[lane] / points)
    squares -= mean * mean / total
    fit.r_squared = 1.0 - solution.contact_cost[lane] / squares if squares > 0.0 else 0.0
    fit.start = 0
    fit.stop = inside
    fit.samples = inside
    fit.status = 0
