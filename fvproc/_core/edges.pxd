# Where contact begins and ends on a branch whose baseline is subtracted: peak, zero crossing, pull-off.

from fvproc._core.sums cimport extremes, first_at_least, first_at_most
from fvproc._core.types cimport Branch

cdef enum:
    # multiples of the noise
    SIGNIFICANT = 5
    FREE = 3            # a sample below may be free
    CARRIED = 3         # for each step beyond the two samples that a line is drawn through
    DOUBTFUL = 3        # samples at most that may be in contact or free, where the end of contact counts as known


cdef inline void find_edges(Branch* branch) noexcept nogil:
    """Set peak, zero, lowest, pulled and end.

    Where the lowest sample stands out of the noise, contact ends where the force has come back half way from it:
    at the jump. Elsewhere the lowest sample is one of the baseline's and tells nothing. Where samples are far apart they
    may all miss the pull-off; if the force, had contact gone on, would stand out below zero at the next sample but one
    or two, contact has ended before. Else it ends near the first zero crossing, and the fit of the model decides.
    end = n says that contact is never left.
    """
    cdef Py_ssize_t n = branch.axis.n, i
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef double slope, steps
    cdef float lowest = <float>branch.lowest, highest
    branch.peak_at = first_at_least(branch.d, <float>branch.peak, 0, n)
    branch.zero = first_at_most(branch.d, 0.0, branch.peak_at, n)
    branch.end = branch.zero
    branch.pulled = False
    branch.ends = False
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
    branch.ends = branch.pulled
    if branch.pulled:
        branch.end = first_at_least(branch.d, 0.5 * lowest, branch.lowest_at + 1, n)
        branch.off = branch.end
        branch.holds = z[branch.end - 1]
        return
    i = first_at_most(d, <float>(FREE * branch.noise), branch.peak_at, n)
    if i < branch.peak_at + 3:
        return
    slope = (d[i - 2] - d[i - 1]) / (z[i - 2] - z[i - 1])
    for branch.off in range(i, i + DOUBTFUL if i + DOUBTFUL < n else n):
        steps = (z[i - 1] - z[branch.off]) / (z[i - 2] - z[i - 1])
        # noise of two samples carried so far, and the least that counts as a pull-off
        if d[i - 1] - slope * (z[i - 1] - z[branch.off]) < -(SIGNIFICANT + CARRIED * steps) * branch.noise:
            branch.ends = True
            branch.end = i
            # nothing pulls off before the force is zero
            branch.holds = z[i - 1] - (d[i - 1] / slope if d[i - 1] > 0.0 else 0.0)
            return


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
