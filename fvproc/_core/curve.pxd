# One curve from its two branches to its record: the order of the steps, the flags, and the way back to SI.
#
# survey_curve looks at one curve; pose_curve puts what is to be fitted into a lane; when the fits of eight curves are
# done, finish_curve fills the record.

from libc.math cimport fabs, sqrt

from fvproc._core.axis cimport make_axis
from fvproc._core.baseline cimport first_quiet_block, line_of_blocks, measure_noise, take_line
from fvproc._core.contact cimport detect_contact, first_of_fit
from fvproc._core.edges cimport SIGNIFICANT, find_edges, find_steps, smoothed_minimum
from fvproc._core.energy cimport adhesion_work, lost_work
from fvproc._core.fit cimport Problem, Solution
from fvproc._core.model cimport compliance_power
from fvproc._core.noise cimport set_components
from fvproc._core.points cimport conclude, pose, samples_of_fit
from fvproc._core.sums cimport block_means, first_at_most, subtract_line
from fvproc._core.types cimport (
    BASELINE_TILTED, BASELINE_TOO_SHORT, BEYOND_TIP_SHAPE, BLUNT_PULL_OFF, BRANCHES_DISAGREE, CONTACT_NOT_FOUND,
    CONTACT_NOT_LEFT, DMT_DOUBTFUL, FEW_POINTS, FIELDS, FILM_DOUBTFUL, INVALID_CURVE, JKR_DOUBTFUL,
    MODULUS_UNBOUNDED, MULTIPLE_PULL_OFFS, NO_ADHESION, NO_CONTACT, NO_THICKNESS, NOISE_CORRELATED, NOT_FINITE,
    PIECEWISE, POOR_FIT, SATURATED, SNAP_IN,
    Branch, ContactFit, Record, Settings,
)
from fvproc._core.window cimport fit_window

cdef enum:
    FEWEST_VALID = 32       # samples of a branch that can hold a baseline and a contact
    FEWEST_BASELINE = 8

cdef extern from *:
    """
    #define FVPROC_NM 1e-9
    /* z_0 of the Tabor parameter in m: Johnson & Greenwood, J. Colloid Interface Sci. 192 (1997) 326 */
    #define FVPROC_NEAREST_APPROACH 0.16e-9
    """
    const double NM "FVPROC_NM"
    const double NEAREST_APPROACH "FVPROC_NEAREST_APPROACH"


# One curve on its way. The branches' samples lie in scratch of its own.
cdef struct Curve:
    Branch approach
    Branch retract
    ContactFit fit
    ContactFit contact          # on approach
    Py_ssize_t fit_count        # samples that the fits look at; 0 where there is none to do
    Py_ssize_t contact_begin
    Py_ssize_t contact_count    # 0 where the contact is taken as detected
    double unit_approach        # nm per raw number
    double unit_retract
    double quantum              # nm, a step of the converter
    double height               # m, of the scanner; NaN where there is none
    double film_reach           # χ = film_reach·δ^(…), 1/nm^(…); 0 without a film
    unsigned int flags

# The contacts of eight curves at their turning points: in (nm), and what the model makes of it.
cdef struct Peaks:
    double[8] compliance
    double[8] adhesion
    double[8] film_reach
    double[8] travel            # z − z0
    double[8] d
    double[8] rate              # ∂d/∂z

cdef inline void reduced_to_young(
    const Settings* settings, double reduced, double* young, double* derivative
) noexcept nogil:
    """E = (1 − ν²)/(1/E* − (1 − ν_t²)/E_t) and dE/dE*; a contact stiffer than the tip allows gives infinity."""
    cdef double left = 1.0 / reduced - settings.tip_compliance
    if left <= 0.0:
        young[0] = 1e300 * 1e300
        derivative[0] = young[0]
        return
    young[0] = settings.one_minus_nu2 / left
    derivative[0] = settings.one_minus_nu2 / (left * left * reduced * reduced)


cdef inline double reduced_modulus(const Settings* settings, double compliance) noexcept nogil:
    """E* in Pa from the compliance B (nm)."""
    return settings.spring_constant * settings.modulus_scale / compliance_power(&settings.law, compliance)


