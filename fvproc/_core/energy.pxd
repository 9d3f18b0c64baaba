# Areas under a curve: work lost in a cycle and work of adhesion, in nm² of deflection times travel.

from fvproc._core.sums cimport first_at_least, weighted, weighted_below
from fvproc._core.types cimport Branch


cdef inline double area(const Branch* branch, double low, double high) noexcept nogil:
    """∫ d dz over low <= z <= high by trapezia, cut ends interpolated; where z goes back and forth, so does the sum."""
    cdef Py_ssize_t i, n = branch.axis.n
    cdef const double* z = branch.axis.z
    cdef double z1, z2, d1, d2, a1, a2, slope, result = 0.0
    if low <= z[n - 1] and z[0] <= high:
        return weighted(branch.axis.weight, branch.d, n)
    for i in range(n - 1):
        z1 = z[i + 1]
        z2 = z[i]
        d1 = branch.d[i + 1]
        d2 = branch.d[i]
        a1 = low if z1 < low else high if z1 > high else z1
        a2 = low if z2 < low else high if z2 > high else z2
        if a1 == a2:
            continue
        if a1 != z1 or a2 != z2:
            slope = (d2 - d1) / (z2 - z1)
            d2 += slope * (a2 - z2)
            d1 += slope * (a1 - z1)
        result += (a2 - a1) * (d1 + d2)
    return 0.5 * result


cdef inline double lost_work(const Branch* approach, const Branch* retract) noexcept nogil:
    """∮ d dz over the range of z that both branches cover."""
    cdef double low = approach.axis.z[approach.axis.n - 1], high = approach.axis.z[0]
    if retract.axis.z[retract.axis.n - 1] > low:
        low = retract.axis.z[retract.axis.n - 1]
    if retract.axis.z[0] < high:
        high = retract.axis.z[0]
    if not high > low:
        return 0.0
    return area(approach, low, high) - area(retract, low, high)


cdef inline double adhesion_work(const Branch* branch) noexcept nogil:
    """Area below the baseline, from the zero crossing to the first sample past the pull-off that is not below it.

    Without one that stands out of the noise, the lowest sample is anywhere in the baseline: what counts then are the
    samples until the force first comes back.
    """
    cdef Py_ssize_t first = branch.zero, n = branch.axis.n, stop
    cdef double ends
    if first >= n - 1:
        return 0.0
    stop = first_at_least(branch.d, 0.0, branch.lowest_at + 1 if branch.pulled else first + 1, n)
    ends = 0.0
    # the trapezia end at the zero crossing and, where the curve ends below the baseline, with the curve
    if branch.d[first] < 0.0 and first > 0:
        ends = 0.5 * (branch.axis.z[first - 1] - branch.axis.z[first]) * branch.d[first]
    return ends - weighted_below(branch.axis.weight + first, branch.d + first, stop - first)
