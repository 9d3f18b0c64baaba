# One curve from its survey to its record: its fits, the flags that follow, and the way back to SI.
#
# survey_curve (survey.pxd) looks at one curve; pose_curve puts what is to be fitted into a lane; when the fits of eight curves are
# done, finish_curve fills the record.

from libc.math cimport NAN, sqrt

from fvproc._core.contact cimport detect_contact, first_of_fit
from fvproc._core.edges cimport smoothed_minimum
from fvproc._core.model cimport compliance_power
from fvproc._core.noise cimport set_components, take_components
from fvproc._core.points cimport conclude, pose
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.pull_off cimport is_free, look_at_pull_off
from fvproc._core.types cimport (
    BEYOND_TIP_SHAPE, CONTACT_NOT_FOUND, DMT_DOUBTFUL, FEW_POINTS, FIELDS, FILM_DOUBTFUL, JKR_DOUBTFUL,
    MODULUS_UNBOUNDED, NM, NOISE_CORRELATED, NOT_FINITE, PIECEWISE, POOR_FIT, UNWANTED,
    Branch, ContactFit, Curve, Record, Settings,
)
from fvproc._core.window cimport fit_window

cdef extern from *:
    """
    /* z_0 of the Tabor parameter in m: Johnson & Greenwood, J. Colloid Interface Sci. 192 (1997) 326 */
    #define FVPROC_NEAREST_APPROACH 0.16e-9
    """
    const double NEAREST_APPROACH "FVPROC_NEAREST_APPROACH"

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


cdef inline Branch* fitted_branch(Curve* curve, const Settings* settings) noexcept nogil:
    return &curve.approach if settings.fit_approach else &curve.retract


cdef inline int own_baseline(const Settings* settings, bint approach) noexcept nogil:
    """Parameters of the baseline that a fit of a branch corrects: none of a line that another branch lends."""
    return 0 if settings.baseline_of_approach and not approach else 1 + settings.baseline_order


cdef inline int contact_baseline(const Curve* curve, const Settings* settings) noexcept nogil:
    """Parameters of the baseline that the fit of the approach corrects."""
    # `qnm` measures the far part alone: a contact that reaches into it would count samples twice
    if not settings.maximum_likelihood and curve.approach.free < curve.approach.fitted:
        return 0
    return own_baseline(settings, True)


cdef inline double turning_z(const Branch* branch) noexcept nogil:
    """z at the turning point: of the first sample, or farther where the branch was cut after the time."""
    cdef double first = branch.axis.z[0], highest = branch.axis.z[branch.peak_at]
    return first if first > highest else highest


cdef inline void pose_curve(
    Curve* curve, const Settings* settings, Problem* fits, Problem* contacts, int lane, double* work
) noexcept nogil:
    """Put the two fits of a curve into a lane, each if something is wanted of it."""
    fits.used[lane] = 0
    contacts.used[lane] = 0
    if not curve.fit_count or not (settings.wants_fit or settings.wants_contact):
        return
    if settings.noise_known:
        take_components(&curve.approach, settings.noise_shape[0])
        take_components(&curve.retract, settings.noise_shape[1])
    elif curve.flags & NOISE_CORRELATED:
        set_components(
            &curve.approach, &curve.retract, settings.baseline_order, curve.quantum * curve.quantum / 12.0, work
        )
    if settings.wants_fit:
        pose_fit(curve, settings, fits, lane, work)
    if settings.wants_contact:
        pose_contact(curve, settings, contacts, lane, work)


cdef inline void pose_fit(
    Curve* curve, const Settings* settings, Problem* fits, int lane, double* work
) noexcept nogil:
    """The fit of the contact model; that of `qnm` is done here."""
    cdef Branch* branch = fitted_branch(curve, settings)
    cdef double adhesion = 0.0
    look_at_pull_off(curve, settings)
    if settings.adhesive:
        adhesion = -branch.lowest if branch.pulled else 0.0
        if settings.adhesion_minimum:
            adhesion = -branch.lowest
        elif not settings.maximum_likelihood:
            adhesion = curve.pull_off if not settings.fit_approach else -smoothed_minimum(branch)
    if settings.maximum_likelihood:
        curve.fit_count = branch.fitted
        curve.fit.status = pose(
            branch, 0, curve.fit_count, is_free(settings), adhesion,
            own_baseline(settings, settings.fit_approach), not settings.fit_approach, curve.film_reach, fits, lane
        )
    else:
        fit_window(
            &settings.law, branch, adhesion, branch.noise, curve.film_reach, settings.window_low, settings.window_high,
            work, &curve.fit
        )


