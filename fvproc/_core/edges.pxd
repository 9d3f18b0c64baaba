# Where contact begins and ends on a branch whose baseline is subtracted: peak, zero crossing, pull-off.

from libc.math cimport fabs

from fvproc._core.sums cimport extremes, first_at_least, first_at_most
from fvproc._core.types cimport Branch, Law

cdef extern from *:
    """
    /* part of the lowest sample's depth that means of some may be long */
    #define FVPROC_ATTRACTION 0.4
    """
    const double ATTRACTION "FVPROC_ATTRACTION"

cdef enum:
    STEP_DOUBT = 4      # standard deviation of the place of a step, in steps of the ramp, per (noise/height)²
    # multiples of the noise
    SIGNIFICANT = 5
    FREE = 3            # a sample below may be free
    CARRIED = 3         # for each step beyond the two samples that a line is drawn through
    # samples
    DOUBTFUL = 3        # at most that may be in contact or free, where the end of contact counts as known
    BLUNT = 4           # from three quarters to one quarter of the depth
    PLAIN = 9           # multiples of the noise: a pull-off so deep shows its end by single samples
    DENSE = 64          # in contact, for a mean of some of them to be a small part of it
    PART = 16           # of those in contact that such a mean is taken over


cdef inline void find_edges(Branch* branch, const Law* law, bint retract) noexcept nogil:
    """Set peak, zero, lowest, pulled and end.

    Where the lowest sample stands out of the noise, contact ends where the force has come back half way from it:
    at the jump. Elsewhere the lowest sample is one of the baseline's and tells nothing. Where samples are far apart they
    may all miss the pull-off; if the force, had contact gone on, would stand out below zero at the next sample but one
    or two, contact has ended before. Else it ends near the first zero crossing, and the fit of the model decides.
    end = n says that contact is never left.

    On approach attraction bends the lever before the tip jumps in, so that half way is no contact: it begins with the
    lowest sample, and what was drawn in before, until the force is zero, is neither contact nor free.

    Had contact gone on over a distance D to its end, where δ = 0, the force would have fallen from q to zero with
    D = q + B·q^(1/m) and, at its start, a slope S = 1/(1 + B·q^(1/m − 1)/m): by q = D·S/(S + m·(1 − S)); by more where
    contact goes on beyond.
    """
    cdef Py_ssize_t n = branch.axis.n, i
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef double slope, steps, travel, fall, m = <double>law.load_power / law.depth_power
    cdef float lowest = <float>branch.lowest, highest
    branch.peak_at = first_at_least(branch.d, <float>branch.peak, 0, n)
    branch.zero = first_at_most(branch.d, 0.0, branch.peak_at, n)
    branch.end = branch.zero
    branch.back = branch.zero
    branch.pulled = False
    branch.ends = False
    branch.several = False
    branch.jump_width = 0.0
    branch.faint = 0.0
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
        branch.back = branch.end
        if not retract and branch.off < n:
            branch.end = branch.lowest_at + 1
            branch.holds = z[branch.lowest_at]
            branch.back = first_at_least(branch.d, 0.0, branch.off, n)
        return
    i = first_at_most(d, <float>(FREE * branch.noise), branch.peak_at, n)
    if i < branch.peak_at + 3:
        return
    slope = (d[i - 2] - d[i - 1]) / (z[i - 2] - z[i - 1])
    for branch.off in range(i, i + DOUBTFUL if i + DOUBTFUL < n else n):
        steps = (z[i - 1] - z[branch.off]) / (z[i - 2] - z[i - 1])
        # noise of two samples carried so far, and the least that counts as a pull-off
        travel = 0.5 * (z[i - 2] + z[i - 1]) - z[branch.off]
        fall = slope * travel / (slope + m * (1.0 - slope)) if slope < 1.0 else slope * travel
        if 0.5 * (d[i - 2] + d[i - 1]) - fall < -(SIGNIFICANT + CARRIED * steps) * branch.noise:
            branch.ends = True
            branch.end = i
            branch.back = branch.off
            # nothing pulls off before the force is zero
            branch.holds = z[i - 1] - (d[i - 1] / slope if d[i - 1] > 0.0 else 0.0)
            return


cdef inline Py_ssize_t faint_width(const Branch* branch) noexcept nogil:
    """Samples of the means in which find_faint_jump looks for a pull-off, a power of two; 0 where it has no business.

    They cover a small part of the contact, and of the attraction, which in a stiff contact is as long as it is deep.
    """
    cdef const double* z = branch.axis.z + branch.zero
    cdef Py_ssize_t width = 4
    if branch.zero < DENSE or branch.zero >= branch.axis.n:
        return 0
    # slow noise hides no jump: what counts is how neighbours differ
    if branch.ends and not (branch.pulled and branch.lowest * branch.lowest < PLAIN * PLAIN * branch.allan):
        return 0
    while 2 * width * PART <= branch.zero:
        width *= 2
    while width >= 4 and (
        branch.zero + width >= branch.axis.n or z[0] - z[width] > -ATTRACTION * branch.lowest
    ):
        width //= 2
    return width if width >= 4 else 0


