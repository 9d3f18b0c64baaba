"""The compiled loop over the curves of a tile: raw integers in, one record per curve out, the GIL released.

What is computed is told by the .pxd files beside this one, in the order of curve.pxd: rows (raw to nm), baseline,
edges (peak, zero crossing, pull-off), fit (maximum likelihood) or window (qnm), contact (on approach), energy.
They are inline functions of one curve that know no Python and allocate nothing. Arrays are checked by the door,
fvproc/_core/__init__.py; this file trusts it.

Rejected: one specialised loop per dtype (only the first pass over a row knows it); float32 arithmetic (the running
sums of the break search need double); fast-math (bits would depend on the machine).
"""

from libc.stdint cimport uintptr_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from fvproc._core.curve cimport Curve, fit_curve, seal
from fvproc._core.model cimport model_load
from fvproc._core.rows cimport convert_row, is_saturated, load_branch
from fvproc._core.types cimport (
    INVALID_SAMPLES, SATURATED, Branch, Raw, Record, Settings,
)
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
    "INVALID_CURVE": types.INVALID_CURVE,
    "BASELINE_TOO_SHORT": types.BASELINE_TOO_SHORT,
    "NO_CONTACT": types.NO_CONTACT,
    "CONTACT_NOT_LEFT": types.CONTACT_NOT_LEFT,
    "SATURATED": types.SATURATED,
    "TOO_FEW_POINTS": types.TOO_FEW_POINTS,
    "FIT_FAILED": types.FIT_FAILED,
    "MODULUS_UNBOUNDED": types.MODULUS_UNBOUNDED,
    "CONTACT_NOT_FOUND": types.CONTACT_NOT_FOUND,
    "NOT_FINITE": types.NOT_FINITE(),
}


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
    c.model = s.model
    c.reduced_per_stiffness = s.reduced_per_stiffness
    c.one_minus_nu2 = s.one_minus_nu2
    c.tip_compliance = s.tip_compliance
    c.tip_radius = s.tip_radius
    c.adhesive = s.adhesive
    c.tabor = s.tabor
    c.baseline_fraction = s.baseline_fraction
    c.baseline_order = s.baseline_order
    c.baseline_of_approach = s.baseline_of_approach
    c.contact_by_threshold = s.contact_by_threshold
    c.contact_threshold = s.contact_threshold
    c.fit_approach = s.fit_approach
    c.maximum_likelihood = s.maximum_likelihood
    c.adhesion_minimum = s.adhesion_minimum
    c.window_low = s.window_low
    c.window_high = s.window_high
    c.deformation_region = s.deformation_region
    c.stiffness_of_window = s.stiffness_of_window
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


cdef struct Tile:
    Raw approach_d
    Raw approach_z
    Raw retract_d
    Raw retract_z
    Py_ssize_t approach_samples
    Py_ssize_t retract_samples
    const double* approach_shared   # nm, surface order; NULL where every curve has its own z
    const double* retract_shared
    const int* approach_valid       # NULL where all samples are valid
    const int* retract_valid
    const double* height            # m; NULL where there is none


cdef void _load(const Tile* tile, Py_ssize_t i, double* scratch, Py_ssize_t longest, Curve* curve) noexcept nogil:
    """Both branches of curve i into the scratch: [d approach, z approach, d retract, z retract, work]."""
    cdef Py_ssize_t valid
    memset(curve, 0, sizeof(Curve))
    valid = tile.approach_valid[i] if tile.approach_valid != NULL else tile.approach_samples
    curve.approach.d = scratch
    curve.approach.n = load_branch(
        &tile.approach_d, &tile.approach_z, tile.approach_shared, i, tile.approach_samples, valid, True,
        scratch, scratch + longest, &curve.approach.z
    )
    if curve.approach.n < tile.approach_samples:
        curve.flags |= INVALID_SAMPLES
    valid = tile.retract_valid[i] if tile.retract_valid != NULL else tile.retract_samples
    curve.retract.d = scratch + 2 * longest
    curve.retract.n = load_branch(
        &tile.retract_d, &tile.retract_z, tile.retract_shared, i, tile.retract_samples, valid, False,
        scratch + 2 * longest, scratch + 3 * longest, &curve.retract.z
    )
    if curve.retract.n < tile.retract_samples:
        curve.flags |= INVALID_SAMPLES
    if is_saturated(&tile.approach_d, i, tile.approach_samples) or is_saturated(&tile.retract_d, i, valid):
        curve.flags |= SATURATED
    curve.height = tile.height[i] if tile.height != NULL else (1e300 * 1e300) * 0.0
    curve.quantum = tile.retract_d.scale if tile.retract_d.scale > 0.0 else -tile.retract_d.scale
    if tile.retract_d.type >= 2:
        curve.quantum = 0.0