cdef inline void pose_contact(
    Curve* curve, const Settings* settings, Problem* contacts, int lane, double* work
) noexcept nogil:
    """The contact point on approach; its detection is done here."""
    cdef Branch* branch = &curve.approach
    cdef Py_ssize_t detected
    curve.contact_begin = 0
    if settings.contact_method != PIECEWISE:
        detected = detect_contact(branch, settings, work, &curve.contact)
        if settings.contact_detected or curve.contact.status != 0:
            curve.contact_count = 0
            return
        curve.contact_begin = first_of_fit(branch, settings, detected)
    curve.contact_count = branch.fitted
    curve.contact.status = pose(
        branch, curve.contact_begin, curve.contact_count, branch.pulled, -branch.lowest if branch.pulled else 0.0,
        contact_baseline(curve, settings), False, curve.film_reach, contacts, lane
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
    record.adhesion = <float>(k * adhesion * NM)
    record.adhesion_std = <float>(k * fit.adhesion_std * NM)
    if settings.fit_approach or not settings.adhesive:
        # the model knows none, or the fit is that of the approach: what pulls the tip off is seen on retract
        record.adhesion = 0.0
        if curve.retract.pulled or settings.adhesion_minimum:
            record.adhesion = <float>(k * curve.pull_off * NM)
        record.adhesion_std = <float>(k * curve.retract.noise * NM)
    depth = turning_z(branch) - fit.z0 - d
    record.contact_point = <float>(fit.z0 * NM)
    record.contact_point_std = <float>(fit.z0_std * NM)
    record.indentation = <float>(depth * NM)
    record.contact_height = <float>(curve.height + record.indentation)
    record.fit_rmse = <float>(k * fit.rmse * NM)
    record.r_squared = <float>fit.r_squared
    record.n_fit = <float>fit.samples
    if fit.samples < 8:
        curve.flags |= FEW_POINTS
    if fit.rmse > 2.0 * branch.noise:
        curve.flags |= POOR_FIT
    # of the compliance, the tip has its share
    if not fit.compliance - settings.tip_share > 3.0 * fit.compliance_std:
        curve.flags |= MODULUS_UNBOUNDED
    lower = reduced_modulus(settings, fit.compliance + 1.6448536269514722 * fit.compliance_std)
    reduced_to_young(settings, lower, &young, &derivative)
    if not young < 1e300:
        # stiffer than the tip alone: what a rigid one would say is less, and so a limit all the same
        young = settings.one_minus_nu2 * lower
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
    if settings.wants_fit and settings.maximum_likelihood and curve.fit.status == 0:
        conclude(
            branch, fits, fit_solution, lane, 0, is_free(settings) and not curve.pull_off_held,
            own_baseline(settings, settings.fit_approach), curve.quantum, &curve.fit
        )
    if settings.wants_fit and curve.fit.status == 0:
        peaks.compliance[lane] = curve.fit.compliance
        peaks.adhesion[lane] = curve.fit.adhesion
        peaks.film_reach[lane] = curve.film_reach
        peaks.travel[lane] = turning_z(branch) - curve.fit.z0
    branch = &curve.approach
    if settings.wants_contact and curve.contact_count > 0 and curve.contact.status == 0:
        conclude(
            branch, contacts, contact_solution, lane, curve.contact_begin, branch.pulled,
            contact_baseline(curve, settings), curve.quantum, &curve.contact
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
    if settings.wants_fit:
        if curve.fit.status != 0:
            curve.flags |= curve.fit.status
        else:
            fill_fit(curve, settings, branch, peaks.d[lane], peaks.rate[lane], record)
    if not settings.wants_contact:
        return
    if curve.contact.status != 0:
        curve.flags |= CONTACT_NOT_FOUND
        return
    record.approach_contact_point = <float>(curve.contact.z0 * NM)
    record.approach_contact_point_std = <float>(curve.contact.z0_std * NM)
    record.snap_in = <float>(settings.spring_constant * curve.snap_in * NM)


cdef inline void seal(Record* record, const unsigned int* fatal, unsigned int flags) noexcept nogil:
    """Make NaN exactly what a fatal flag of its quantity says; anything else that is not finite is a fault.

    What is not asked for has UNWANTED in place of its fatal flags.
    """
    cdef float* value = <float*>record
    cdef float nothing = NAN    # with these bits: ∞·0 has another sign where a processor and not a compiler says so
    cdef unsigned int found = 0, reasons = flags | UNWANTED
    cdef int i
    # no branches: both loops vectorise
    for i in range(FIELDS):
        found |= (not (value[i] - value[i] == 0.0)) & ((reasons & fatal[i]) == 0)
    if found:
        flags |= NOT_FINITE()
        reasons |= NOT_FINITE()
    for i in range(FIELDS):
        value[i] = nothing if reasons & fatal[i] else value[i]
    record.flags = flags
