# From raw numbers to the samples of one branch in surface order, without its invalid ones.

from fvproc._core.lanes cimport WIDE, of_shorts, prefetch, wide_store
from fvproc._core.narrow cimport NARROW, narrow_load, narrow_reversed, narrow_store
from fvproc._core.types cimport FLOAT32, FLOAT64, INT16, INT32, Raw, Samples


cdef inline void fetch_row(const Raw* raw, Py_ssize_t curve, Py_ssize_t n) noexcept nogil:
    """Ask the memory for a curve that will be wanted soon: the work on one is too long for it to foresee the next."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t i, size = n * raw.sample_stride
    for i in range(0, size, 64):
        prefetch(p + i)


cdef inline double raw_value(const Raw* raw, const char* p) noexcept nogil:
    if raw.type == INT16:
        return <double>(<const short*>p)[0]
    if raw.type == INT32:
        return <double>(<const int*>p)[0]
    if raw.type == FLOAT32:
        return <double>(<const float*>p)[0]
    return (<const double*>p)[0]


cdef inline const short* shorts_of(
    const Raw* raw, Py_ssize_t curve, Py_ssize_t n, bint reverse, short* own
) noexcept nogil:
    """A row of int16, reversed in time if asked: where it stands, if it stands so, else copied to `own`."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef const short* x = <const short*>p
    cdef Py_ssize_t step = raw.sample_stride, i = 0
    if step == 2 and not reverse:
        return x
    if step == 2:
        while i + NARROW <= n:
            narrow_store(own + i, narrow_reversed(narrow_load(x + n - NARROW - i)))
            i += NARROW
    if reverse:
        p += (n - 1) * step
        step = -step
    while i < n:
        own[i] = (<const short*>(p + i * step))[0]
        i += 1
    return own


