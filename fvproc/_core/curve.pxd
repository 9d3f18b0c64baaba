# One curve from its two branches to its record: the order of the steps, the flags, and the way back to SI.

from libc.math cimport fabs, sqrt

from fvproc._core.baseline cimport (
    extend_baseline, fit_baseline, line_through, measure_noise, subtract_baseline,
)
from fvproc._core.contact cimport piecewise_contact, threshold_contact
from fvproc._core.edges cimport SIGNIFICANT, find_end_of_contact, find_peak, smoothed_minimum
from fvproc._core.energy cimport adhesion_work, lost_work
from fvproc._core.fit cimport fit_contact
from fvproc._core.lanes cimport line_sums
from fvproc._core.model cimport compliance_power, indentation_shape, model_load
from fvproc._core.types cimport (
    BASELINE_TILTED, BASELINE_TOO_SHORT, BEYOND_TIP_SHAPE, BRANCHES_DISAGREE, CONE, CONTACT_NOT_FOUND,
    CONTACT_NOT_LEFT, DMT_DOUBTFUL, FEW_POINTS, FIELDS, INVALID_CURVE,
    MODULUS_UNBOUNDED, NO_ADHESION, NO_CONTACT, NOISE_CORRELATED, NOT_FINITE, POOR_FIT, SATURATED, SNAP_IN,
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


cdef struct Curve:
    Branch approach
    Branch retract
    ContactFit fit
    ContactFit contact          # on approach
    double quantum              # nm, a step of the converter
    double height               # m, of the scanner; NaN where there is none
    unsigned int flags


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
    """E* in Pa from the compliance B (nm): K = k/B^m, lengths to metres."""
    cdef double stiffness = settings.spring_constant * NM / compliance_power(settings.model, compliance)
    # nm^m to m^m: 1e9^(3/2) = 1e9·√1e9, 1e9² = 1e18
    stiffness *= 1e18 if settings.model == CONE else 31622776601683.793
    return settings.reduced_per_stiffness * stiffness


cdef inline void prepare(Branch* branch, const Settings* settings, double quantum, double* work) noexcept nogil:
    fit_baseline(branch, settings.baseline_fraction, settings.baseline_order)
    subtract_baseline(branch, branch.offset, branch.tilt, branch.centre)
    measure_noise(branch, settings.baseline_order, quantum, work)


cdef inline void refine(Branch* branch, const Settings* settings, double quantum, double* work) noexcept nogil:
    """Fit the baseline again over all of the non-contact part, and find the edges anew.

    The far part of a sinusoidal ramp covers a short way: its line, carried on to the contact, errs by several
    times the noise of one sample.
    """
    cdef double[6] sums
    cdef double offset, tilt
    cdef Py_ssize_t start = extend_baseline(branch, branch.end + (1 if branch.pulled else 0), settings.baseline_order)
    if start >= branch.far:
        return
    line_sums(branch.z + start, branch.d + start, branch.n - start, branch.centre, sums)
    line_through(sums, settings.baseline_order, &offset, &tilt)
    subtract_baseline(branch, offset, tilt, branch.centre)
    branch.offset += offset
    branch.tilt += tilt
    branch.far = start
    measure_noise(branch, settings.baseline_order, quantum, work)
    find_peak(branch)
    find_end_of_contact(branch)


cdef inline void take_baseline(Branch* branch, const Branch* other) noexcept nogil:
    """Replace the branch's own baseline by the other's."""
    subtract_baseline(branch, -branch.offset, -branch.tilt, branch.centre)
    branch.offset = other.offset + other.tilt * (branch.centre - other.centre)
    branch.tilt = other.tilt
    subtract_baseline(branch, branch.offset, branch.tilt, branch.centre)


cdef inline unsigned int judge_contact(const Branch* branch, double fraction) noexcept nogil:
    """Fatal flags of a branch that holds no measurable contact, or nothing else."""
    cdef double top, edge = 0.0
    cdef Py_ssize_t i, far = branch.n - <Py_ssize_t>(fraction * branch.n)
    if not branch.peak > (SIGNIFICANT + 1) * branch.noise:
        return NO_CONTACT
    if branch.zero >= branch.n or branch.end >= branch.n:
        return CONTACT_NOT_LEFT
    # a drifting baseline may stay above zero for long after contact; a tenth of the peak force is no drift
    for i in range(far - 8, far):
        edge += branch.d[i]
    if edge > 0.8 * branch.peak:
        return CONTACT_NOT_LEFT
    # a baseline with a good part of the contact's own slope is contact, not baseline
    top = branch.tilt + branch.peak / (branch.z[branch.peak_at] - branch.z[branch.zero])
    if branch.tilt > 0.2 * top:
        return CONTACT_NOT_LEFT
    return 0


cdef inline double deformation(const Branch* branch, double region) noexcept nogil:
    """Separation at (1 − region) of the peak force minus separation at the peak, nm.

    Reached on every branch that passes judge_contact: its force falls to zero. Noise may make it negative.
    """
    cdef double level = (1.0 - region) * branch.peak, z
    cdef Py_ssize_t i
    for i in range(branch.peak_at + 1, branch.n):
        if branch.d[i] < level:
            z = branch.z[i] + (level - branch.d[i]) * (branch.z[i - 1] - branch.z[i]) / (branch.d[i - 1] - branch.d[i])
            return (level - z) - (branch.peak - branch.z[branch.peak_at])
    return 0.0


cdef inline void fill_fit(Curve* curve, const Settings* settings, Branch* branch, Record* record) noexcept nogil:
    """Everything that follows from the fit of the contact model."""
    cdef ContactFit* fit = &curve.fit
    cdef double k = settings.spring_constant, load, depth, exponent, reduced, young, derivative, lower, adhesion
    cdef double r, w, i
    cdef Py_ssize_t j
    exponent = 2.0 if settings.model == CONE else 1.5
    adhesion = fit.adhesion
    load = model_load(settings.model, fit.compliance, branch.z[0] - fit.z0 + adhesion)
    depth = fit.compliance * indentation_shape(settings.model, load)
    if not settings.maximum_likelihood:
        # residuals in force of the model that the window's line stands for
        fit.sse = 0.0
        for j in range(fit.start, fit.stop):
            r = branch.d[j] + adhesion - model_load(settings.model, fit.compliance, branch.z[j] - fit.z0 + adhesion)
            fit.sse += r * r
    record.contact_point = <float>(fit.z0 * NM)
    record.contact_point_std = <float>(fit.z0_std * NM)
    record.adhesion = <float>(k * adhesion * NM)
    record.adhesion_std = <float>(k * fit.adhesion_std * NM)
    record.indentation = <float>(depth * NM)
    record.fit_rmse = <float>(k * sqrt(fit.sse / fit.samples) * NM)
    record.r_squared = <float>(1.0 - fit.sse / fit.sst) if fit.sst > 0.0 else 0.0
    record.n_fit = <float>fit.samples
    if fit.samples < 8:
        curve.flags |= FEW_POINTS
    if fit.sse > 4.0 * fit.samples * branch.noise * branch.noise:
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
        record.stiffness = <float>(k * exponent * load / depth)
    if settings.tip_radius > 0.0 and depth > 0.5 * settings.tip_radius:
        curve.flags |= BEYOND_TIP_SHAPE
    if settings.tabor and adhesion > 0.0:
        r = settings.tip_radius * NM
        w = k * adhesion * NM / (6.283185307179586 * r)
        if r * w * w > reduced * reduced * NEAREST_APPROACH * NEAREST_APPROACH * NEAREST_APPROACH:
            curve.flags |= DMT_DOUBTFUL


cdef inline void fit_branch(Curve* curve, const Settings* settings, Branch* branch, double* work) noexcept nogil:
    """Fit the contact model by the method asked for."""
    cdef double adhesion = 0.0, adhesion_std = branch.noise
    cdef int baseline_parameters = 0
    if settings.adhesive:
        adhesion = -branch.lowest if branch.pulled else 0.0
        if settings.adhesion_minimum:
            adhesion = -branch.lowest
        elif not settings.maximum_likelihood:
            adhesion = -smoothed_minimum(branch)
    if settings.maximum_likelihood:
        if not settings.baseline_of_approach:
            baseline_parameters = 1 + settings.baseline_order
        fit_contact(
            settings.model, branch, settings.adhesive and not settings.adhesion_minimum, adhesion,
            baseline_parameters,
            extend_baseline(branch, branch.end + (1 if branch.pulled else 0), settings.baseline_order),
            not settings.fit_approach, curve.quantum, work, &curve.fit,
        )
    else:
        fit_window(
            settings.model, branch, adhesion, adhesion_std, settings.window_low, settings.window_high, &curve.fit
        )


cdef inline void fill_approach(Curve* curve, const Settings* settings, double* work, Record* record) noexcept nogil:
    """Contact point, snap-in and deformation on approach."""
    cdef Branch* branch = &curve.approach
    if settings.contact_by_threshold:
        threshold_contact(branch, settings.contact_threshold * branch.noise, &curve.contact)
    else:
        piecewise_contact(
            settings.model, branch, 0 if settings.baseline_of_approach else 1 + settings.baseline_order,
            curve.quantum, work, &curve.contact,
        )
    if curve.contact.status != 0:
        curve.flags |= CONTACT_NOT_FOUND
    else:
        record.approach_contact_point = <float>(curve.contact.z0 * NM)
        record.approach_contact_point_std = <float>(curve.contact.z0_std * NM)
        record.snap_in = <float>(-settings.spring_constant * smoothed_minimum(branch) * NM)
    if branch.pulled:
        curve.flags |= SNAP_IN
    record.deformation = <float>(deformation(branch, settings.deformation_region) * NM)


cdef inline void fit_curve(Curve* curve, const Settings* settings, double* work, Record* record) noexcept nogil:
    """Baseline, contact, fit, areas, heights: fill the record but for the NaN of fatal flags."""
    cdef Branch* approach = &curve.approach
    cdef Branch* retract = &curve.retract
    cdef Branch* fitted = approach if settings.fit_approach else retract
    cdef double k = settings.spring_constant, noise, top
    if approach.n < FEWEST_VALID or retract.n < FEWEST_VALID:
        curve.flags |= INVALID_CURVE
        return
    if (
        <Py_ssize_t>(settings.baseline_fraction * approach.n) < FEWEST_BASELINE
        or <Py_ssize_t>(settings.baseline_fraction * retract.n) < FEWEST_BASELINE
    ):
        curve.flags |= BASELINE_TOO_SHORT
        return
    prepare(approach, settings, curve.quantum, work)
    prepare(retract, settings, curve.quantum, work)
    if settings.baseline_of_approach:
        take_baseline(retract, approach)
    find_peak(approach)
    find_peak(retract)
    find_end_of_contact(approach)
    find_end_of_contact(retract)
    if settings.maximum_likelihood and not settings.baseline_of_approach:
        refine(approach, settings, curve.quantum, work)
        refine(retract, settings, curve.quantum, work)
    noise = retract.noise
    top = approach.peak if approach.peak > retract.peak else retract.peak
    record.baseline_noise = <float>(k * noise * NM)
    record.peak_force = <float>(k * top * NM)
    if retract.correlated or approach.correlated:
        curve.flags |= NOISE_CORRELATED
    curve.flags |= judge_contact(approach, settings.baseline_fraction)
    curve.flags |= judge_contact(retract, settings.baseline_fraction)
    if curve.flags & (NO_CONTACT | CONTACT_NOT_LEFT):
        return
    if (
        fabs(retract.tilt) * (retract.z[0] - retract.z[retract.n - 1]) > 0.2 * retract.peak
        or fabs(approach.tilt) * (approach.z[0] - approach.z[approach.n - 1]) > 0.2 * approach.peak
    ):
        curve.flags |= BASELINE_TILTED
    if fabs(approach.d[0] - retract.d[0]) > 0.1 * top + 6.0 * noise:
        curve.flags |= BRANCHES_DISAGREE
    if settings.adhesive and not retract.pulled:
        curve.flags |= NO_ADHESION
    record.dissipation = <float>(k * lost_work(approach, retract) * NM * NM)
    record.adhesion_energy = <float>(k * adhesion_work(retract) * NM * NM)
    record.height = <float>(curve.height)
    if curve.height != curve.height:
        record.height = <float>((approach.peak - approach.z[approach.peak_at]) * NM)
        curve.height = (approach.peak - approach.z[approach.peak_at]) * NM
    if curve.flags & SATURATED:
        return
    fit_branch(curve, settings, fitted, work)
    if curve.fit.status != 0:
        curve.flags |= curve.fit.status
    else:
        fill_fit(curve, settings, fitted, record)
        record.contact_height = <float>(curve.height + record.indentation)
    fill_approach(curve, settings, work, record)


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
