"""The compiled loop over the curves of a tile: raw integers in, one record per curve out, the GIL released.

Eight curves go side by side. Each is loaded and surveyed alone (tile.pxd, survey.pxd: rows, axis, baseline, edges, energy); then the fits of
all eight are done at once (fit.pxd), one curve in each lane of the vector registers (lanes.h); then each fills its
record. They are inline functions that know no Python and allocate nothing. Arrays are checked by the door,
fvproc/_core/__init__.py; this file trusts it.

Rejected: one specialised loop per dtype (only the first pass over a row knows it); fast-math (bits would depend on
the machine); a float copy of the tile (one curve at a time stays in the nearest cache).
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc

from fvproc._core.axis cimport make_axis, reach
from fvproc._core.background cimport WAVES, make_waves
from fvproc._core.covariance cimport extend_tail, set_tolerance
from fvproc._core.curve cimport Peaks, conclude_curve, finish_curve, fitted_branch, pose_curve, seal
from fvproc._core.fit cimport minimise
from fvproc._core.influence cimport set_influence
from fvproc._core.lanes cimport LANES
from fvproc._core.model cimport travel_at
from fvproc._core.points cimport fill_up
from fvproc._core.noise cimport LEVELS, MOST_NEIGHBOURS, branch_allan, correlations, set_neighbours
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.pull_off cimport hold_pull_offs
from fvproc._core.rows cimport convert_z, fetch_row, is_whole
from fvproc._core.tile cimport Scratch, Tile, lay_out, shared_size, survey, taken
from fvproc._core.types cimport Branch, Curve, Raw, Record, Settings
from fvproc._core cimport types

import numpy as np

FLAGS = {
    "FEW_POINTS": types.FEW_POINTS,
    "NO_ADHESION": types.NO_ADHESION,
    "POOR_FIT": types.POOR_FIT,
    "BASELINE_TILTED": types.BASELINE_TILTED,
    "NOISE_CORRELATED": types.NOISE_CORRELATED,
    "SNAP_IN": types.SNAP_IN,
    "INVALID_SAMPLES": types.INVALID_SAMPLES,
    "BRANCHES_DISAGREE": types.BRANCHES_DISAGREE,
    "BEYOND_TIP_SHAPE": types.BEYOND_TIP_SHAPE,
    "DMT_DOUBTFUL": types.DMT_DOUBTFUL,
    "SPIKES": types.SPIKES,
    "MULTIPLE_PULL_OFFS": types.MULTIPLE_PULL_OFFS,
    "BLUNT_PULL_OFF": types.BLUNT_PULL_OFF,
    "PULL_OFF_DISAGREES": types.PULL_OFF_DISAGREES,
    "JKR_DOUBTFUL": types.JKR_DOUBTFUL,
    "FILM_DOUBTFUL": types.FILM_DOUBTFUL,
    "INVALID_CURVE": types.INVALID_CURVE,
    "BASELINE_TOO_SHORT": types.BASELINE_TOO_SHORT,
    "NO_CONTACT": types.NO_CONTACT,
    "CONTACT_NOT_LEFT": types.CONTACT_NOT_LEFT,
    "SATURATED": types.SATURATED,
    "TOO_FEW_POINTS": types.TOO_FEW_POINTS,
    "FIT_FAILED": types.FIT_FAILED,
    "MODULUS_UNBOUNDED": types.MODULUS_UNBOUNDED,
    "CONTACT_NOT_FOUND": types.CONTACT_NOT_FOUND,
    "NO_THICKNESS": types.NO_THICKNESS,
    "NOT_FINITE": types.NOT_FINITE(),
}


def noise_model():
    """Return the correlations of neighbours of the noise's components, and how many widths Allan variances have."""
    cdef double[8] rho
    correlations(rho)
    return tuple(rho[i] for i in range(8)), LEVELS


def record_layout():
    """Return {field: byte offset} of the C record and its size, for the door to compare."""
    cdef Record record
    cdef char* base = <char*>&record
    return {
        "modulus": <char*>&record.modulus - base,
        "modulus_std": <char*>&record.modulus_std - base,
        "modulus_lower": <char*>&record.modulus_lower - base,
        "reduced_modulus": <char*>&record.reduced_modulus - base,
        "adhesion": <char*>&record.adhesion - base,
        "adhesion_std": <char*>&record.adhesion_std - base,
        "peak_force": <char*>&record.peak_force - base,
        "contact_point": <char*>&record.contact_point - base,
        "contact_point_std": <char*>&record.contact_point_std - base,
        "approach_contact_point": <char*>&record.approach_contact_point - base,
        "approach_contact_point_std": <char*>&record.approach_contact_point_std - base,
        "deformation": <char*>&record.deformation - base,
        "indentation": <char*>&record.indentation - base,
        "stiffness": <char*>&record.stiffness - base,
        "dissipation": <char*>&record.dissipation - base,
        "adhesion_energy": <char*>&record.adhesion_energy - base,
        "snap_in": <char*>&record.snap_in - base,
        "height": <char*>&record.height - base,
        "contact_height": <char*>&record.contact_height - base,
        "baseline_noise": <char*>&record.baseline_noise - base,
        "fit_rmse": <char*>&record.fit_rmse - base,
        "r_squared": <char*>&record.r_squared - base,
        "n_fit": <char*>&record.n_fit - base,
        "flags": <char*>&record.flags - base,
    }, sizeof(Record)


