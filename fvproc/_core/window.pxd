# The estimator of the instruments, `qnm`: a straight line through (F + F_adh)^(1/m) against separation.

from libc.math cimport sqrt

from fvproc._core.lanes cimport LANES, choose, lanes, less, load, larger, of_floats, splat, store, sum_of_eight
from fvproc._core.model cimport Contact, contact_of, root_at, shape_of_root, slope_of_shape
from fvproc._core.sums cimport first_at_most
from fvproc._core.types cimport FIT_FAILED, JKR, TOO_FEW_POINTS, Branch, ContactFit, Law

cdef enum:
    SIDE = 8                # samples side by side; their partial sums are added in a fixed order
    EACH = SIDE // LANES    # registers that hold them
    FILM_STEPS = 60


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
    cdef double* roots = work + 2 * (count + SIDE)
    cdef lanes[8] sums_n
    cdef lanes[8] sums_x
    cdef lanes[8] sums_y
    cdef lanes[8] sums_xx
    cdef lanes[8] sums_xy
    cdef lanes[8] sums_yy
    cdef lanes[8] sums_q
    cdef lanes[8] sums_xq
    cdef lanes[8] sums_qq
    cdef double sx, sy, sxx, sxy, syy, sq, sxq, sqq
    cdef double n, slope, intercept, spread, residual, error, at
    cdef lanes x, y, w, q, r, p, zero = splat(0.0), attraction = splat(adhesion)
    cdef Contact contact
    cdef int k
    if law.kind == JKR:
        attraction = splat(sqrt(adhesion) if adhesion > 0.0 else 0.0)
    contact_of(law, splat(fit.compliance), attraction, splat(reach), &contact)
    fit.status = 0
    fit.samples = 0
    for k in range(EACH):
        sums_n[k] = zero
        sums_x[k] = zero
        sums_y[k] = zero
        sums_xx[k] = zero
        sums_xy[k] = zero
        sums_yy[k] = zero
        sums_q[k] = zero
        sums_xq[k] = zero
        sums_qq[k] = zero
    padded = (count + SIDE - 1) // SIDE * SIDE
    i = 0
    while i < padded:   # what lies beyond count is overwritten
        q = of_floats(d + first + i)
        store(sd + i, q)
        store(ss + i, load(z + first + i) - q - reference)
        i += LANES
    for i in range(count, padded):
        sd[i] = 2.0 * top + 1.0     # out of the window
        ss[i] = 0.0
    for i in range(0, padded, 8):
        for k in range(EACH):
            q = load(sd + i + k * LANES)
            x = load(ss + i + k * LANES)
            w = choose(less(splat(top), q), zero, splat(1.0))
            p = root_at(law, &contact, larger(q + adhesion, splat(1e-18)))
            store(roots + i + k * LANES, p)
            y = w * shape_of_root(law, &contact, p)
            x = w * x
            q = w * q
            sums_n[k] = sums_n[k] + w
            sums_x[k] = sums_x[k] + x
            sums_y[k] = sums_y[k] + y
            sums_xx[k] = sums_xx[k] + x * x
            sums_xy[k] = sums_xy[k] + x * y
            sums_yy[k] = sums_yy[k] + y * y
            sums_q[k] = sums_q[k] + q
            sums_xq[k] = sums_xq[k] + x * q
            sums_qq[k] = sums_qq[k] + q * q
    n = sum_of_eight(sums_n)
    sx = sum_of_eight(sums_x)
    sy = sum_of_eight(sums_y)
    sxx = sum_of_eight(sums_xx)
    sxy = sum_of_eight(sums_xy)
    syy = sum_of_eight(sums_yy)
    sq = sum_of_eight(sums_q)
    sxq = sum_of_eight(sums_xq)
    sqq = sum_of_eight(sums_qq)
    fit.samples = <Py_ssize_t>n
    if n < 3.0:
        fit.status = TOO_FEW_POINTS
        return
    spread = sxx - sx * sx / n
    slope = (sxy - sx * sy / n) / spread if spread > 0.0 else 0.0
    if not slope > 0.0:
        fit.status = FIT_FAILED
        return
    intercept = (sy - slope * sx) / n
    residual = syy - sy * sy / n - slope * (sxy - sx * sy / n)
    if residual < 0.0:
        residual = 0.0
    error = residual / (n - 2.0) if n > 2.0 else 0.0
    at = sx / n + intercept / slope
    fit.compliance = 1.0 / slope
    fit.compliance_std = sqrt(error / spread) / (slope * slope)
    fit.z0 = reference - intercept / slope
    fit.z0_std = sqrt(error * (1.0 / n + at * at / spread)) / slope
    fit.adhesion = adhesion
    fit.adhesion_std = adhesion_std
    fit.offset = 0.0
    fit.tilt = 0.0
    fit.slope = (sxq - sx * sq / n) / spread
    fit.start = first
    fit.stop = stop
    for k in range(EACH):
        sums_n[k] = zero
    for i in range(0, padded, 8):
        for k in range(EACH):
            p = load(roots + i + k * LANES)
            w = choose(less(splat(top), load(sd + i + k * LANES)), zero, splat(1.0))
            r = shape_of_root(law, &contact, p) - (slope * load(ss + i + k * LANES) + intercept)
            r = r / (slope_of_shape(law, &contact, p) + slope)
            sums_n[k] = sums_n[k] + w * r * r
    residual = sum_of_eight(sums_n)
    spread = sqq - sq * sq / n
    fit.rmse = sqrt(residual / n)
    fit.r_squared = 1.0 - residual / spread if spread > 0.0 else 0.0