cdef inline void survey_branch(
    Branch* branch, const Branch* other, const Settings* settings, const float* f, double unit, double quantum,
    bint retract, float* work, double* means
) noexcept nogil:
    """Baseline, noise and edges of a branch; f: its samples in raw numbers; other: the branch that lends its line.

    With `ml` the baseline is fitted again over all of the non-contact part: the far part of a sinusoidal ramp covers a
    short way, and its line, carried on to the contact, errs by several times the noise of a sample.
    """
    cdef Py_ssize_t far = branch.axis.far, start = far, first = far * branch.axis.width
    cdef double offset, tilt, noise, doubt
    cdef float lowest, highest
    block_means(f, branch.axis.blocks, branch.axis.width, unit, work, means)
    line_of_blocks(&branch.axis, means, far, settings.baseline_order, &offset, &tilt)
    subtract_line(
        f + first, branch.axis.zeta + first, branch.axis.n - first, unit, offset, tilt, branch.d + first,
        &lowest, &highest
    )
    measure_noise(branch, first, settings.baseline_order, quantum)
    if other != NULL:
        offset = other.offset + other.tilt * (branch.axis.centre - other.axis.centre)
        tilt = other.tilt
    elif settings.maximum_likelihood:
        start = first_quiet_block(
            &branch.axis, means, offset, tilt, branch.noise * branch.noise * branch.inflation
        )
        line_of_blocks(&branch.axis, means, start, settings.baseline_order, &offset, &tilt)
    take_line(branch, f, unit, offset, tilt)
    branch.start = start * branch.axis.width
    find_edges(branch)
    if retract:
        doubt = 0.0
        if branch.pulled and (other != NULL or not settings.maximum_likelihood):
            # the far part's line, carried on to here
            first = branch.end // branch.axis.width
            first = first if first < branch.axis.blocks else branch.axis.blocks - 1
            doubt = 4.0 * branch.noise * sqrt(branch.inflation * branch.axis.tolerance[first])
        # few samples, and correlated ones, tell less noise than there is
        noise = branch.noise * sqrt(branch.inflation) * (1.0 + 24.0 / (branch.axis.n - far * branch.axis.width))
        find_steps(branch, noise, doubt, settings.maximum_likelihood and not settings.adhesion_minimum)
    if branch.start < branch.back:
        branch.start = branch.back if branch.back < branch.axis.n else branch.axis.n
    if settings.maximum_likelihood:
        first = branch.back + 1 if branch.ends else samples_of_fit(branch)
        if first < branch.start:
            first = branch.start
        if first < branch.axis.n - FEWEST_BASELINE:
            measure_noise(branch, first, settings.baseline_order, quantum)


cdef inline unsigned int judge_contact(const Branch* branch) noexcept nogil:
    """Fatal flags of a branch that holds no measurable contact, or nothing else."""
    cdef double top, edge = 0.0
    cdef Py_ssize_t i, far = branch.axis.far * branch.axis.width
    if not branch.peak > (SIGNIFICANT + 1) * branch.noise:
        return NO_CONTACT
    if branch.zero >= branch.axis.n or branch.end >= branch.axis.n:
        return CONTACT_NOT_LEFT
    # a drifting baseline may stay above zero for long after contact; a tenth of the peak force is no drift
    for i in range(far - 8, far):
        edge += branch.d[i]
    if edge > 0.8 * branch.peak:
        return CONTACT_NOT_LEFT
    # a baseline with a good part of the contact's own slope is contact, not baseline
    top = branch.tilt + branch.peak / (branch.axis.z[branch.peak_at] - branch.axis.z[branch.zero])
    if branch.tilt > 0.2 * top:
        return CONTACT_NOT_LEFT
    return 0


cdef inline double deformation(const Branch* branch, double region) noexcept nogil:
    """Separation at (1 − region) of the peak force minus separation at the peak, nm.

    Reached on every branch that passes judge_contact: its force falls to zero. Noise may make it negative.
    """
    cdef double level = (1.0 - region) * branch.peak, at
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t i = first_at_most(d, <float>level, branch.peak_at + 1, branch.axis.n)
    if i >= branch.axis.n:
        return 0.0
    at = z[i] + (level - d[i]) * (z[i - 1] - z[i]) / (d[i - 1] - d[i])
    return (level - at) - (branch.peak - z[branch.peak_at])


cdef inline void survey_curve(
    Curve* curve, const Settings* settings, const float* f_approach, const float* f_retract, float* work,
    double* means, Record* record
) noexcept nogil:
    """Baselines, edges, areas, heights: all but the fits."""
    cdef Branch* approach = &curve.approach
    cdef Branch* retract = &curve.retract
    cdef double k = settings.spring_constant, noise, top
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
    survey_branch(approach, NULL, settings, f_approach, curve.unit_approach, curve.quantum, False, work, means)
    survey_branch(
        retract, approach if settings.baseline_of_approach else NULL, settings, f_retract, curve.unit_retract,
        curve.quantum, True, work, means
    )
    noise = retract.noise
    top = approach.peak if approach.peak > retract.peak else retract.peak
    record.baseline_noise = <float>(k * noise * NM)
    record.peak_force = <float>(k * top * NM)
    if retract.correlated or approach.correlated:
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
    record.dissipation = <float>(k * lost_work(approach, retract) * NM * NM)
    record.adhesion_energy = <float>(k * adhesion_work(retract) * NM * NM)
    record.height = <float>(curve.height)
    if curve.height != curve.height:
        curve.height = (approach.peak - approach.axis.z[approach.peak_at]) * NM
        record.height = <float>(curve.height)
    if curve.flags & (SATURATED | NO_THICKNESS):
        return
    curve.fit_count = 1
    curve.contact_count = 1
    if approach.pulled:
        curve.flags |= SNAP_IN
    record.deformation = <float>(deformation(approach, settings.deformation_region) * NM)


