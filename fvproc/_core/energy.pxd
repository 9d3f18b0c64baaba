# Areas under a curve: work lost in a cycle and work of adhesion, in nm² of deflection times travel.

from fvproc._core.lanes cimport trapezia
from fvproc._core.types cimport Branch


cdef inline double area(const Branch* branch, double low, double high) noexcept nogil:
    """∫ d dz over low <= z <= high by trapezia, cut ends interpolated."""
    cdef Py_ssize_t i
    cdef double z1, z2, d1, d2, slope, result = 0.0
    if low <= branch.z[branch.n - 1] and branch.z[0] <= high:
        return 0.5 * trapezia(branch.z, branch.d, branch.n)
    for i in range(branch.n - 1):
        z1 = branch.z[i + 1]
        z2 = branch.z[i]
        d1 = branch.d[i + 1]
        d2 = branch.d[i]
        if z1 >= low and z2 <= high:
            result += (z2 - z1) * (d1 + d2)
            continue
        if not z2 > z1 or z2 <= low or z1 >= high:
            continue
        slope = (d2 - d1) / (z2 - z1)
        if z1 < low:
            d1 += slope * (low - z1)
            z1 = low
        if z2 > high:
            d2 += slope * (high - z2)
            z2 = high
        result += (z2 - z1) * (d1 + d2)
    return 0.5 * result


cdef inline double lost_work(const Branch* approach, const Branch* retract) noexcept nogil:
    """∮ d dz over the range of z that both branches cover."""
    cdef double low = approach.z[approach.n - 1], high = approach.z[0]
    if retract.z[retract.n - 1] > low:
        low = retract.z[retract.n - 1]
    if retract.z[0] < high:
        high = retract.z[0]
    if not high > low:
        return 0.0
    return area(approach, low, high) - area(retract, low, high)


cdef inline double adhesion_work(const Branch* branch) noexcept nogil:
    """Area below the baseline, from the zero crossing to the first sample past the lowest that is not below it."""
    cdef Py_ssize_t i
    cdef double d1, d2, result = 0.0
    if branch.zero >= branch.n:
        return 0.0
    for i in range(branch.zero, branch.n - 1):
        d1 = branch.d[i + 1] if branch.d[i + 1] < 0.0 else 0.0
        d2 = branch.d[i] if branch.d[i] < 0.0 else 0.0
        result -= (branch.z[i] - branch.z[i + 1]) * (d1 + d2)
        if i + 1 > branch.lowest_at and branch.d[i + 1] >= 0.0:
            break
    return 0.5 * result
