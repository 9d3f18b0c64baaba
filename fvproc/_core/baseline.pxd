# The non-contact part of a branch: its line, its noise, and how far it reaches towards the surface.

from libc.math cimport sqrt

from fvproc._core.lanes cimport dot, line_sums, total
from fvproc._core.types cimport Branch


cdef inline void line_through(const double* sums, int order, double* offset, double* tilt) noexcept nogil:
    """Least-squares line from line_sums; order 0 keeps the tilt at zero."""
    cdef double determinant = sums[0] * sums[2] - sums[1] * sums[1]
    tilt[0] = 0.0
    if order > 0 and determinant > 1e-12 * sums[0] * sums[2]:
        tilt[0] = (sums[0] * sums[4] - sums[1] * sums[3]) / determinant
    offset[0] = (sums[3] - tilt[0] * sums[1]) / sums[0]


cdef inline void fit_baseline(Branch* branch, double fraction, int order) noexcept nogil:
    """Line through the part of the branch farthest from the surface; sets offset, tilt, centre and far."""
    cdef double[6] sums
    cdef Py_ssize_t count = <Py_ssize_t>(fraction * branch.n)
    branch.far = branch.n - count
    branch.centre = branch.z[branch.far + count // 2]
    line_sums(branch.z + branch.far, branch.d + branch.far, count, branch.centre, sums)
    line_through(sums, order, &branch.offset, &branch.tilt)


cdef inline void subtract_baseline(Branch* branch, double offset, double tilt, double centre) noexcept nogil:
    cdef Py_ssize_t i
    cdef double* d = branch.d
    cdef const double* z = branch.z
    for i in range(branch.n):
        d[i] -= offset + tilt * (z[i] - centre)


cdef inline void measure_noise(Branch* branch, int order, double quantum, double* r) noexcept nogil:
    """Standard deviation about the branch's own line over [far, n), and the inflation of errors by correlation.

    Takes the noise to be a first-order autoregression: the variance of a mean is (1 + ρ)/(1 − ρ) times that of
    white noise, ρ the correlation of neighbours. `quantum` is the width of a step of the converter: its variance
    quantum²/12 is the least there can be. r: scratch for branch.n doubles.
    """
    cdef Py_ssize_t count = branch.n - branch.far
    cdef const double* d = branch.d + branch.far
    cdef const double* z = branch.z + branch.far
    cdef double[6] sums
    cdef double offset, tilt, variance, rho, squares, products
    cdef Py_ssize_t i
    line_sums(z, d, count, branch.centre, sums)
    line_through(sums, order, &offset, &tilt)
    for i in range(count):
        r[i] = d[i] - offset - tilt * (z[i] - branch.centre)
    squares = dot(r, r, count)
    products = dot(r, r + 1, count - 1)
    variance = squares / (count - 1 - order)
    rho = products / squares if squares > 0.0 else 0.0
    if variance < quantum * quantum / 12.0:
        variance = quantum * quantum / 12.0
    branch.noise = sqrt(variance)
    branch.correlated = rho * rho * count > 9.0 and rho > 0.0
    branch.inflation = 1.0
    if branch.correlated:
        if rho > 0.98:
            rho = 0.98
        branch.inflation = (1.0 + rho) / (1.0 - rho)


cdef inline Py_ssize_t extend_baseline(const Branch* branch, Py_ssize_t limit, int order) noexcept nogil:
    """First sample of the non-contact part: from `far` towards the surface while blocks lie on the line.

    A block is accepted while its mean departs by no more than four of its standard errors, those of the
    extrapolated line included. Never passes `limit`. The subtracted baseline is that of [far, n).
    """
    cdef Py_ssize_t width = branch.n // 32 if branch.n >= 256 else 8
    cdef Py_ssize_t start, stop = branch.far
    cdef double[6] sums
    cdef double spread, mean, at, variance, slope_part
    if limit >= stop:
        return stop
    line_sums(branch.z + stop, branch.d + stop, branch.n - stop, branch.centre, sums)
    spread = sums[2] - sums[1] * sums[1] / sums[0]
    variance = branch.noise * branch.noise * branch.inflation
    cdef double far_count = sums[0], far_mean = sums[1] / sums[0]
    while stop > limit:
        start = stop - width if stop - width > limit else limit
        mean = total(branch.d + start, stop - start) / (stop - start)
        at = total(branch.z + start, stop - start) / (stop - start) - branch.centre - far_mean
        slope_part = at * at / spread if order > 0 and spread > 0.0 else 0.0
        if mean * mean > 16.0 * variance * (1.0 / (stop - start) + 1.0 / far_count + slope_part):
            break
        stop = start
    return stop
