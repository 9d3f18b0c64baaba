# The survey of one curve: baselines, noise, edges, areas, and the flags that follow; all but the fits.

from libc.math cimport fabs, sqrt

from fvproc._core.axis cimport BLOCKS
from fvproc._core.baseline cimport first_quiet_block, line_of_blocks, measure_noise, noise_level, take_line
from fvproc._core.covariance cimport variance_of_mean
from fvproc._core.edges cimport SIGNIFICANT, faint_width, find_edges, find_faint_jump, find_steps, smoothed_minimum
from fvproc._core.energy cimport adhesion_work, lost_work
from fvproc._core.heights cimport deformation, turning_point
from fvproc._core.points cimport samples_of_fit
from fvproc._core.sums cimport WIDEST_BLOCK, block_means, block_means_of_shorts, subtract_line
from fvproc._core.types cimport (
    BASELINE_TILTED, BASELINE_TOO_SHORT, BLUNT_PULL_OFF, BRANCHES_DISAGREE, CONTACT_NOT_LEFT, INVALID_CURVE,
    MULTIPLE_PULL_OFFS, NM, NO_ADHESION, NO_CONTACT, NO_THICKNESS, NOISE_CORRELATED, SATURATED, SNAP_IN,
    Branch, Curve, Record, Samples, Settings,
)

cdef enum:
    FEWEST_VALID = 32       # samples of a branch that can hold a baseline and a contact
    FEWEST_BASELINE = 8


# The survey of a branch in four parts. survey_curve takes them in turn for the two branches: within one, each has to
# wait for the one before, while a processor works on the other.

cdef inline void average_blocks(
    Branch* branch, const Samples* samples, double unit, float* work, double* means
) noexcept nogil:
    """Means of the blocks, nm, and zeros behind."""
    cdef Py_ssize_t i
    if samples.x != NULL and branch.axis.width <= WIDEST_BLOCK:
        block_means_of_shorts(samples.x, branch.axis.blocks, branch.axis.width, unit, <int*>work, means)
    else:
        block_means(samples.f, branch.axis.blocks, branch.axis.width, unit, work, means)
    for i in range(8):
        means[branch.axis.blocks + i] = 0.0


cdef inline void survey_far_part(
    Branch* branch, const Settings* settings, const Samples* samples, double unit, double quantum, const double* means
) noexcept nogil:
    """Line and noise of the part that is baseline by definition."""
    cdef Py_ssize_t first = branch.axis.far * branch.axis.width
    cdef float lowest, highest
    line_of_blocks(
        &branch.axis, means, branch.axis.far, settings.baseline_order, &branch.offset, &branch.tilt
    )
    subtract_line(
        samples, first, branch.axis.n, branch.axis.zeta, unit, branch.offset, branch.tilt, branch.d, &lowest, &highest
    )
    measure_noise(branch, first, settings.baseline_order, quantum)


cdef inline void survey_baseline(
    Branch* branch, const Branch* other, const Settings* settings, const Samples* samples, double unit,
    const double* means
) noexcept nogil:
    """Take the baseline off; other: the branch that lends its line.

    With `ml` the baseline is fitted again over all of the non-contact part: the far part of a sinusoidal ramp covers a
    short way, and its line, carried on to the contact, errs by several times the noise of a sample.
    """
    cdef Py_ssize_t start = branch.axis.far
    cdef double offset = branch.offset, tilt = branch.tilt
    if other != NULL:
        offset = other.offset + other.tilt * (branch.axis.centre - other.axis.centre) + other.level - branch.level
        tilt = other.tilt
    elif settings.maximum_likelihood:
        start = first_quiet_block(
            &branch.axis, means, offset, tilt, settings.baseline_order, noise_level(branch, settings),
            settings.noise_known
        )
        line_of_blocks(&branch.axis, means, start, settings.baseline_order, &offset, &tilt)
    take_line(branch, samples, unit, offset, tilt)
    branch.start = start * branch.axis.width


cdef inline void survey_edges(
    Branch* branch, const Branch* other, const Settings* settings, bint retract
) noexcept nogil:
    """Edges of the contact, and which samples a fit looks at."""
    cdef Py_ssize_t first
    cdef double noise, doubt
    find_edges(branch, &settings.law, retract)
    if retract:
        # a curve that tells its own slow noise tells it too badly for this
        if settings.maximum_likelihood and settings.adhesive and not settings.adhesion_minimum and (
            settings.noise_known or not branch.correlated
        ):
            first = faint_width(branch)
            if first > 0:
                find_faint_jump(branch, first, variance_of_mean(branch, first, settings, settings.noise_shape[1]))
        doubt = 0.0
        if branch.pulled and (other != NULL or not settings.maximum_likelihood):
            # the far part's line, carried on to here
            first = branch.end // branch.axis.width
            first = first if first < branch.axis.blocks else branch.axis.blocks - 1
            doubt = 4.0 * sqrt(noise_level(branch, settings) * branch.axis.tolerance[first])
        # few samples, and correlated ones, tell less noise than there is
        first = branch.axis.far * branch.axis.width
        noise = branch.noise * sqrt(branch.inflation) * (1.0 + 24.0 / (branch.axis.n - first))
        find_steps(branch, noise, doubt, settings.maximum_likelihood and not settings.adhesion_minimum)
    # once: the noise is measured anew behind, and no sample may count twice, as one of the fit and as a free one
    branch.fitted = samples_of_fit(branch)
    if branch.start < branch.back:
        branch.start = branch.back if branch.back < branch.axis.n else branch.axis.n


