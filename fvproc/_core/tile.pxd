# A tile in memory, and the way of one curve out of it: its branches loaded, mended and surveyed in scratch of its own.

from libc.string cimport memset

from fvproc._core.axis cimport BLOCKS, axis_size, make_axis
from fvproc._core.background cimport WAVES, make_waves, remove_background
from fvproc._core.covariance cimport set_tolerance
from fvproc._core.lanes cimport LANES
from fvproc._core.noise cimport MOST_NEIGHBOURS, Neighbours
from fvproc._core.rows cimport as_floats, is_saturated, load_branch, reference_of
from fvproc._core.spikes cimport NO_SPIKES, SPIKES_TOO_MANY, Shorts, bridge_spikes
from fvproc._core.sums cimport PADDING
from fvproc._core.survey cimport survey_curve
from fvproc._core.types cimport (
    FLOAT32, INT16, INVALID_SAMPLES, NO_THICKNESS, POOR_FIT, SATURATED, SPIKES, Axis, Branch, Curve, Raw, Record,
    Samples, Settings,
)

cdef struct Tile:
    Raw approach_d
    Raw approach_z
    Raw retract_d
    Raw retract_z
    Py_ssize_t approach_samples
    Py_ssize_t retract_samples
    Axis approach_axis              # of the z that all curves share; z is NULL where every curve has its own
    Axis retract_axis
    const int* approach_valid       # NULL where all samples are valid
    const int* retract_valid
    const double* height            # m; NULL where there is none
    const double* thickness         # of the film, m; NULL where all curves have that of the settings


# Scratch of the curves that are fitted side by side. What outlives the survey of a curve has a place for each.
cdef struct Scratch:
    Py_ssize_t longest
    short* own                      # [branch][sample]: int16 that do not stand in the tile as they are wanted
    float* f                        # [branch][sample]
    float* work
    double* means                   # [branch][block]
    double* window
    float* d                        # [branch][sample]
    double* z                       # [curve][branch][sample], where a curve has its own z
    double* axes                    # [curve][branch], their storage
    float* waves                    # of a branch's background; NULL where the recipe has none
    float* shared_waves             # of the branches' shared z: approach, retract
    int* times                      # of a branch's samples, where some are left out; NULL without background
    double* shared                  # the branches' shared z and its axis: approach, retract
    Neighbours* neighbours          # table of groups of 0 to MOST_NEIGHBOURS samples
    double[8] rho


cdef inline void* taken(char* base, Py_ssize_t* used, Py_ssize_t size) noexcept nogil:
    """So many bytes of what begins at base, at a multiple of the widest register; NULL where there is no base yet."""
    cdef Py_ssize_t at = used[0]
    used[0] = at + (size + 63) // 64 * 64
    return base + at if base != NULL else NULL


cdef inline Py_ssize_t shared_size(Py_ssize_t longest) noexcept nogil:
    """Doubles of a shared z and its axis."""
    return (longest + axis_size(longest) + 7) // 8 * 8


cdef inline Py_ssize_t lay_out(Py_ssize_t longest, bint background, char* base, Scratch* scratch) noexcept nogil:
    """Give every part of the scratch its place from base on (NULL: nowhere yet); return the bytes that it takes."""
    cdef Py_ssize_t used = 0, room = (longest + 2 * PADDING - 1) // PADDING * PADDING, slots = 2 * LANES
    scratch.longest = room
    scratch.own = <short*>taken(base, &used, 2 * room * sizeof(short))
    scratch.f = <float*>taken(base, &used, 2 * room * sizeof(float))
    scratch.d = <float*>taken(base, &used, 2 * room * sizeof(float))
    scratch.work = <float*>taken(base, &used, room * sizeof(float))
    scratch.means = <double*>taken(base, &used, 2 * BLOCKS * sizeof(double))
    scratch.window = <double*>taken(base, &used, (3 * room + 64) * sizeof(double))
    scratch.shared = <double*>taken(base, &used, 2 * shared_size(room) * sizeof(double))
    scratch.waves = NULL
    scratch.shared_waves = NULL
    scratch.times = NULL
    if background:
        scratch.waves = <float*>taken(base, &used, WAVES * room * sizeof(float))
        scratch.shared_waves = <float*>taken(base, &used, 2 * WAVES * room * sizeof(float))
        scratch.times = <int*>taken(base, &used, room * sizeof(int))
    scratch.z = <double*>taken(base, &used, slots * room * sizeof(double))
    scratch.axes = <double*>taken(base, &used, slots * shared_size(room) * sizeof(double))
    scratch.neighbours = <Neighbours*>taken(base, &used, (MOST_NEIGHBOURS + 1) * sizeof(Neighbours))
    return used