cdef Settings _settings(object s):
    cdef Settings c
    c.spring_constant = s.spring_constant
    cdef int i
    c.law.kind = s.law.kind
    c.law.load_power = s.law.load_power
    c.law.depth_power = s.law.depth_power
    c.law.film = s.law.film
    c.law.reach_power = s.law.reach_power
    for i in range(8):
        c.law.series[i] = s.law.series[i]
    c.law.end = s.law.end
    c.law.limit = s.law.limit
    c.modulus_scale = s.modulus_scale
    c.film_reach = s.film_reach
    c.film_thickness = s.film_thickness
    c.one_minus_nu2 = s.one_minus_nu2
    c.tip_compliance = s.tip_compliance
    c.tip_share = s.tip_share
    c.tip_radius = s.tip_radius
    c.adhesive = s.adhesive
    c.tabor = s.tabor
    c.baseline_fraction = s.baseline_fraction
    c.baseline_order = s.baseline_order
    c.baseline_of_approach = s.baseline_of_approach
    c.interference_period = s.interference_period
    c.drag = s.drag
    c.bow = s.bow
    c.contact_method = s.contact_method
    c.contact_threshold = s.contact_threshold
    c.contact_window = s.contact_window
    c.contact_detected = s.contact_detected
    c.fit_approach = s.fit_approach
    c.maximum_likelihood = s.maximum_likelihood
    c.adhesion_minimum = s.adhesion_minimum
    c.window_low = s.window_low
    c.window_high = s.window_high
    c.deformation_region = s.deformation_region
    c.stiffness_of_window = s.stiffness_of_window
    c.wants_fit = s.wants_fit
    c.wants_contact = s.wants_contact
    c.wants_areas = s.wants_areas
    c.wants_deformation = s.wants_deformation
    c.wants_height = s.wants_height
    c.noise_known = s.noise is not None
    for i in range(8):
        c.noise_shape[0][i] = s.noise[0][i] if c.noise_known else 0.0
        c.noise_shape[1][i] = s.noise[1][i] if c.noise_known else 0.0
    return c


cdef Raw _raw(object array, object channel):
    """Describe a checked 1-D or 2-D array; the caller keeps it alive."""
    cdef Raw raw
    raw.base = <const char*><uintptr_t>array.__array_interface__["data"][0]
    raw.curve_stride = array.strides[0] if array.ndim == 2 else 0
    raw.sample_stride = array.strides[array.ndim - 1]
    raw.type = {"int16": 0, "int32": 1, "float32": 2, "float64": 3}[array.dtype.name]
    raw.scale = channel.scale
    raw.offset = channel.offset
    raw.has_invalid = channel.invalid is not None
    raw.invalid = channel.invalid if channel.invalid is not None else 0.0
    return raw