cdef inline double reference_of(const Raw* raw, Py_ssize_t curve, Py_ssize_t n, bint reverse) noexcept nogil:
    """The last sample in surface order; 0 where it is no number."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef double reference = 0.0
    if n > 0:
        reference = raw_value(raw, p if reverse else p + (n - 1) * raw.sample_stride)
    if not (reference - reference == 0.0) or (raw.has_invalid and reference == raw.invalid):
        return 0.0
    return reference


cdef inline void as_floats(Samples* samples, Py_ssize_t n) noexcept nogil:
    """Turn int16 into floats, for what has no other way with them or changes some."""
    cdef Py_ssize_t i = 0
    if samples.x == NULL:
        return
    while i + WIDE <= n:
        wide_store(samples.f + i, of_shorts(samples.x + i))
        i += WIDE
    while i < n:
        samples.f[i] = <float>samples.x[i]
        i += 1
    samples.x = NULL


cdef inline void load_deflection(
    const Raw* raw, Py_ssize_t curve, Py_ssize_t n, bint reverse, short* own, Samples* samples
) noexcept nogil:
    """The samples of a row, reversed in time if asked: int16 as they are, others less the last one, as floats.

    The difference keeps the small motions on top of a large constant; which constant is of no matter, the baseline
    takes it out.
    """
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t step = raw.sample_stride, i
    cdef float* out = samples.f
    cdef const int* ints = <const int*>p
    cdef const float* floats = <const float*>p
    cdef double reference
    samples.x = NULL
    if raw.type == INT16:
        samples.x = shorts_of(raw, curve, n, reverse, own)
        return
    reference = reference_of(raw, curve, n, reverse)
    # the loops vectorise where samples stand side by side
    if raw.type == INT32 and step == 4:
        if reverse:
            for i in range(n):
                out[i] = <float>(<double>ints[n - 1 - i] - reference)
        else:
            for i in range(n):
                out[i] = <float>(<double>ints[i] - reference)
        return
    if raw.type == FLOAT32 and step == 4:
        if reverse:
            for i in range(n):
                out[i] = <float>(<double>floats[n - 1 - i] - reference)
        else:
            for i in range(n):
                out[i] = <float>(<double>floats[i] - reference)
        return
    if reverse:
        p += (n - 1) * step
        step = -step
    for i in range(n):
        out[i] = <float>(raw_value(raw, p + i * step) - reference)


cdef inline void convert_z(const Raw* raw, Py_ssize_t curve, Py_ssize_t n, bint reverse, double* out) noexcept nogil:
    """out[i] = raw·scale + offset in nm; reversed in time if asked."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t step = raw.sample_stride, i
    cdef const short* shorts = <const short*>p
    cdef const int* ints = <const int*>p
    cdef const float* floats = <const float*>p
    cdef const double* doubles = <const double*>p
    cdef double scale = raw.scale, offset = raw.offset
    # the loops vectorise where samples stand side by side
    if raw.type == INT16 and step == 2:
        if reverse:
            for i in range(n):
                out[i] = shorts[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = shorts[i] * scale + offset
        return
    if raw.type == INT32 and step == 4:
        if reverse:
            for i in range(n):
                out[i] = ints[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = ints[i] * scale + offset
        return
    if raw.type == FLOAT32 and step == 4:
        if reverse:
            for i in range(n):
                out[i] = <double>floats[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = <double>floats[i] * scale + offset
        return
    if raw.type == FLOAT64 and step == 8:
        if reverse:
            for i in range(n):
                out[i] = doubles[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = doubles[i] * scale + offset
        return
    if reverse:
        p += (n - 1) * step
        step = -step
    for i in range(n):
        out[i] = raw_value(raw, p + i * step) * scale + offset


cdef inline bint is_marked(const Raw* raw, Py_ssize_t curve, Py_ssize_t sample) noexcept nogil:
    """Whether the raw sample is the marker of an invalid one, or not finite."""
    cdef double value = raw_value(raw, raw.base + curve * raw.curve_stride + sample * raw.sample_stride)
    if raw.has_invalid and value == raw.invalid:
        return True
    return not (value - value == 0.0)  # NaN and infinity


cdef inline bint may_be_marked(const Raw* raw) noexcept nogil:
    return raw.has_invalid or raw.type == FLOAT32 or raw.type == FLOAT64


cdef inline bint is_whole(const Raw* raw, Py_ssize_t n) noexcept nogil:
    """Whether no sample of row 0 is marked."""
    cdef Py_ssize_t i
    if may_be_marked(raw):
        for i in range(n):
            if is_marked(raw, 0, i):
                return False
    return True


cdef inline bint may_hold_marks(
    const Raw* raw, Py_ssize_t n, const Samples* samples, double reference
) noexcept nogil:
    """Whether a look at all samples of a deflection at once leaves it open that some are marked."""
    cdef const short* x = samples.x
    cdef const float* f = samples.f
    cdef int found = 0, marker
    cdef float mark
    cdef Py_ssize_t i
    if not may_be_marked(raw):
        return False
    if x == NULL:
        # a marked sample has become this, and perhaps others too
        mark = <float>(raw.invalid - reference)
        for i in range(n):
            found |= not (f[i] - f[i] == 0.0)
        if raw.has_invalid:
            for i in range(n):
                found |= f[i] == mark
        return found != 0
    if not (-32768.0 <= raw.invalid <= 32767.0):
        return False
    marker = <int>raw.invalid
    for i in range(n):
        found |= x[i] == marker
    return found != 0


cdef inline bint z_may_hold_marks(const Raw* raw, Py_ssize_t n, const double* z) noexcept nogil:
    """The same of z in nm."""
    cdef int found = 0
    cdef Py_ssize_t i
    cdef double marker
    if raw.has_invalid:
        marker = raw.invalid * raw.scale + raw.offset   # as convert_z made it of a marked sample
        for i in range(n):
            found |= z[i] == marker
    if raw.type >= FLOAT32:
        for i in range(n):
            found |= not (z[i] - z[i] == 0.0)
    return found != 0


cdef inline Py_ssize_t load_branch(
    const Raw* deflection, const Raw* z, const double* shared_z, Py_ssize_t curve, Py_ssize_t samples,
    Py_ssize_t valid, bint reverse, short* own, Samples* samples_out, double* z_out, int* times, bint* own_z
) noexcept nogil:
    """Load samples in surface order, and z_out unless the shared z serves as it is; return the number of valid samples.

    The first `valid` samples in time count. reverse: the branch ends at the surface (approach); its int16 stand in `own`.
    times: if it is not NULL and samples are left out, which one each of the others is.
    """
    cdef Py_ssize_t i, j, kept = 0
    cdef float* f = samples_out.f
    load_deflection(deflection, curve, valid, reverse, own, samples_out)
    own_z[0] = shared_z == NULL or valid < samples
    if shared_z == NULL:
        convert_z(z, curve, valid, reverse, z_out)
    elif valid < samples:
        # the shared z is in surface order over all samples; a short approach lacks its last ones, a retract too
        for i in range(valid):
            z_out[i] = shared_z[i + samples - valid] if reverse else shared_z[i]
    if not (
        may_hold_marks(deflection, valid, samples_out, reference_of(deflection, curve, valid, reverse))
        or (shared_z == NULL and may_be_marked(z) and z_may_hold_marks(z, valid, z_out))
    ):
        return valid
    as_floats(samples_out, valid)
    for i in range(valid):
        j = valid - 1 - i if reverse else i
        if is_marked(deflection, curve, j) or (shared_z == NULL and is_marked(z, curve, j)):
            if not own_z[0]:
                for j in range(valid):
                    z_out[j] = shared_z[j]
                own_z[0] = True
            continue
        if own_z[0] and kept != i:
            z_out[kept] = z_out[i]
        f[kept] = f[i]
        if times != NULL:
            times[kept] = <int>i
        kept += 1
    return kept


cdef inline bint is_saturated(const Raw* raw, Py_ssize_t curve, Py_ssize_t n) noexcept nogil:
    """Whether two neighbouring samples stand at the same limit of the converter's integer type."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t i, step = raw.sample_stride
    cdef int highest = 32767 if raw.type == INT16 else 0x7FFFFFFF, lowest = -highest - 1, value, previous = 0
    cdef int found = 0
    cdef const int* ints
    if raw.type != INT16 and raw.type != INT32:
        return False
    if raw.type == INT32 and step == 4:
        # almost always none stands there: a pass that vectorises settles it
        ints = <const int*>p
        for i in range(n):
            found |= (ints[i] == highest) | (ints[i] == lowest)
        if not found:
            return False
    for i in range(n):
        value = (<const short*>(p + i * step))[0] if raw.type == INT16 else (<const int*>(p + i * step))[0]
        if i > 0 and value == previous and (value == highest or value == lowest):
            if not (raw.has_invalid and value == raw.invalid):
                return True
        previous = value
    return False
