# Force and height at the turning point, and from there to a part of the force: straight lines, not single samples.
#
# The largest of many noisy samples lies two to three times the noise above the truth, the first below a level comes early:
# of a deformation of a nanometre that is a third at 0.1 nm of noise. In the upper tenth of the force, and in as much about a level,
# a contact is a line.

from libc.math cimport fabs

from fvproc._core.lanes cimport LANES, lanes, load, of_floats, splat, sum_of_eight
from fvproc._core.sums cimport first_at_least, first_at_most
from fvproc._core.types cimport Branch

cdef extern from *:
    """
    #define FVPROC_UPPER 0.1        /* of the peak force, in which the contact is a line */
    #define FVPROC_ABOUT 0.05       /* ... to both sides of a level */
    """
    const double UPPER "FVPROC_UPPER"
    const double ABOUT "FVPROC_ABOUT"

cdef enum:
    EACH = 8 // LANES   # registers that hold eight partial sums
    MOST = 32       # samples of a line: more would cost more than they tell
    FEWEST = 4
    APART = 6       # multiples of the noise: samples that lie so far apart tell by themselves where a level is
    STEEPEST = 2    # a rigid contact has 1, if the sensitivity is right


cdef inline bint line_through(
    const Branch* branch, Py_ssize_t first, Py_ssize_t last, double* mean_z, double* mean_d, double* slope
) noexcept nogil:
    """Least squares of d against z over [first, last); False where all z are one."""
    cdef lanes[8] sx
    cdef lanes[8] sy
    cdef lanes[8] sxx
    cdef lanes[8] sxy
    cdef const double* z = branch.axis.z + first
    cdef const float* d = branch.d + first
    cdef lanes u, v, start = splat(z[0]), level = splat(d[0])
    cdef double x, y, x1, y1, xx, xy
    cdef Py_ssize_t i, n = last - first, whole = n // 8 * 8
    cdef int k
    for k in range(EACH):
        sx[k] = splat(0.0)
        sy[k] = sx[k]
        sxx[k] = sx[k]
        sxy[k] = sx[k]
    for i in range(0, whole, 8):
        for k in range(EACH):
            u = load(z + i + k * LANES) - start
            v = of_floats(d + i + k * LANES) - level
            sx[k] = sx[k] + u
            sy[k] = sy[k] + v
            sxx[k] = sxx[k] + u * u
            sxy[k] = sxy[k] + u * v
    x1 = sum_of_eight(sx)
    y1 = sum_of_eight(sy)
    xx = sum_of_eight(sxx)
    xy = sum_of_eight(sxy)
    for i in range(whole, n):
        x = z[i] - z[0]
        y = <double>d[i] - <double>d[0]
        x1 += x
        y1 += y
        xx += x * x
        xy += x * y
    x1 /= n
    y1 /= n
    xx -= n * x1 * x1
    xy -= n * x1 * y1
    if not xx > 0.0:
        return False
    mean_z[0] = x1 + z[0]
    mean_d[0] = y1 + d[0]
    slope[0] = xy / xx
    return True


cdef inline void turning_point(const Branch* branch, double* top, double* at) noexcept nogil:
    """d and z of the branch at its turning point."""
    cdef const double* z = branch.axis.z
    cdef Py_ssize_t first = 0, last
    cdef float level = <float>((1.0 - UPPER) * branch.peak)
    cdef double mean_z, mean_d, slope, value
    top[0] = branch.peak
    at[0] = z[branch.peak_at]
    if branch.d[0] < level:
        first = first_at_least(branch.d, level, 0, branch.axis.n)
    last = first + MOST if first + MOST < branch.axis.n else branch.axis.n
    if branch.peak_at < last:
        last = first_at_most(branch.d, level, branch.peak_at, last)
    if last - first < FEWEST or not line_through(branch, first, last, &mean_z, &mean_d, &slope):
        return
    if z[first] > at[0]:
        at[0] = z[first]
    # of a few samples at the top of a sine, noise makes any slope
    slope = slope if slope < STEEPEST else <double>STEEPEST
    value = mean_d + (slope if slope > 0.0 else 0.0) * (at[0] - mean_z)
    if fabs(value - branch.peak) <= UPPER * branch.peak:
        top[0] = value


cdef inline double deformation(const Branch* branch, double region, double top, double at) noexcept nogil:
    """Separation at (1 − region) of the force at the turning point (top, at) minus separation there, nm.

    Reached on every branch that passes judge_contact: its force falls to zero. Noise may make it negative.
    """
    cdef double level = (1.0 - region) * top, about = ABOUT * top, z_level, mean_z, mean_d, slope
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t n = branch.axis.n, i, first, last
    i = first_at_most(d, <float>level, branch.peak_at + 1, n)
    if i >= n:
        return 0.0
    z_level = z[i]
    # the largest sample may lie below the turning point, and so below a level that is near it
    if d[i - 1] > d[i]:
        z_level += (level - d[i]) * (z[i - 1] - z[i]) / (d[i - 1] - d[i])
    z_level = z_level if z_level < at else at
    if d[i - 1] - d[i] < APART * branch.noise:
        # not into the baseline, but wide enough for noise
        if about > 0.5 * level:
            about = 0.5 * level
        if about < 3.0 * branch.noise:
            about = 3.0 * branch.noise if 3.0 * branch.noise < 0.8 * level else 0.8 * level
        last = i + MOST // 2 if i + MOST // 2 < n else n
        last = first_at_most(d, <float>(level - about), i, last)
        first = i - MOST // 2 if i - MOST // 2 > branch.peak_at else branch.peak_at + 1
        first = first_at_most(d, <float>(level + about), first, i)
        if last - first >= FEWEST and line_through(branch, first, last, &mean_z, &mean_d, &slope) and slope > 0.0:
            mean_z += (level - mean_d) / slope
            if z[last - 1] <= mean_z <= z[first]:
                z_level = mean_z
    return (level - z_level) - (top - at)
