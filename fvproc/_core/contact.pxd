# Detection of the contact on approach: `threshold`, `gradient`, `ratio_of_variances`.
#
# Each says how many samples lie nearer to the surface than the place where the contact shows, and where exactly that
# is. It does so at a force that stands out of the noise, and so late (or, for `gradient`, early by its window); with
# contact.position = "zero_load" the fit of the contact model goes on from there (curve.pxd). Sums of a window are
# carried along, one sample in and one out, from the baseline toward the surface: there the numbers grow, and what
# rounding leaves of the small ones stays small. No logarithm of libm, whose last bits depend on the machine.

from libc.math cimport sqrt

from fvproc._core.lanes cimport LANES, choose, lanes, lanes_sqrt, less, load, mask, splat, store
from fvproc._core.sums cimport first_at_most
from fvproc._core.types cimport (
    CONTACT_NOT_FOUND, GRADIENT, THRESHOLD, Branch, ContactFit, Settings,
)

cdef enum:
    FEWEST_OF_WINDOW = 5
    FEWEST_CARRIED = 8  # samples in contact: of fewer, noise decides how many there are
    DETECTABLE = 5      # multiples of the noise

cdef extern from *:
    """
    /* part of the mean square of z below which a window has no extent: the ramp's turning point */
    #define FVPROC_NO_EXTENT 1e-12
    """
    const double NO_EXTENT "FVPROC_NO_EXTENT"


cdef inline Py_ssize_t window_samples(Py_ssize_t n, double window) noexcept nogil:
    """The window in samples: a part of the branch below 1; at least five, at most a quarter of the branch."""
    cdef double wanted = window * n if window < 1.0 else window
    cdef Py_ssize_t size = n // 4
    if wanted < size:
        size = <Py_ssize_t>wanted
    return size if size > FEWEST_OF_WINDOW else FEWEST_OF_WINDOW


cdef inline Py_ssize_t detect_threshold(const Branch* branch, double level, ContactFit* fit) noexcept nogil:
    """Where the force first exceeds `level` for good, by linear interpolation between the samples on either side."""
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t i = first_at_most(d, <float>level, branch.peak_at + 1, branch.axis.n)
    cdef double slope
    fit.status = CONTACT_NOT_FOUND
    if i >= branch.axis.n or not branch.peak > level:
        return 0
    slope = (d[i - 1] - d[i]) / (z[i - 1] - z[i])
    if not slope > 0.0:
        return 0
    fit.z0 = z[i] + (level - d[i]) / slope
    fit.z0_std = branch.noise / slope
    fit.status = 0
    return i


cdef inline double mean_position(const Branch* branch, Py_ssize_t first, Py_ssize_t size) noexcept nogil:
    cdef double total = 0.0
    cdef Py_ssize_t i
    for i in range(first, first + size):
        total += branch.axis.z[i] - branch.axis.centre
    return total / size + branch.axis.centre


cdef inline Py_ssize_t detect_gradient(
    const Branch* branch, double level, Py_ssize_t size, double* work, ContactFit* fit
) noexcept nogil:
    """Where the slope of `size` samples falls below `level` of its standard errors, counted from where it is largest.

    Drift and correlated noise bend a baseline more than white noise does: where the slopes of the farthest quarter
    have a larger root mean square than one standard error, that is the unit of the level. work holds 2·n + 16 doubles:
    the slopes times √Σ(z − z̄)², whose standard deviation is that of the noise, and Σ(z − z̄)².
    """
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t n = branch.axis.n, runs = n - size + 1, padded = (runs + LANES - 1) // LANES * LANES, i, at = 0, far
    cdef double centre = branch.axis.centre, sx = 0.0, sxx = 0.0, sd = 0.0, sxd = 0.0, x, y, u, v, unit, here, there
    cdef double per_size = 1.0 / size
    cdef double* spreads = work + padded
    cdef lanes spread, one = splat(1.0)
    cdef mask extended
    fit.status = CONTACT_NOT_FOUND
    for i in range(n - 1, -1, -1):
        x = z[i] - centre
        y = d[i]
        u = 0.0
        v = 0.0
        if i + size < n:
            u = z[i + size] - centre
            v = d[i + size]
        # one addition each from sum to sum: the differences do not wait for them
        sx += x - u
        sxx += x * x - u * u
        sd += y - v
        sxd += x * y - u * v
        if i < runs:
            x = sxx - sx * sx * per_size
            # at the turning point of a sine z stands still, and the slope says nothing
            spreads[i] = x if x > NO_EXTENT * sxx else 0.0
            work[i] = sxd - sx * sd * per_size
    for i in range(runs, padded):
        spreads[i] = 0.0
        work[i] = 0.0
    i = 0
    while i < padded:
        spread = load(spreads + i)
        extended = less(splat(0.0), spread)
        store(work + i, choose(extended, load(work + i) / lanes_sqrt(choose(extended, spread, one)), splat(0.0)))
        i += LANES
    far = runs // 4 if runs >= 4 else 1
    unit = 0.0
    for i in range(runs - far, runs):
        unit += work[i] * work[i]
    unit = sqrt(unit / far)
    if not unit > branch.noise:
        unit = branch.noise
    level *= unit
    for i in range(1, runs):
        if work[i] > work[at]:
            at = i
    if not work[at] >= level:
        return 0
    i = at
    while i < runs and not work[i] < level:
        i += 1
    if i == at or i == runs:
        return 0
    here = mean_position(branch, i - 1, size)
    there = mean_position(branch, i, size)
    x = work[i - 1] - work[i]
    if not here > there:
        return 0
    fit.z0 = here + (work[i - 1] - level) / x * (there - here)
    fit.z0_std = branch.noise * (here - there) / x
    fit.status = 0
    return i + size // 2 if i + size // 2 < n else n


