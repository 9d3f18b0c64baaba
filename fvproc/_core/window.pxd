# The estimator of the instruments, `qnm`: a straight line through (F + F_adh)^(1/m) against separation.

from libc.math cimport sqrt

from fvproc._core.model cimport indentation_shape
from fvproc._core.types cimport FIT_FAILED, TOO_FEW_POINTS, Branch, ContactFit


cdef inline void fit_window(
    int model, const Branch* branch, double adhesion, double adhesion_std, double low, double high, ContactFit* fit
) noexcept nogil:
    """Least squares on the samples with F between F_min + low·(F_peak − F_min) and F_min + high·(F_peak − F_min).

    y = q^(1/m) = (δ − δ0)/B is linear in δ' = z − d, with slope 1/B. Standard errors are those of the line's
    residuals and miss what noise on both axes does; see docs/estimators.md.
    """
    cdef Py_ssize_t i, used = 0, first = -1, last = -1, stop = branch.end
    cdef double floor = -adhesion if adhesion > 0.0 else branch.lowest
    cdef double reference = branch.z[0] - branch.d[0]
    cdef double bottom, top, y, s, d
    cdef double ss = 0.0, sy = 0.0, sss = 0.0, ssy = 0.0, syy = 0.0, sd = 0.0, ssd = 0.0, sdd = 0.0
    cdef double slope, intercept, spread, residual, error
    bottom = floor + low * (branch.peak - floor)
    top = floor + high * (branch.peak - floor)
    fit.status = 0
    for i in range(branch.peak_at, stop):
        d = branch.d[i]
        if d > top:
            continue
        if d < bottom:
            if used > 0:
                break
            continue
        y = indentation_shape(model, d + adhesion)
        s = branch.z[i] - d - reference
        if first < 0:
            first = i
        last = i
        used += 1
        ss += s
        sy += y
        sss += s * s
        ssy += s * y
        syy += y * y
        sd += d
        ssd += s * d
        sdd += d * d
    fit.samples = used
    if used < 3:
        fit.status = TOO_FEW_POINTS
        return
    spread = sss - ss * ss / used
    slope = (ssy - ss * sy / used) / spread if spread > 0.0 else 0.0
    if not slope > 0.0:
        fit.status = FIT_FAILED
        return
    intercept = (sy - slope * ss) / used
    residual = syy - sy * sy / used - slope * (ssy - ss * sy / used)
    if residual < 0.0:
        residual = 0.0
    error = residual / (used - 2) if used > 2 else 0.0
    fit.compliance = 1.0 / slope
    fit.compliance_std = sqrt(error / spread) / (slope * slope)
    fit.z0 = reference - intercept / slope
    fit.z0_std = sqrt(error * (1.0 / used + (ss / used + intercept / slope) * (ss / used + intercept / slope) / spread)) / slope
    fit.adhesion = adhesion
    fit.adhesion_std = adhesion_std
    fit.offset = 0.0
    fit.tilt = 0.0
    fit.slope = (ssd - ss * sd / used) / spread
    fit.start = first
    fit.stop = last + 1
    fit.sst = sdd - sd * sd / used
    fit.sse = 0.0
