# Where contact begins and ends on a branch whose baseline is subtracted: peak, zero crossing, pull-off.

from fvproc._core.sums cimport extremes, first_at_least, first_at_most
from fvproc._core.types cimport Branch

cdef enum:
    SIGNIFICANT = 5  # multiples of the noise


cdef inline void find_edges(Branch* branch) noexcept nogil:
    """Set peak, zero, lowest, pulled and end.

    Where the lowest sample stands out of the noise, contact ends where the force has come back half way from it:
    at the jump. Elsewhere the lowest sample is one of the baseline's and tells nothing: contact then ends near the
    first zero crossing, and the fit of the model decides. end = n says that contact is never left.
    """
    cdef Py_ssize_t n = branch.axis.n
    cdef float lowest = <float>branch.lowest, highest
    branch.peak_at = first_at_least(branch.d, <float>branch.peak, 0, n)
    branch.zero = first_at_most(branch.d, 0.0, branch.peak_at, n)
    branch.end = branch.zero
    branch.pulled = False
    branch.lowest = 0.0
    branch.lowest_at = branch.zero
    if branch.zero >= n:
        return
    branch.lowest_at = first_at_most(branch.d, lowest, branch.zero, n)
    if branch.lowest_at >= n:  # the lowest sample lies before the peak
        extremes(branch.d + branch.zero, n - branch.zero, &lowest, &highest)
        branch.lowest_at = first_at_most(branch.d, lowest, branch.zero, n)
        if branch.lowest_at >= n:
            branch.lowest_at = branch.zero
    branch.lowest = lowest
    branch.pulled = lowest < -SIGNIFICANT * branch.noise
    if branch.pulled:
        branch.end = first_at_least(branch.d, 0.5 * lowest, branch.lowest_at + 1, n)


cdef inline double smoothed_minimum(const Branch* branch) noexcept nogil:
    """Value at the lowest sample of a straight line through it and its two neighbours on either side.

    The minimum of noisy samples lies below the truth by about two standard deviations; the line's value does much
    less so. Samples beyond the jump back to the baseline stay out.
    """
    cdef Py_ssize_t first = branch.lowest_at - 2, last = branch.lowest_at + 3, i, count
    cdef double mean_z = 0.0, mean_d = 0.0, szz = 0.0, szd = 0.0
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    if first < branch.zero:
        first = branch.zero
    if branch.pulled and last > branch.end:
        last = branch.end
    if last > branch.axis.n:
        last = branch.axis.n
    count = last - first
    if count < 1:
        return branch.lowest
    for i in range(first, last):
        mean_z += z[i]
        mean_d += d[i]
    mean_z /= count
    mean_d /= count
    for i in range(first, last):
        szz += (z[i] - mean_z) * (z[i] - mean_z)
        szd += (z[i] - mean_z) * (d[i] - mean_d)
    if count < 3 or szz <= 0.0:
        return mean_d
    return mean_d + szd / szz * (z[branch.lowest_at] - mean_z)