cdef class _Prepared:
    """A tile described for C, with everything that must stay alive and the scratch for one curve."""

    cdef Tile tile
    cdef Settings settings
    cdef Py_ssize_t longest, curves
    cdef double* scratch
    cdef double* shared
    cdef object keep

    def __cinit__(self):
        self.scratch = NULL
        self.shared = NULL

    def __dealloc__(self):
        free(self.scratch)
        free(self.shared)

    def __init__(self, raw, settings):
        cdef Py_ssize_t na = raw.approach.deflection.shape[1], nr = raw.retract.deflection.shape[1]
        self.keep = raw
        self.curves = raw.approach.deflection.shape[0]
        self.longest = na if na > nr else nr
        self.settings = _settings(settings)
        self.tile.approach_samples = na
        self.tile.retract_samples = nr
        self.tile.approach_d = _raw(raw.approach.deflection, settings.approach_deflection)
        self.tile.retract_d = _raw(raw.retract.deflection, settings.retract_deflection)
        self.tile.approach_z = _raw(raw.approach.z, settings.approach_z)
        self.tile.retract_z = _raw(raw.retract.z, settings.retract_z)
        self.scratch = <double*>malloc(8 * self.longest * sizeof(double))
        self.shared = <double*>malloc((na + nr) * sizeof(double))
        if self.scratch == NULL or self.shared == NULL:
            raise MemoryError(f"no memory for the scratch of curves of {self.longest} samples")
        self.tile.approach_shared = NULL
        self.tile.retract_shared = NULL
        if raw.approach.z.ndim == 1:
            convert_row(&self.tile.approach_z, 0, na, True, self.shared)
            self.tile.approach_shared = self.shared
        if raw.retract.z.ndim == 1:
            convert_row(&self.tile.retract_z, 0, nr, False, self.shared + na)
            self.tile.retract_shared = self.shared + na
        self.tile.approach_valid = NULL
        self.tile.retract_valid = NULL
        self.tile.height = NULL
        if raw.approach.valid_length is not None:
            self.tile.approach_valid = <const int*><uintptr_t>raw.approach.valid_length.ctypes.data
        if raw.retract.valid_length is not None:
            self.tile.retract_valid = <const int*><uintptr_t>raw.retract.valid_length.ctypes.data
        if raw.height is not None:
            self.tile.height = <const double*><uintptr_t>raw.height.ctypes.data


def fit(raw, settings, const unsigned int[::1] fatal, records):
    """Fill `records` (a contiguous RECORD array) with one record per curve of the checked tile `raw`."""
    cdef _Prepared p = _Prepared(raw, settings)
    cdef Record* record = <Record*><uintptr_t>records.ctypes.data
    cdef Py_ssize_t i
    cdef Curve curve
    with nogil:
        for i in range(p.curves):
            memset(&record[i], 0, sizeof(Record))
            _load(&p.tile, i, p.scratch, p.longest, &curve)
            fit_curve(&curve, &p.settings, p.scratch + 4 * p.longest, &record[i])
            seal(&record[i], &fatal[0], curve.flags)


def explain(raw, settings, const unsigned int[::1] fatal, records):
    """Fit a tile of one curve and return what led to its record, arrays in surface order, nm (see the door)."""
    cdef _Prepared p = _Prepared(raw, settings)
    cdef Record* record = <Record*><uintptr_t>records.ctypes.data
    cdef Curve curve
    cdef Branch* branch
    cdef Py_ssize_t i
    memset(record, 0, sizeof(Record))
    _load(&p.tile, 0, p.scratch, p.longest, &curve)
    fit_curve(&curve, &p.settings, p.scratch + 4 * p.longest, record)
    seal(record, &fatal[0], curve.flags)
    branches = []
    for which in range(2):
        branch = &curve.approach if which == 0 else &curve.retract
        branches.append((
            np.array([branch.z[i] for i in range(branch.n)], float),
            np.array([branch.d[i] for i in range(branch.n)], float),
        ))
    branch = &curve.approach if p.settings.fit_approach else &curve.retract
    fit_z = np.empty(0)
    fit_d = np.empty(0)
    if curve.fit.samples > 0 and curve.fit.status == 0:
        fit_z = branches[0 if p.settings.fit_approach else 1][0][curve.fit.start:curve.fit.stop].copy()
        fit_d = np.array([
            model_load(p.settings.model, curve.fit.compliance, z - curve.fit.z0 + curve.fit.adhesion)
            - curve.fit.adhesion + curve.fit.offset + curve.fit.tilt * (z - branch.centre)
            for z in fit_z
        ], float)
    return branches, fit_z, fit_d