cdef inline Branch* fitted_branch(Curve* curve, const Settings* settings) noexcept nogil:
    return &curve.approach if settings.fit_approach else &curve.retract


cdef inline int own_baseline(const Settings* settings) noexcept nogil:
    """Parameters of the baseline that a fit corrects."""
    return 0 if settings.baseline_of_approach or not settings.maximum_likelihood else 1 + settings.baseline_order


cdef inline void pose_curve(
    Curve* curve, const Settings* settings, Problem* fits, Problem* contacts, int lane, double* work
) noexcept nogil:
    """Put the two fits of a curve into a lane; `qnm` and the detection of the contact are done here."""
    cdef Branch* branch = fitted_branch(curve, settings)
    cdef double adhesion = 0.0
    cdef Py_ssize_t detected
    fits.used[lane] = 0
    contacts.used[lane] = 0
    if not curve.fit_count:
        return
    if curve.flags & NOISE_CORRELATED:
        set_components(
            &curve.approach, &curve.retract, settings.baseline_order, curve.quantum * curve.quantum / 12.0, work
        )
    if settings.adhesive:
        adhesion = -branch.lowest if branch.pulled else 0.0
        if settings.adhesion_minimum:
            adhesion = -branch.lowest
        elif not settings.maximum_likelihood:
            adhesion = -smoothed_minimum(branch)
    if settings.maximum_likelihood:
        curve.fit_count = samples_of_fit(branch)
        curve.fit.status = pose(
            branch, 0, curve.fit_count, settings.adhesive and not settings.adhesion_minimum, adhesion,
            own_baseline(settings), not settings.fit_approach, curve.film_reach, fits, lane
        )
    else:
        fit_window(
            &settings.law, branch, adhesion, branch.noise, curve.film_reach, settings.window_low, settings.window_high,
            work, &curve.fit
        )
    branch = &curve.approach
    curve.contact_begin = 0
    if settings.contact_method != PIECEWISE:
        detected = detect_contact(branch, settings, work, &curve.contact)
        if settings.contact_detected or curve.contact.status != 0:
            curve.contact_count = 0
            return
        curve.contact_begin = first_of_fit(branch, settings, detected)
    curve.contact_count = samples_of_fit(branch)
    curve.contact.status = pose(
        branch, curve.contact_begin, curve.contact_count, branch.pulled, -branch.lowest if branch.pulled else 0.0,
        own_baseline(settings), False, curve.film_reach, contacts, lane
    )