cdef inline void load(
    const Tile* tile, Py_ssize_t i, bint is_approach, int lane, const Settings* settings, const Scratch* scratch,
    Branch* branch, Samples* samples_out, unsigned int* flags
) noexcept nogil:
    """One branch of curve i: its samples in raw numbers, its axis."""
    cdef const Raw* deflection = &tile.approach_d if is_approach else &tile.retract_d
    cdef const Raw* z = &tile.approach_z if is_approach else &tile.retract_z
    cdef const Axis* shared = &tile.approach_axis if is_approach else &tile.retract_axis
    cdef const int* lengths = tile.approach_valid if is_approach else tile.retract_valid
    cdef Py_ssize_t samples = tile.approach_samples if is_approach else tile.retract_samples
    cdef Py_ssize_t valid = lengths[i] if lengths != NULL else samples, n
    cdef int which = 0 if is_approach else 1, slot = 2 * lane + which
    cdef double* own = scratch.z + slot * scratch.longest
    cdef bint own_z
    cdef float* waves
    cdef Shorts told
    cdef double step = 0.0 if deflection.type >= FLOAT32 else 1.0
    cdef int spikes
    samples_out.f = scratch.f + which * scratch.longest
    n = load_branch(
        deflection, z, shared.z, i, samples, valid, is_approach, scratch.own + which * scratch.longest, samples_out,
        own, scratch.times, &own_z
    )
    if n < samples:
        flags[0] |= INVALID_SAMPLES
    if own_z:
        make_axis(
            own, n, settings.baseline_fraction, settings.baseline_order,
            scratch.axes + slot * shared_size(scratch.longest), &branch.axis
        )
        if settings.noise_known:
            set_tolerance(
                &branch.axis, settings.baseline_order, settings.noise_shape[0 if is_approach else 1],
                scratch.neighbours, scratch.rho
            )
    else:
        branch.axis = shared[0]
    spikes = bridge_spikes(samples_out, n, deflection.scale, step, &told)
    if spikes != NO_SPIKES:
        flags[0] |= SPIKES
        if spikes == SPIKES_TOO_MANY:
            flags[0] |= POOR_FIT
    if scratch.waves != NULL:
        waves = scratch.waves
        if own_z:
            make_waves(
                &branch.axis, scratch.times if n < valid else NULL, settings.interference_period, settings.drag,
                settings.bow, waves
            )
        else:
            waves = scratch.shared_waves + which * WAVES * scratch.longest
        as_floats(samples_out, n)
        remove_background(&branch.axis, samples_out.f, waves, step)
    branch.d = scratch.d + which * scratch.longest
    branch.level = deflection.offset
    if deflection.type != INT16:
        branch.level += deflection.scale * reference_of(deflection, i, valid, is_approach)
    # almost always none stands at a limit, and the look at all samples has told so
    if valid < samples or deflection.type != INT16 or told.highest == 32767 or told.lowest == -32768:
        if is_saturated(deflection, i, samples if is_approach else valid):
            flags[0] |= SATURATED


cdef inline void survey(
    const Tile* tile, Py_ssize_t i, int lane, const Settings* settings, const Scratch* scratch, Curve* curve,
    Record* record
) noexcept nogil:
    """Everything of curve i but its fits."""
    cdef Samples approach, retract
    cdef double thickness
    curve.flags = 0
    curve.fit.status = 0
    curve.fit.samples = 0
    curve.contact.status = 0
    memset(record, 0, sizeof(Record))
    load(tile, i, True, lane, settings, scratch, &curve.approach, &approach, &curve.flags)
    load(tile, i, False, lane, settings, scratch, &curve.retract, &retract, &curve.flags)
    curve.height = tile.height[i] if tile.height != NULL else (1e300 * 1e300) * 0.0
    curve.unit_approach = tile.approach_d.scale
    curve.unit_retract = tile.retract_d.scale
    curve.quantum = tile.retract_d.scale if tile.retract_d.scale > 0.0 else -tile.retract_d.scale
    if tile.retract_d.type >= 2:
        curve.quantum = 0.0
    curve.film_reach = 0.0
    if settings.law.film:
        thickness = tile.thickness[i] * 1e9 if tile.thickness != NULL else settings.film_thickness
        if thickness > 0.0:     # not so where it is NaN
            curve.film_reach = settings.film_reach / thickness
        else:
            curve.flags |= NO_THICKNESS
    survey_curve(curve, settings, &approach, &retract, scratch.work, scratch.means, record)