cdef inline void find_faint_jump(Branch* branch, Py_ssize_t width, double variance) noexcept nogil:
    """Find a pull-off that single samples show badly or not, where they lie densely: by means of `width` of them.

    Where the lowest mean near the zero crossing stands out of the noise (`variance`: that of such a mean), contact ends
    where the force steps from that mean to zero: where Σ(d − half the mean) from within the window is least (Page,
    Biometrika 41 (1954) 100). The step is off by some σ²/depth² samples, and the place of the pull-off with it.
    """
    cdef const float* d = branch.d
    cdef const double* z = branch.axis.z
    cdef Py_ssize_t stop = branch.zero + branch.zero // 2 + 2 * width, i, first = branch.zero, end
    cdef double total = 0.0, least, level, sum = 0.0, spacing
    if stop > branch.axis.n - width:
        stop = branch.axis.n - width
    if stop <= branch.zero:
        return
    for i in range(branch.zero, branch.zero + width):
        total += d[i]
    least = total
    for i in range(branch.zero, stop):
        total += d[i + width] - d[i]
        if total < least:
            least = total
            first = i + 1
    level = least / width
    if not level * level > SIGNIFICANT * SIGNIFICANT * variance or level >= 0.0:
        return
    first += width // 2
    stop = first + width + width // 2
    if stop > branch.axis.n - 1:
        stop = branch.axis.n - 1
    end = first
    least = 0.0
    for i in range(first, stop):
        sum += d[i] - 0.5 * level
        if sum < least:
            least = sum
            end = i + 1
    spacing = z[end - 1] - z[end]
    branch.pulled = True
    branch.ends = True
    branch.end = end
    branch.off = end
    branch.back = end
    branch.holds = z[end - 1]
    branch.lowest_at = end - 1
    branch.lowest = level
    branch.faint = STEP_DOUBT * spacing * (variance * width) / (level * level)


cdef inline void find_steps(Branch* branch, double noise, double doubt, bint move) noexcept nogil:
    """Whether the pull-off is one jump: several steps, or a return over several samples.

    A step of several is a rise by 6σ√2 and 0.15 of the depth, before the lowest sample or with a rest of attraction
    behind it, or attraction of 6σ and 0.1 of the depth again after the force has come back. The contact that bears the
    load is the one up to the first step: behind it the tip hangs on something else. Where the force comes back over
    several samples (a tether, a meniscus, a slow detector), half way means nothing: the contact ends before the lowest.
    noise: its standard deviation, not too small; doubt: nm that the baseline may be off here; move: let end, lowest and
    back follow, for a fit that asks for them.
    """
    cdef const float* d = branch.d
    cdef Py_ssize_t n = branch.axis.n, i, j, step = -1, back = branch.end, upper, lower
    cdef double depth = -branch.lowest, rise, level
    if not branch.pulled or branch.end >= n:
        return
    rise = 8.48528137423857 * noise
    rise = rise if rise > 0.15 * depth else 0.15 * depth
    level = 6.0 * noise + doubt
    level = level if level > 0.1 * depth else 0.1 * depth
    i = branch.zero
    while i < branch.end:
        if d[i + 1] - d[i] > rise and d[i] < -level:
            # behind the lowest sample a rise is the jump itself, unless it stops half way
            if i < branch.lowest_at or (
                i + 2 < n and d[i + 1] < -level and d[i + 1] < -0.2 * depth and d[i + 2] - d[i + 1] < rise
            ):
                step = i
            if i >= branch.lowest_at or step >= 0:
                break
        i += 1
    lower = first_at_least(d, 0.0, branch.end, n)
    if step >= 0:
        branch.several = True
        back = lower
    while lower < n:
        upper = first_at_most(d, <float>-level, lower, n)
        if upper >= n:
            break
        branch.several = True
        lower = first_at_least(d, 0.0, upper, n)
        back = lower
    if branch.several:
        if move:
            branch.back = back
            if step >= 0:
                branch.end = step + 1
                branch.lowest_at = step
                for j in range(branch.zero, step):
                    if d[j] < d[branch.lowest_at]:
                        branch.lowest_at = j
                branch.lowest = d[branch.lowest_at]
                branch.off = branch.end
                branch.holds = branch.axis.z[step]
        return
    if depth < 12.0 * noise + 4.0 * doubt:
        return
    lower = first_at_least(d, <float>(0.25 * branch.lowest), branch.lowest_at + 1, n)
    upper = lower - 1   # from behind: noise on the way down is no return
    while upper > branch.lowest_at and d[upper] > 0.75 * branch.lowest:
        upper -= 1
    if lower - upper < BLUNT or lower >= n:
        return
    branch.jump_width = branch.axis.z[branch.lowest_at - 1] - branch.axis.z[lower]
    if move:
        # the lowest may be the first sample of the return
        branch.end = branch.lowest_at
        branch.off = branch.end
        branch.holds = branch.axis.z[branch.end - 1]
        branch.back = first_at_least(d, 0.0, lower, n)


cdef inline double smoothed_minimum(const Branch* branch) noexcept nogil:
    """Value at the lowest sample of a straight line through it and its two neighbours on either side.

    The minimum of noisy samples lies below the truth by about two standard deviations; the line's value does much
    less so. Samples beyond the jump back to the baseline stay out. Where the lowest lies off the line by more than
    noise does, it is no line, and the sample itself is nearer to the truth.
    """
    cdef Py_ssize_t first = branch.lowest_at - 2, last = branch.lowest_at + 3, i, count
    cdef double mean_z = 0.0, mean_d = 0.0, szz = 0.0, szd = 0.0, value
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    if first < branch.zero:
        first = branch.zero
    if branch.pulled and last > branch.off:
        last = branch.off
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
    value = mean_d
    if count >= 3 and szz > 0.0:
        value += szd / szz * (z[branch.lowest_at] - mean_z)
    return value if fabs(value - branch.lowest) <= FREE * branch.noise else branch.lowest
