# The contact point on approach: `threshold`.

from fvproc._core.sums cimport first_at_most
from fvproc._core.types cimport CONTACT_NOT_FOUND, Branch, ContactFit


cdef inline void threshold_contact(const Branch* branch, double level, ContactFit* fit) noexcept nogil:
    """Where the force first exceeds `level` for good, by linear interpolation between the samples on either side."""
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t i = first_at_most(d, <float>level, branch.peak_at + 1, branch.axis.n)
    cdef double slope
    fit.status = CONTACT_NOT_FOUND
    if i >= branch.axis.n:
        return
    slope = (d[i - 1] - d[i]) / (z[i - 1] - z[i])
    if not slope > 0.0:
        return
    fit.z0 = z[i] + (level - d[i]) / slope
    fit.z0_std = branch.noise / slope
    fit.status = 0
