# From raw numbers to one branch of one curve in nm, in surface order, without its invalid samples.

from fvproc._core.types cimport FLOAT32, FLOAT64, INT16, INT32, Raw


cdef inline void convert_row(const Raw* raw, Py_ssize_t curve, Py_ssize_t n, bint reverse, double* out) noexcept nogil:
    """out[i] = raw·scale + offset for n samples; reversed in time if asked; no look at validity."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t step = raw.sample_stride
    cdef double scale = raw.scale, offset = raw.offset
    cdef Py_ssize_t i
    if reverse:
        p += (n - 1) * step
        step = -step
    if raw.type == INT16:
        if step == 2:
            for i in range(n):
                out[i] = (<const short*>p)[i] * scale + offset
        elif step == -2:
            p -= 2 * (n - 1)
            for i in range(n):
                out[i] = (<const short*>p)[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = (<const short*>(p + i * step))[0] * scale + offset
    elif raw.type == INT32:
        if step == 4:
            for i in range(n):
                out[i] = (<const int*>p)[i] * scale + offset
        elif step == -4:
            p -= 4 * (n - 1)
            for i in range(n):
                out[i] = (<const int*>p)[n - 1 - i] * scale + offset
        else:
            for i in range(n):
                out[i] = (<const int*>(p + i * step))[0] * scale + offset
    elif raw.type == FLOAT32:
        for i in range(n):
            out[i] = (<const float*>(p + i * step))[0] * scale + offset
    else:
        for i in range(n):
            out[i] = (<const double*>(p + i * step))[0] * scale + offset


cdef inline bint is_marked(const Raw* raw, Py_ssize_t curve, Py_ssize_t sample) noexcept nogil:
    """Whether the raw sample is the marker of an invalid one, or not finite."""
    cdef const char* p = raw.base + curve * raw.curve_stride + sample * raw.sample_stride
    cdef double value
    if raw.type == INT16:
        value = <double>(<const short*>p)[0]
    elif raw.type == INT32:
        value = <double>(<const int*>p)[0]
    elif raw.type == FLOAT32:
        value = <double>(<const float*>p)[0]
    else:
        value = (<const double*>p)[0]
    if raw.has_invalid and value == raw.invalid:
        return True
    return not (value - value == 0.0)  # NaN and infinity


cdef inline bint may_be_marked(const Raw* raw) noexcept nogil:
    return raw.has_invalid or raw.type == FLOAT32 or raw.type == FLOAT64


cdef inline Py_ssize_t load_branch(
    const Raw* deflection, const Raw* z, const double* shared_z, Py_ssize_t curve, Py_ssize_t samples,
    Py_ssize_t valid, bint reverse, double* d_out, double* z_out, const double** z_used
) noexcept nogil:
    """Fill d_out (and z_out unless z is shared and whole) in surface order; return the number of valid samples.

    The first `valid` samples in time count. reverse: the branch ends at the surface (approach).
    """
    cdef Py_ssize_t i, j, kept = 0
    convert_row(deflection, curve, valid, reverse, d_out)
    if shared_z == NULL:
        convert_row(z, curve, valid, reverse, z_out)
        z_used[0] = z_out
    elif valid == samples:
        z_used[0] = shared_z
    else:
        # the shared z is in surface order over all samples; a short approach lacks its last ones, a retract too
        for i in range(valid):
            z_out[i] = shared_z[i + samples - valid] if reverse else shared_z[i]
        z_used[0] = z_out
    if not (may_be_marked(deflection) or (shared_z == NULL and may_be_marked(z))):
        return valid
    for i in range(valid):
        j = valid - 1 - i if reverse else i
        if is_marked(deflection, curve, j) or (shared_z == NULL and is_marked(z, curve, j)):
            continue
        if kept != i or z_used[0] != z_out:
            z_out[kept] = z_used[0][i]
        d_out[kept] = d_out[i]
        kept += 1
    if kept != valid:
        z_used[0] = z_out
    return kept


cdef inline bint is_saturated(const Raw* raw, Py_ssize_t curve, Py_ssize_t n) noexcept nogil:
    """Whether two neighbouring samples stand at the same limit of the converter's integer type."""
    cdef const char* p = raw.base + curve * raw.curve_stride
    cdef Py_ssize_t i, step = raw.sample_stride
    cdef int highest, lowest, value, previous = 0, low_mark = 0
    if raw.type == INT16:
        highest = 32767
        lowest = -32768
        # almost always there is none: a first pass that vectorises settles it
        value = 0
        if step == 2:
            for i in range(n):
                value |= ((<const short*>p)[i] == highest) | ((<const short*>p)[i] == lowest)
        elif step == -2:
            for i in range(n):
                value |= ((<const short*>(p + (n - 1) * step))[i] == highest) | (
                    (<const short*>(p + (n - 1) * step))[i] == lowest
                )
        else:
            value = 1
        if not value:
            return False
        for i in range(n):
            value = (<const short*>(p + i * step))[0]
            if i > 0 and value == previous and (value == highest or value == lowest):
                if not (raw.has_invalid and value == raw.invalid):
                    return True
            previous = value
    elif raw.type == INT32:
        highest = 0x7FFFFFFF
        lowest = -0x7FFFFFFF - 1
        for i in range(n):
            value = (<const int*>(p + i * step))[0]
            if i > 0 and value == previous and (value == highest or value == lowest):
                if not (raw.has_invalid and value == raw.invalid):
                    return True
            previous = value
    return False