cdef inline double log_of_part(double x) noexcept nogil:
    """ln x for 0 < x <= 1 by halves and the series of the inverse hyperbolic tangent, to 1e-11; 1 for any other x."""
    cdef double t, tt, total = 0.0
    cdef int halves = 0, power
    if not (x > 0.0 and x <= 1.0):
        return 1.0
    while x < 0.5:
        x *= 2.0
        halves += 1
    t = (x - 1.0) / (x + 1.0)
    tt = t * t
    for power in range(21, 0, -2):
        total = total * tt + 1.0 / power
    return 2.0 * t * total - 0.6931471805599453 * halves


cdef inline Py_ssize_t detect_ratio(
    const Branch* branch, Py_ssize_t size, double* work, ContactFit* fit
) noexcept nogil:
    """Where the variance of `size` samples nearer to the surface is largest against that of `size` farther from it.

    The sample in question is in neither: the ratio is centred (Gavara, Sci. Rep. 6 (2016) 21267). work holds n doubles,
    the squares about their mean of all windows. A hundredth of the noise is added, since samples on a grid may all be
    equal.
    """
    cdef const double* z = branch.axis.z
    cdef const float* d = branch.d
    cdef Py_ssize_t n = branch.axis.n, ratios = n - 2 * size, i, at = 0
    cdef double first = 0.0, second = 0.0, squares, x, y, shift = 0.0, per_size = 1.0 / size
    cdef double least = 1e-4 * branch.noise * branch.noise * (size - 1) + 1e-300
    cdef double ratio, largest = -1.0, before, after, part
    fit.status = CONTACT_NOT_FOUND
    for i in range(n - 1, -1, -1):
        x = d[i]
        y = d[i + size] if i + size < n else 0.0
        first += x - y
        second += x * x - y * y
        if i + size <= n:
            x = second - first * first * per_size
            work[i] = (x if x > 0.0 else 0.0) + least
    for i in range(ratios):
        ratio = work[i] / work[i + size + 1]
        if ratio > largest:
            largest = ratio
            at = i
    # Σd² of noise alone follows χ²; its quantile by Wilson and Hilferty
    squares = 0.0
    for i in range(at, at + size):
        squares += <double>d[i] * d[i]
    part = 2.0 / (9.0 * size)
    x = 1.0 - part + DETECTABLE * sqrt(part)
    if not squares > size * x * x * x * branch.noise * branch.noise:
        return 0
    if 0 < at < ratios - 1:
        before = log_of_part(work[at - 1] / work[at + size] / largest)
        after = log_of_part(work[at + 1] / work[at + size + 2] / largest)
        if before <= 0.0 and after <= 0.0 and before + after < 0.0:
            shift = 0.5 * (before - after) / (before + after)
    i = at + size
    fit.z0 = z[i] + (shift * (z[i + 1] - z[i]) if shift > 0.0 else -shift * (z[i - 1] - z[i]))
    # no standard error: the contact is seen somewhere in a window, all places in it alike
    fit.z0_std = (z[at] - z[i]) * 0.28867513459481287
    if not fit.z0_std > 0.0:
        return 0
    fit.status = 0
    return i


cdef inline Py_ssize_t detect_contact(
    const Branch* branch, const Settings* settings, double* work, ContactFit* fit
) noexcept nogil:
    """Number of samples nearer to the surface than the contact detected; its place into fit.z0 and its error.

    fit.status is CONTACT_NOT_FOUND where there is none. work holds 2·n + 16 doubles.
    """
    cdef Py_ssize_t size = window_samples(branch.axis.n, settings.contact_window)
    if settings.contact_method == THRESHOLD:
        return detect_threshold(branch, settings.contact_threshold * branch.noise, fit)
    if settings.contact_method == GRADIENT:
        return detect_gradient(branch, settings.contact_threshold, size, work, fit)
    return detect_ratio(branch, size, work, fit)


cdef inline Py_ssize_t first_of_fit(const Branch* branch, const Settings* settings, Py_ssize_t detected) noexcept nogil:
    """First sample of the fit that carries the contact back to zero load: `window` samples before the one detected.

    A contact detected where the force has long been zero (a window longer than the contact, drift) is counted from
    the end of contact: beyond it there is no load to carry back.
    """
    cdef Py_ssize_t size = window_samples(branch.axis.n, settings.contact_window)
    if size < FEWEST_CARRIED:
        size = FEWEST_CARRIED
    if detected > branch.end:
        detected = branch.end
    return detected - size if detected > size else 0