cdef inline void survey_free_part(Branch* branch, const Settings* settings, double quantum) noexcept nogil:
    """Noise of all samples free of contact, which `ml` asks for."""
    cdef Py_ssize_t first = branch.back + 1 if branch.ends else branch.fitted
    if first < branch.start:
        first = branch.start
    if settings.maximum_likelihood and first < branch.axis.n - FEWEST_BASELINE:
        measure_noise(branch, first, settings.baseline_order, quantum)


cdef inline unsigned int judge_contact(const Branch* branch) noexcept nogil:
    """Fatal flags of a branch that holds no measurable contact, or nothing else."""
    cdef double top, edge = 0.0, inflation = branch.inflation if branch.inflation < 8.0 else 8.0
    cdef Py_ssize_t i, far = branch.axis.far * branch.axis.width
    if not branch.peak > (SIGNIFICANT + 1) * branch.noise:
        return NO_CONTACT
    if branch.zero >= branch.axis.n or branch.end >= branch.axis.n:
        return CONTACT_NOT_LEFT
    # a drifting baseline may stay above zero for long after contact; a tenth of the peak force is no drift, and four
    # standard errors of the mean of eight are no noise
    for i in range(far - 8, far):
        edge += branch.d[i]
    if edge > 0.8 * branch.peak and edge > 4.0 * branch.noise * sqrt(8.0 * inflation):
        return CONTACT_NOT_LEFT
    # a baseline with a good part of the contact's own slope is contact, not baseline
    top = branch.tilt + branch.peak / (branch.axis.z[branch.peak_at] - branch.axis.z[branch.zero])
    if branch.tilt > 0.2 * top:
        return CONTACT_NOT_LEFT
    return 0


cdef inline void survey_curve(
    Curve* curve, const Settings* settings, const Samples* approach_samples, const Samples* retract_samples,
    float* work, double* means, Record* record
) noexcept nogil:
    """Baselines, edges, areas, heights: all but the fits."""
    cdef Branch* approach = &curve.approach
    cdef Branch* retract = &curve.retract
    cdef const Branch* other = approach if settings.baseline_of_approach else NULL
    cdef double k = settings.spring_constant, noise, top, at = 0.0
    curve.fit_count = 0
    curve.contact_count = 0
    if approach.axis.n < FEWEST_VALID or retract.axis.n < FEWEST_VALID:
        curve.flags |= INVALID_CURVE
        return
    if (
        <Py_ssize_t>(settings.baseline_fraction * approach.axis.n) < FEWEST_BASELINE
        or <Py_ssize_t>(settings.baseline_fraction * retract.axis.n) < FEWEST_BASELINE
    ):
        curve.flags |= BASELINE_TOO_SHORT
        return
    average_blocks(approach, approach_samples, curve.unit_approach, work, means)
    average_blocks(retract, retract_samples, curve.unit_retract, work, means + BLOCKS)
    survey_far_part(approach, settings, approach_samples, curve.unit_approach, curve.quantum, means)
    survey_far_part(retract, settings, retract_samples, curve.unit_retract, curve.quantum, means + BLOCKS)
    survey_baseline(approach, NULL, settings, approach_samples, curve.unit_approach, means)
    survey_baseline(retract, other, settings, retract_samples, curve.unit_retract, means + BLOCKS)
    survey_edges(approach, NULL, settings, False)
    survey_edges(retract, other, settings, True)
    survey_free_part(approach, settings, curve.quantum)
    survey_free_part(retract, settings, curve.quantum)
    noise = retract.noise
    top = approach.peak if approach.peak > retract.peak else retract.peak
    record.baseline_noise = <float>(k * noise * NM)
    record.peak_force = <float>(k * top * NM)
    if retract.correlated or approach.correlated or settings.noise_known:
        curve.flags |= NOISE_CORRELATED
    curve.flags |= judge_contact(approach)
    curve.flags |= judge_contact(retract)
    if curve.flags & (NO_CONTACT | CONTACT_NOT_LEFT):
        return
    if (
        fabs(retract.tilt) * (retract.axis.z[0] - retract.axis.z[retract.axis.n - 1]) > 0.2 * retract.peak
        or fabs(approach.tilt) * (approach.axis.z[0] - approach.axis.z[approach.axis.n - 1]) > 0.2 * approach.peak
    ):
        curve.flags |= BASELINE_TILTED
    if fabs(approach.d[0] - retract.d[0]) > 0.1 * top + 6.0 * noise:
        curve.flags |= BRANCHES_DISAGREE
    if settings.adhesive and not retract.pulled:
        curve.flags |= NO_ADHESION
    if retract.several:
        curve.flags |= MULTIPLE_PULL_OFFS
    if retract.jump_width > 0.0:
        curve.flags |= BLUNT_PULL_OFF
    if settings.wants_areas:
        record.dissipation = <float>(k * lost_work(approach, retract) * NM * NM)
        record.adhesion_energy = <float>(k * adhesion_work(retract) * NM * NM)
    if settings.wants_deformation or (settings.wants_height and curve.height != curve.height):
        turning_point(approach, &top, &at)
        if curve.height != curve.height:
            curve.height = (top - at) * NM
    record.height = <float>(curve.height)
    if curve.flags & (SATURATED | NO_THICKNESS):
        return
    curve.fit_count = 1
    curve.contact_count = 1
    if approach.pulled:
        curve.flags |= SNAP_IN
    if settings.wants_deformation:
        record.deformation = <float>(deformation(approach, settings.deformation_region, top, at) * NM)
    if settings.wants_contact:
        curve.snap_in = -smoothed_minimum(approach)
