# The adhesion as the samples show it: where no fit tells it, and where that of a fit contradicts them.
#
# Where a contact does not behave as its model, a fit with a free adhesion takes one that bends the model to the upper part
# of the contact, many times what the lowest samples say, with an error that knows of noise alone. Such a curve is
# fitted again with the adhesion that the samples show, and says so. The root of JKR's adhesion has no derivative at zero,
# where a fit sticks whose noise asks for less: without a pull-off to be seen such a one is fitted again with none.

from fvproc._core.edges cimport smoothed_minimum
from fvproc._core.fit cimport minimise
from fvproc._core.lanes cimport LANES
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.solve cimport PARAMETERS
from fvproc._core.types cimport JKR, PULL_OFF_DISAGREES, Branch, Curve, Settings

cdef enum:
    NOT_NOISE = 6       # multiples of the noise


cdef inline bint is_free(const Settings* settings) noexcept nogil:
    """Whether the adhesion is one of the parameters of the fit."""
    return settings.maximum_likelihood and settings.adhesive and not settings.adhesion_minimum


cdef inline void look_at_pull_off(Curve* curve, const Settings* settings) noexcept nogil:
    """Set pull_off, where it may be asked for: later the samples are those of another curve."""
    cdef const Branch* branch = &curve.retract
    curve.pull_off_held = False
    if settings.adhesion_minimum:
        curve.pull_off = -branch.lowest
    elif branch.pulled or not is_free(settings) or settings.fit_approach:
        curve.pull_off = -smoothed_minimum(branch)


cdef inline bint has_none(const Branch* branch, const Solution* solution, int lane, bint jkr) noexcept nogil:
    """Whether a fit of JKR's without a pull-off to be seen has come to the end of its parameter."""
    return jkr and not branch.pulled and (solution.failed[lane] > 0.5 or not solution.theta[2][lane] > 0.0)


cdef inline bint contradicts(const Curve* curve, const Solution* solution, int lane, bint jkr) noexcept nogil:
    """Whether a fit's lowest force is not that of the samples, or there is no fit.

    It may be deeper by what the force falls by between two samples, which is no more than they lie apart; it is not
    less deep, but where the force comes back slowly: there the contact may have ended before the lowest sample.
    """
    cdef const Branch* branch = &curve.retract
    cdef const double* z = branch.axis.z
    cdef Py_ssize_t at = branch.lowest_at, before = at - 1 if at > 0 else 0, behind = at + 1
    cdef double a = solution.theta[2][lane], off
    if solution.failed[lane] > 0.5:
        return True
    if jkr:
        a = a * a if a > 0.0 else -a * a
    if behind < branch.off:
        behind = branch.off
    if behind > branch.axis.n - 1:
        behind = branch.axis.n - 1
    off = a - solution.theta[3][lane] - solution.theta[4][lane] * (z[at] - branch.axis.centre) - curve.pull_off
    if not off <= z[before] - z[behind] + NOT_NOISE * branch.noise:
        return True
    return off < -NOT_NOISE * branch.noise and not branch.jump_width > 0.0


cdef inline void take_lane(const Solution* source, int lane, Solution* target) noexcept nogil:
    """All that a fit ends in but influences, which are made of it."""
    cdef int j, k
    for j in range(PARAMETERS):
        target.theta[j][lane] = source.theta[j][lane]
        for k in range(3):
            target.columns[k][j][lane] = source.columns[k][j][lane]
    for k in range(3):
        target.inverse[k][lane] = source.inverse[k][lane]
    target.end[lane] = source.end[lane]
    target.cost[lane] = source.cost[lane]
    target.contact_cost[lane] = source.contact_cost[lane]
    target.failed[lane] = source.failed[lane]
    target.inside[lane] = source.inside[lane]
    target.squares[lane] = source.squares[lane]


cdef inline void hold_pull_offs(
    Curve* curves, int count, const Settings* settings, Problem* problem, Solution* solution, Solution* again
) noexcept nogil:
    """Fit curves whose fit contradicts their pull-off with that one; the others stay as they are."""
    cdef int lane, i
    cdef const Branch* branch
    cdef bint[8] held
    cdef bint found = False, jkr = problem.law.kind == JKR
    if not is_free(settings):
        return
    for lane in range(LANES):
        held[lane] = False
        if lane >= count or problem.used[lane] == 0 or problem.idle[lane] > 0.5:
            continue
        branch = &curves[lane].approach if settings.fit_approach else &curves[lane].retract
        if has_none(branch, solution, lane, jkr):
            held[lane] = True
        elif branch.pulled and not settings.fit_approach and curves[lane].pull_off > 0.0:
            held[lane] = contradicts(&curves[lane], solution, lane, jkr)
            if held[lane]:
                curves[lane].flags |= PULL_OFF_DISAGREES
        found = found or held[lane]
    if not found:
        return
    for lane in range(LANES):
        if not held[lane]:
            problem.idle[lane] = 1.0
            continue
        curves[lane].pull_off_held = True
        problem.adhesion[lane] = 0.0
        if curves[lane].flags & PULL_OFF_DISAGREES:
            problem.adhesion[lane] = curves[lane].pull_off
        problem.holds[0][lane] = 1.0
        problem.anchor_weight[lane] = 0.0
        problem.per_reach[lane] = 0.0
    # the bend within a point has been taken off
    for i in range(problem.points * LANES):
        problem.spread[i] = 0.0
    minimise(problem, again)
    for lane in range(count):
        if curves[lane].pull_off_held:
            take_lane(again, lane, solution)
            if again.failed[lane] > 0.5:
                curves[lane].flags &= ~<unsigned int>PULL_OFF_DISAGREES     # nothing was fitted