cdef class _Prepared:
    """A tile described for C, with everything that must stay alive and the scratch for eight curves."""

    cdef Tile tile
    cdef Settings settings
    cdef Scratch scratch
    cdef Py_ssize_t curves
    cdef void* memory
    cdef Curve* curve
    cdef Problem* problems
    cdef Solution* solutions
    cdef object keep

    def __cinit__(self):
        self.memory = NULL

    def __dealloc__(self):
        free(self.memory)

    def __init__(self, raw, settings, thickness):
        cdef Py_ssize_t na = raw.approach.deflection.shape[1], nr = raw.retract.deflection.shape[1]
        cdef Py_ssize_t longest = na if na > nr else nr, used, count
        cdef double* shared
        cdef char* base
        cdef bint background
        self.keep = raw, thickness
        self.curves = raw.approach.deflection.shape[0]
        self.settings = _settings(settings)
        background = self.settings.interference_period > 0.0 or self.settings.drag or self.settings.bow
        self.tile.approach_samples = na
        self.tile.retract_samples = nr
        self.tile.approach_d = _raw(raw.approach.deflection, settings.approach_deflection)
        self.tile.retract_d = _raw(raw.retract.deflection, settings.retract_deflection)
        self.tile.approach_z = _raw(raw.approach.z, settings.approach_z)
        self.tile.retract_z = _raw(raw.retract.z, settings.retract_z)
        used = lay_out(longest, background, NULL, &self.scratch)
        self.memory = malloc(
            64 + used + 2 * sizeof(Problem) + 3 * sizeof(Solution) + LANES * sizeof(Curve) + 3 * 64
        )
        if self.memory == NULL:
            raise MemoryError(f"no memory for the scratch of curves of {longest} samples")
        base = <char*>self.memory + (64 - <uintptr_t>self.memory % 64)
        self.problems = <Problem*>taken(base, &used, 2 * sizeof(Problem))
        self.solutions = <Solution*>taken(base, &used, 3 * sizeof(Solution))
        self.curve = <Curve*>taken(base, &used, LANES * sizeof(Curve))
        lay_out(longest, background, base, &self.scratch)
        correlations(self.scratch.rho)
        for count in range(MOST_NEIGHBOURS + 1):
            set_neighbours(self.scratch.rho, count, self.scratch.neighbours + count)
        longest = self.scratch.longest
        shared = self.scratch.shared
        self.tile.approach_axis.z = NULL
        self.tile.retract_axis.z = NULL
        # a shared z with marked samples is taken as that of each curve, which then leaves them out
        if raw.approach.z.ndim == 1 and is_whole(&self.tile.approach_z, na):
            convert_z(&self.tile.approach_z, 0, na, True, shared)
            make_axis(
                shared, na, self.settings.baseline_fraction, self.settings.baseline_order,
                shared + longest, &self.tile.approach_axis
            )
            reach(&self.tile.approach_axis, na)
            extend_tail(&self.tile.approach_axis, self.scratch.neighbours, self.scratch.rho, 0)
            if self.settings.noise_known:
                set_tolerance(
                    &self.tile.approach_axis, self.settings.baseline_order, self.settings.noise_shape[0],
                    self.scratch.neighbours, self.scratch.rho
                )
        shared += shared_size(longest)
        if raw.retract.z.ndim == 1 and is_whole(&self.tile.retract_z, nr):
            convert_z(&self.tile.retract_z, 0, nr, False, shared)
            make_axis(
                shared, nr, self.settings.baseline_fraction, self.settings.baseline_order,
                shared + longest, &self.tile.retract_axis
            )
            reach(&self.tile.retract_axis, nr)
            extend_tail(&self.tile.retract_axis, self.scratch.neighbours, self.scratch.rho, 0)
            if self.settings.noise_known:
                set_tolerance(
                    &self.tile.retract_axis, self.settings.baseline_order, self.settings.noise_shape[1],
                    self.scratch.neighbours, self.scratch.rho
                )
        if background and self.tile.approach_axis.z != NULL:
            make_waves(
                &self.tile.approach_axis, NULL, self.settings.interference_period, self.settings.drag,
                self.settings.bow, self.scratch.shared_waves
            )
        if background and self.tile.retract_axis.z != NULL:
            make_waves(
                &self.tile.retract_axis, NULL, self.settings.interference_period, self.settings.drag,
                self.settings.bow, self.scratch.shared_waves + WAVES * longest
            )
        self.tile.approach_valid = NULL
        self.tile.retract_valid = NULL
        self.tile.height = NULL
        self.tile.thickness = NULL
        if raw.approach.valid_length is not None:
            self.tile.approach_valid = <const int*><uintptr_t>raw.approach.valid_length.ctypes.data
        if raw.retract.valid_length is not None:
            self.tile.retract_valid = <const int*><uintptr_t>raw.retract.valid_length.ctypes.data
        if raw.height is not None:
            self.tile.height = <const double*><uintptr_t>raw.height.ctypes.data
        if thickness is not None:
            self.tile.thickness = <const double*><uintptr_t>thickness.ctypes.data

    cdef void fit_some(self, Py_ssize_t first, int count, Record* record, const unsigned int* fatal) noexcept nogil:
        """Fill the records of curves [first, first + count), count <= LANES."""
        cdef Problem* fits = self.problems
        cdef Problem* contacts = self.problems + 1
        cdef Peaks peaks
        cdef int lane
        fits.law = self.settings.law
        contacts.law = self.settings.law
        fits.neighbours = self.scratch.neighbours
        contacts.neighbours = self.scratch.neighbours
        fits.points = 0
        contacts.points = 0
        fits.hidden = False
        contacts.hidden = False
        fits.correlated = False
        contacts.correlated = False
        for lane in range(count):
            if first + lane + 1 < self.curves:
                fetch_row(&self.tile.approach_d, first + lane + 1, self.tile.approach_samples)
            survey(
                &self.tile, first + lane, lane, &self.settings, &self.scratch, &self.curve[lane], &record[first + lane]
            )
            if first + lane + 1 < self.curves:
                fetch_row(&self.tile.retract_d, first + lane + 1, self.tile.retract_samples)
            pose_curve(&self.curve[lane], &self.settings, fits, contacts, lane, self.scratch.window)
        for lane in range(count, LANES):
            fits.used[lane] = 0
            contacts.used[lane] = 0
        if fits.points:
            fill_up(fits)
            minimise(fits, self.solutions)
            hold_pull_offs(self.curve, count, &self.settings, fits, self.solutions, self.solutions + 2)
            if fits.correlated:
                set_influence(fits, self.solutions)
        if contacts.points:
            fill_up(contacts)
            minimise(contacts, self.solutions + 1)
            if contacts.correlated:
                set_influence(contacts, self.solutions + 1)
        for lane in range(count):
            conclude_curve(
                &self.curve[lane], &self.settings, fits, self.solutions, contacts, self.solutions + 1, lane, &peaks
            )
        for lane in range(count, LANES):
            peaks.compliance[lane] = 1.0
            peaks.adhesion[lane] = 0.0
            peaks.film_reach[lane] = 0.0
            peaks.travel[lane] = 1.0
        travel_at(
            &self.settings.law, peaks.compliance, peaks.adhesion, peaks.film_reach, peaks.travel, peaks.d, peaks.rate
        )
        for lane in range(count):
            finish_curve(&self.curve[lane], &self.settings, &peaks, lane, &record[first + lane])
            seal(&record[first + lane], fatal, self.curve[lane].flags)


