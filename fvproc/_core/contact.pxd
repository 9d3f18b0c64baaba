# The contact point on approach: `threshold` and `piecewise`.

from fvproc._core.baseline cimport extend_baseline
from fvproc._core.fit cimport FEWEST, fit_contact
from fvproc._core.types cimport CONTACT_NOT_FOUND, Branch, ContactFit


cdef inline void threshold_contact(const Branch* branch, double level, ContactFit* fit) noexcept nogil:
    """Where the force first exceeds `level` for good, by linear interpolation between the samples on either side."""
    cdef Py_ssize_t i
    cdef double slope
    fit.status = CONTACT_NOT_FOUND
    for i in range(branch.peak_at + 1, branch.n):
        if branch.d[i] < level:
            slope = (branch.d[i - 1] - branch.d[i]) / (branch.z[i - 1] - branch.z[i])
            if not slope > 0.0:
                return
            fit.z0 = branch.z[i] + (level - branch.d[i]) / slope
            fit.z0_std = branch.noise / slope
            fit.status = 0
            return


cdef inline Py_ssize_t best_break(const Branch* branch, Py_ssize_t first, Py_ssize_t last) noexcept nogil:
    """Break b in [first, last] with the least Σ over i < b of (d − αx − γx²)² + Σ over i >= b of d², x = z − z_b.

    The parabola from the break stands for every exponent between 1 (rigid) and 2 (soft cone). Its normal equations
    at any break follow from running sums of z^p and d·z^p by shifting the origin: one pass, whatever the number of
    breaks (after Lin, Dimitriadis & Horkay, J. Biomech. Eng. 129 (2007) 430, who fit at each break anew).
    """
    cdef double m1 = 0.0, m2 = 0.0, m3 = 0.0, m4 = 0.0, r0 = 0.0, r1 = 0.0, r2 = 0.0, explained, best = -1.0
    cdef double x, xx, t, s2, s3, s4, t1, t2, determinant, alpha, gamma, inside = 0.0
    cdef double origin = branch.z[0]
    cdef double scale = 1.0 / (branch.z[0] - branch.z[last] + 1e-300)
    cdef Py_ssize_t i, at = first
    # Σ over all of d² is common to every break: maximise what the parabola explains of the contact part
    for i in range(last + 1):
        if i >= first:
            t = (branch.z[i] - origin) * scale
            s2 = m2 - 2.0 * t * m1 + t * t * i
            s3 = m3 - 3.0 * t * m2 + 3.0 * t * t * m1 - t * t * t * i
            s4 = m4 - 4.0 * t * m3 + 6.0 * t * t * m2 - 4.0 * t * t * t * m1 + t * t * t * t * i
            t1 = r1 - t * r0
            t2 = r2 - 2.0 * t * r1 + t * t * r0
            determinant = s2 * s4 - s3 * s3
            if determinant > 1e-12 * s2 * s4:
                alpha = (t1 * s4 - t2 * s3) / determinant
                gamma = (t2 * s2 - t1 * s3) / determinant
                if alpha < 0.0:  # contact does not begin by pulling: parabola alone
                    alpha = 0.0
                    gamma = t2 / s4
                explained = alpha * t1 + gamma * t2
                if explained > best:
                    best = explained
                    at = i
        x = (branch.z[i] - origin) * scale
        xx = x * x
        m1 += x
        m2 += xx
        m3 += xx * x
        m4 += xx * xx
        r0 += branch.d[i]
        r1 += branch.d[i] * x
        r2 += branch.d[i] * xx
    return at


cdef inline void piecewise_contact(
    int model, Branch* branch, int baseline_parameters, double quantum, double* work, ContactFit* fit
) noexcept nogil:
    """Line, then line plus contact model: break by best_break, then least squares from there.

    Where attraction before contact stands out of the noise (snap-in), the force at contact is left free.
    """
    cdef Py_ssize_t quiet, first = 2, last
    cdef Py_ssize_t i
    fit.status = CONTACT_NOT_FOUND
    if branch.zero >= branch.n:
        return
    quiet = extend_baseline(branch, branch.end, baseline_parameters - 1 if baseline_parameters > 0 else 0)
    last = quiet if quiet < branch.n - 1 else branch.n - 1
    # surely in contact: above ten times the noise
    for i in range(branch.peak_at, last):
        if branch.d[i] < 10.0 * branch.noise:
            first = i
            break
    if first < FEWEST:
        first = FEWEST
    if not branch.pulled and first < last:
        branch.end = best_break(branch, first, last)
    fit_contact(
        model, branch, branch.pulled, -branch.lowest if branch.pulled else 0.0, baseline_parameters,
        quiet, False, quantum, work, fit
    )
    if fit.status != 0 or not (branch.z[branch.n - 1] < fit.z0 < branch.z[0]):
        fit.status = CONTACT_NOT_FOUND