cdef inline void fill_fit(
    Curve* curve, const Settings* settings, Branch* branch, double d, double rate, Record* record
) noexcept nogil:
    """Everything that follows from the fit of the contact model; d and ∂d/∂z: what it gives at the turning point."""
    cdef ContactFit* fit = &curve.fit
    cdef double k = settings.spring_constant, depth, exponent, reduced, young, derivative, lower, adhesion, tabor
    cdef double r, w
    exponent = <double>settings.law.load_power / settings.law.depth_power
    adhesion = fit.adhesion
    depth = branch.axis.z[0] - fit.z0 - d
    record.contact_point = <float>(fit.z0 * NM)
    record.contact_point_std = <float>(fit.z0_std * NM)
    record.adhesion = <float>(k * adhesion * NM)
    record.adhesion_std = <float>(k * fit.adhesion_std * NM)
    record.indentation = <float>(depth * NM)
    record.contact_height = <float>(curve.height + record.indentation)
    record.fit_rmse = <float>(k * fit.rmse * NM)
    record.r_squared = <float>fit.r_squared
    record.n_fit = <float>fit.samples
    if fit.samples < 8:
        curve.flags |= FEW_POINTS
    if fit.rmse > 2.0 * branch.noise:
        curve.flags |= POOR_FIT
    if not fit.compliance > 3.0 * fit.compliance_std:
        curve.flags |= MODULUS_UNBOUNDED
    lower = reduced_modulus(settings, fit.compliance + 1.6448536269514722 * fit.compliance_std)
    reduced_to_young(settings, lower, &young, &derivative)
    record.modulus_lower = <float>young
    if curve.flags & MODULUS_UNBOUNDED:
        return
    reduced = reduced_modulus(settings, fit.compliance)
    reduced_to_young(settings, reduced, &young, &derivative)
    record.reduced_modulus = <float>reduced
    record.modulus = <float>young
    record.modulus_std = <float>(derivative * reduced * exponent * fit.compliance_std / fit.compliance)
    if settings.stiffness_of_window:
        record.stiffness = <float>(k * fit.slope)
    else:
        # dδ = dz − dd
        record.stiffness = <float>(k * rate / (1.0 - rate))
    if settings.tip_radius > 0.0 and depth > 0.5 * settings.tip_radius:
        curve.flags |= BEYOND_TIP_SHAPE
    if settings.law.film and fit.reach * (
        sqrt(depth) if settings.law.reach_power == 1 else depth
    ) > settings.law.limit:
        curve.flags |= FILM_DOUBTFUL
    if settings.tabor and adhesion > 0.0:
        # F_adh = 2π·w·R (DMT), (3/2)·π·w·R (JKR)
        r = settings.tip_radius * NM
        w = k * adhesion * NM / ((6.283185307179586 if settings.tabor > 0 else 4.71238898038469) * r)
        tabor = r * w * w / (reduced * reduced * NEAREST_APPROACH * NEAREST_APPROACH * NEAREST_APPROACH)
        if settings.tabor > 0 and tabor > 1.0:
            curve.flags |= DMT_DOUBTFUL
        if settings.tabor < 0 and tabor < 1.0:
            curve.flags |= JKR_DOUBTFUL


cdef inline void conclude_curve(
    Curve* curve, const Settings* settings, const Problem* fits, const Solution* fit_solution,
    const Problem* contacts, const Solution* contact_solution, int lane, Peaks* peaks
) noexcept nogil:
    """Take what the fits of a lane gave, and lay its turning point ready."""
    cdef Branch* branch = fitted_branch(curve, settings)
    peaks.compliance[lane] = 1.0
    peaks.adhesion[lane] = 0.0
    peaks.film_reach[lane] = 0.0
    peaks.travel[lane] = 1.0
    if not curve.fit_count:
        return
    if settings.maximum_likelihood and curve.fit.status == 0:
        conclude(
            branch, fits, fit_solution, lane, 0, settings.adhesive and not settings.adhesion_minimum,
            own_baseline(settings), curve.quantum, &curve.fit
        )
    if curve.fit.status == 0:
        peaks.compliance[lane] = curve.fit.compliance
        peaks.adhesion[lane] = curve.fit.adhesion
        peaks.film_reach[lane] = curve.film_reach
        peaks.travel[lane] = branch.axis.z[0] - curve.fit.z0
    branch = &curve.approach
    if curve.contact_count > 0 and curve.contact.status == 0:
        conclude(
            branch, contacts, contact_solution, lane, curve.contact_begin, branch.pulled, own_baseline(settings),
            curve.quantum, &curve.contact
        )
        if not (branch.axis.z[branch.axis.n - 1] < curve.contact.z0 < branch.axis.z[0]):
            curve.contact.status = CONTACT_NOT_FOUND


cdef inline void finish_curve(
    Curve* curve, const Settings* settings, const Peaks* peaks, int lane, Record* record
) noexcept nogil:
    """Fill the record with what the fits of a lane gave."""
    cdef Branch* branch = fitted_branch(curve, settings)
    if not curve.fit_count:
        return
    if curve.fit.status != 0:
        curve.flags |= curve.fit.status
    else:
        fill_fit(curve, settings, branch, peaks.d[lane], peaks.rate[lane], record)
    branch = &curve.approach
    if curve.contact.status != 0:
        curve.flags |= CONTACT_NOT_FOUND
        return
    record.approach_contact_point = <float>(curve.contact.z0 * NM)
    record.approach_contact_point_std = <float>(curve.contact.z0_std * NM)
    record.snap_in = <float>(-settings.spring_constant * smoothed_minimum(branch) * NM)


cdef inline void seal(Record* record, const unsigned int* fatal, unsigned int flags) noexcept nogil:
    """Make NaN exactly what a fatal flag of its quantity says; anything else that is not finite is a fault."""
    cdef float* value = <float*>record
    cdef float nothing = <float>((1e300 * 1e300) * 0.0)
    cdef int i
    for i in range(FIELDS):
        if not (flags & fatal[i]) and not (value[i] - value[i] == 0.0):
            flags |= NOT_FINITE()
    for i in range(FIELDS):
        if flags & fatal[i]:
            value[i] = nothing
    record.flags = flags
