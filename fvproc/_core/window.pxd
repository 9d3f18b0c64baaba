# The estimator of the instruments, `qnm`: a straight line through (F + F_adh)^(1/m) against separation.

from libc.math cimport sqrt

from fvproc._core.lanes cimport LANES, choose, lanes, less, load, larger, splat, store
from fvproc._core.model cimport Contact, contact_of, root_at, shape_of_root, slope_of_shape
from fvproc._core.sums cimport first_at_most
from fvproc._core.types cimport FIT_FAILED, JKR, TOO_FEW_POINTS, Branch, ContactFit, Law

cdef enum:
    SIDE = 8    # samples side by side; their partial sums are added in a fixed order
    SUMS = 9
    FILM_STEPS = 60


cdef inline double added(const double* a) noexcept nogil:
    return ((a[0] + a[4]) + (a[1] + a[5])) + ((a[2] + a[6]) + (a[3] + a[7]))


cdef inline void fit_window(
    const Law* law, const Branch* branch, double adhesion, double adhesion_std, double reach, double low, double high,
    double* work, ContactFit* fit
) noexcept nogil:
    """The line through the window; in a film, whose law holds the compliance itself, again until that settles."""
    cdef double earlier
    cdef int i
    fit.compliance = 1.0
    fit_line(law, branch, adhesion, adhesion_std, 0.0, low, high, work, fit)
    fit.reach = reach
    if not law.film:
        return
    for i in range(FILM_STEPS):
        if fit.status != 0:
            return
        earlier = fit.compliance
        fit_line(law, branch, adhesion, adhesion_std, reach, low, high, work, fit)
        if -1e-9 * earlier < fit.compliance - earlier < 1e-9 * earlier:
            return
    fit.status = FIT_FAILED


cdef inline void fit_line(
    const Law* law, const Branch* branch, double adhesion, double adhesion_std, double reach, double low, double high,
    double* work, ContactFit* fit
) noexcept nogil:
    """Least squares on the samples with F between F_min + low·(F_peak − F_min) and F_min + high·(F_peak − F_min).

    y = q^(1/m) = (δ − δ0)/B is linear in s = z − d, with slope 1/B. Standard errors are those of the line's
    residuals and miss what noise on both axes does; see docs/estimators.md. The residual in force is that of y
    divided by dy/dd along the curve, y' + 1/B: of first order. work holds 3·n + 24 doubles.
    """
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef double floor = -adhesion if adhesion > 0.0 else branch.lowest
    cdef double bottom = floor + low * (branch.peak - floor), top = floor + high * (branch.peak - floor)
    cdef double reference = z[0] - branch.peak
    cdef Py_ssize_t first = first_at_most(d, <float>top, branch.peak_at, branch.end)
    cdef Py_ssize_t stop = first_at_most(d, <float>bottom, first, branch.end), count = stop - first, padded, i
    cdef double* sd = work
    cdef double* ss = work + count + SIDE
    cdef double* sy = work + 2 * (count + SIDE)
    cdef double[72] sums
    cdef double[9] s
    cdef double n, slope, intercept, spread, residual, error, at
    cdef lanes x, y, w, q, r, p, zero = splat(0.0), attraction = splat(adhesion)
    cdef Contact contact
    cdef int j, k
    if law.kind == JKR:
        attraction = splat(sqrt(adhesion) if adhesion > 0.0 else 0.0)
    contact_of(law, splat(fit.compliance), attraction, splat(reach), &contact)
    fit.status = 0
    fit.samples = 0
    for j in range(72):
        sums[j] = 0.0
    padded = (count + SIDE - 1) // SIDE * SIDE
    for i in range(count):
        sd[i] = d[first + i]
        ss[i] = z[first + i] - d[first + i] - reference
    for i in range(count, padded):
        sd[i] = 2.0 * top + 1.0     # out of the window
        ss[i] = 0.0
    for i in range(0, padded, 8):
        k = 0
        while k < SIDE:
            q = load(sd + i + k)
            x = load(ss + i + k)
            w = choose(less(splat(top), q), zero, splat(1.0))
            p = root_at(law, &contact, larger(q + adhesion, splat(1e-18)))
            store(sy + i + k, p)
            y = w * shape_of_root(law, &contact, p)
            x = w * x
            store(sums + k, load(sums + k) + w)
            store(sums + 8 + k, load(sums + 8 + k) + x)
            store(sums + 16 + k, load(sums + 16 + k) + y)
            store(sums + 24 + k, load(sums + 24 + k) + x * x)
            store(sums + 32 + k, load(sums + 32 + k) + x * y)
            store(sums + 40 + k, load(sums + 40 + k) + y * y)
            q = w * q
            store(sums + 48 + k, load(sums + 48 + k) + q)
            store(sums + 56 + k, load(sums + 56 + k) + x * q)
            store(sums + 64 + k, load(sums + 64 + k) + q * q)
            k += LANES
    for j in range(SUMS):
        s[j] = added(sums + 8 * j)
    n = s[0]
    fit.samples = <Py_ssize_t>n
    if n < 3.0:
        fit.status = TOO_FEW_POINTS
        return
    spread = s[3] - s[1] * s[1] / n
    slope = (s[4] - s[1] * s[2] / n) / spread if spread > 0.0 else 0.0
    if not slope > 0.0:
        fit.status = FIT_FAILED
        return
    intercept = (s[2] - slope * s[1]) / n
    residual = s[5] - s[2] * s[2] / n - slope * (s[4] - s[1] * s[2] / n)
    if residual < 0.0:
        residual = 0.0
    error = residual / (n - 2.0) if n > 2.0 else 0.0
    at = s[1] / n + intercept / slope
    fit.compliance = 1.0 / slope
    fit.compliance_std = sqrt(error / spread) / (slope * slope)
    fit.z0 = reference - intercept / slope
    fit.z0_std = sqrt(error * (1.0 / n + at * at / spread)) / slope
    fit.adhesion = adhesion
    fit.adhesion_std = adhesion_std
    fit.offset = 0.0
    fit.tilt = 0.0
    fit.slope = (s[7] - s[1] * s[6] / n) / spread
    fit.start = first
    fit.stop = stop
    for j in range(SIDE):
        sums[j] = 0.0
    for i in range(0, padded, 8):
        k = 0
        while k < SIDE:
            p = load(sy + i + k)
            w = choose(less(splat(top), load(sd + i + k)), zero, splat(1.0))
            r = shape_of_root(law, &contact, p) - (slope * load(ss + i + k) + intercept)
            r = r / (slope_of_shape(law, &contact, p) + slope)
            store(sums + k, load(sums + k) + w * r * r)
            k += LANES
    residual = added(sums)
    spread = s[8] - s[6] * s[6] / n
    fit.rmse = sqrt(residual / n)
    fit.r_squared = 1.0 - residual / spread if spread > 0.0 else 0.0