def fit(raw, settings, thickness, const unsigned int[::1] fatal, records):
    """Fill `records` (a contiguous RECORD array) with one record per curve of the checked tile `raw`."""
    cdef _Prepared p = _Prepared(raw, settings, thickness)
    cdef Record* record = <Record*><uintptr_t>records.ctypes.data
    cdef Py_ssize_t i = 0
    with nogil:
        while i < p.curves:
            p.fit_some(i, <int>(p.curves - i if p.curves - i < LANES else LANES), record, &fatal[0])
            i += LANES


def allan_variances(raw, settings, thickness, double[:, :, ::1] variances, long long[:, ::1] samples):
    """Fill what the free samples of both branches of each curve tell of their noise; see the door. Zeros elsewhere."""
    cdef _Prepared p = _Prepared(raw, settings, thickness)
    cdef Record record
    cdef Branch* branch
    cdef Py_ssize_t i
    cdef int which
    with nogil:
        for i in range(p.curves):
            survey(&p.tile, i, 0, &p.settings, &p.scratch, p.curve, &record)
            if not p.curve.fit_count:
                continue
            for which in range(2):
                branch = &p.curve.approach if which == 0 else &p.curve.retract
                branch_allan(branch, p.settings.baseline_order, 2, p.scratch.window, &variances[i, which, 0])
                samples[i, which] = branch.axis.n - branch.free


def explain(raw, settings, thickness, const unsigned int[::1] fatal, records):
    """Fit a tile of one curve and return what led to its record, arrays in surface order, nm (see the door)."""
    cdef _Prepared p = _Prepared(raw, settings, thickness)
    cdef Record* record = <Record*><uintptr_t>records.ctypes.data
    cdef Curve* curve = p.curve
    cdef Branch* branch
    cdef Peaks at
    cdef Py_ssize_t i, j
    cdef int lane
    p.fit_some(0, 1, record, &fatal[0])
    branches = []
    for which in range(2):
        branch = &curve.approach if which == 0 else &curve.retract
        branches.append((
            np.array([branch.axis.z[i] for i in range(branch.axis.n)], float),
            np.array([branch.d[i] for i in range(branch.axis.n)], float),
        ))
    branch = fitted_branch(curve, &p.settings)
    fit_z = np.empty(0)
    fit_d = np.empty(0)
    if curve.fit.samples > 0 and curve.fit.status == 0:
        fit_z = branches[0 if p.settings.fit_approach else 1][0][curve.fit.start:curve.fit.stop].copy()
        fit_d = np.empty(len(fit_z))
        for i in range(0, len(fit_z), LANES):
            for lane in range(LANES):
                j = i + lane if i + lane < len(fit_z) else i
                at.compliance[lane] = curve.fit.compliance
                at.adhesion[lane] = curve.fit.adhesion
                at.film_reach[lane] = curve.fit.reach
                at.travel[lane] = fit_z[j] - curve.fit.z0
            travel_at(&p.settings.law, at.compliance, at.adhesion, at.film_reach, at.travel, at.d, at.rate)
            for lane in range(LANES):
                if i + lane < len(fit_z):
                    fit_d[i + lane] = at.d[lane]
        fit_d += curve.fit.offset + curve.fit.tilt * (fit_z - branch.axis.centre)
    return branches, fit_z, fit_d
