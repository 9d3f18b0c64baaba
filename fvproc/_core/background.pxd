# What lies under a branch besides its line: a bow, optical interference, drag; fitted on its quiet part, taken off in place.
#
# Only where the recipe asks for it; nothing here is touched otherwise.

from libc.math cimport fabs, sqrt

from fvproc._core.types cimport Axis

cdef enum:
    TERMS = 6       # 1, ζ, cos 2πz/Λ, sin 2πz/Λ, dz/dt, bow
    WAVES = 4       # of these, all but the line's
    QUIET = 25      # square of the standard errors by which a block of the quiet part may miss


cdef inline double sine_of_turns(double turns) noexcept nogil:
    """sin 2πu to 1e-11, by its series about the nearest multiple of half a turn."""
    cdef double u, x
    if not fabs(turns) < 1e15:      # no meaning, and no whole number of 64 bits
        return 0.0
    u = turns - <double>(<long long>turns)
    if u > 0.5:
        u -= 1.0
    elif u < -0.5:
        u += 1.0
    if u > 0.25:
        u = 0.5 - u
    elif u < -0.25:
        u = -0.5 - u
    x = 6.283185307179586 * u
    u = x * x
    return x * (1.0 - u / 6.0 * (1.0 - u / 20.0 * (1.0 - u / 42.0 * (1.0 - u / 72.0 * (1.0 - u / 110.0 * (
        1.0 - u / 156.0 * (1.0 - u / 210.0 * (1.0 - u / 272.0))))))))


cdef inline void make_waves(
    const Axis* axis, const int* times, double period, bint drag, bint bow, float* waves
) noexcept nogil:
    """Fill waves[term·n + i], terms cos, sin, velocity (its largest is 1) and bow, zero if not asked for.

    The bow is a parabola through zero at both ends of the branch, so that the tilt stays that of the whole.

    times: which sample of the branch each is, where some were left out; NULL where none was.
    """
    cdef Py_ssize_t n = axis.n, i
    cdef const double* z = axis.z
    cdef double turns, most = 0.0, step, rate
    for i in range(n):
        waves[i] = 0.0
        waves[n + i] = 0.0
        waves[2 * n + i] = 0.0
        waves[3 * n + i] = 0.0
    step = z[0] - z[n - 1]
    if bow and step != 0.0:
        for i in range(n):
            waves[3 * n + i] = <float>(4.0 * ((z[0] - z[i]) / step) * ((z[i] - z[n - 1]) / step))
    if period > 0.0:
        for i in range(n):
            turns = (z[i] - axis.centre) / period
            waves[i] = <float>sine_of_turns(turns + 0.25)
            waves[n + i] = <float>sine_of_turns(turns)
    if drag and n > 2:
        for i in range(1, n - 1):
            step = fabs(z[i - 1] - z[i + 1])
            if times != NULL:
                step *= 2.0 / (times[i + 1] - times[i - 1])
            most = step if step > most else most
        if not most > 0.0:
            return
        for i in range(1, n - 1):
            rate = (z[i - 1] - z[i + 1]) / most
            if times != NULL:
                rate *= 2.0 / (times[i + 1] - times[i - 1])
            waves[2 * n + i] = <float>rate
        # the ends: as their neighbours' trend says
        waves[2 * n] = 2.0 * waves[2 * n + 1] - waves[2 * n + 2]
        waves[3 * n - 1] = 2.0 * waves[3 * n - 2] - waves[3 * n - 3]


cdef inline void factorise(const double* matrix, double* root) noexcept nogil:
    """Cholesky factor of a TERMS × TERMS matrix; a term that the others explain gets a zero row and drops out."""
    cdef int i, j, k
    cdef double x
    for i in range(TERMS):
        for j in range(i + 1):
            x = matrix[i * TERMS + j]
            for k in range(j):
                x -= root[i * TERMS + k] * root[j * TERMS + k]
            if i == j:
                root[i * TERMS + i] = sqrt(x) if x > 1e-7 * matrix[i * TERMS + i] else 0.0
            else:
                root[i * TERMS + j] = x / root[j * TERMS + j] if root[j * TERMS + j] > 0.0 else 0.0


cdef inline void forward(const double* root, const double* right, double* out) noexcept nogil:
    cdef int i, k
    cdef double x
    for i in range(TERMS):
        x = right[i]
        for k in range(i):
            x -= root[i * TERMS + k] * out[k]
        out[i] = x / root[i * TERMS + i] if root[i * TERMS + i] > 0.0 else 0.0


cdef inline void backward(const double* root, const double* right, double* out) noexcept nogil:
    cdef int i, k
    cdef double x
    for i in range(TERMS - 1, -1, -1):
        x = right[i]
        for k in range(i + 1, TERMS):
            x -= root[k * TERMS + i] * out[k]
        out[i] = x / root[i * TERMS + i] if root[i * TERMS + i] > 0.0 else 0.0


cdef inline void add_block(
    const Axis* axis, const float* f, const float* waves, double reach, Py_ssize_t first, Py_ssize_t last,
    double* matrix, double* right, double* mean, double* value
) noexcept nogil:
    """Add samples [first, last) to the normal equations (where matrix is not NULL); mean of the basis, and of f."""
    cdef double[6] x
    cdef Py_ssize_t i, n = axis.n
    cdef int j, k
    for j in range(TERMS):
        mean[j] = 0.0
    value[0] = 0.0
    x[0] = 1.0
    for i in range(first, last):
        x[1] = axis.zeta[i] / reach
        x[2] = waves[i]
        x[3] = waves[n + i]
        x[4] = waves[2 * n + i]
        x[5] = waves[3 * n + i]
        for j in range(TERMS):
            mean[j] += x[j]
            if matrix != NULL:
                right[j] += x[j] * f[i]
                for k in range(j + 1):
                    matrix[j * TERMS + k] += x[j] * x[k]
        value[0] += f[i]
    for j in range(TERMS):
        mean[j] /= last - first
    value[0] /= last - first


cdef inline void scatter_about(
    const Axis* axis, const float* f, const float* waves, double reach, Py_ssize_t first, const double* theta,
    double* variance, double* inflation
) noexcept nogil:
    """Residual variance of samples [first, n) and the variance of a mean over that of white noise."""
    cdef double squares = 0.0, products = 0.0, r, before = 0.0, rho
    cdef Py_ssize_t i, n = axis.n
    for i in range(first, n):
        r = f[i] - (
            theta[0] + theta[1] * axis.zeta[i] / reach + theta[2] * waves[i] + theta[3] * waves[n + i]
            + theta[4] * waves[2 * n + i] + theta[5] * waves[3 * n + i]
        )
        squares += r * r
        products += r * before
        before = r
    rho = products / squares if squares > 0.0 else 0.0
    rho = rho if rho > 0.0 else 0.0
    rho = rho if rho < 0.9 else 0.9
    inflation[0] = (1.0 + rho) / (1.0 - rho)
    variance[0] = squares / (n - first - TERMS) if n - first > TERMS else squares


cdef inline void remove_background(const Axis* axis, float* f, const float* waves, double step) noexcept nogil:
    """Fit line, interference, drag and bow by least squares, and take all but the line off f (raw, surface order).

    The far part of a sinusoidal ramp spans less than a period of the interference, so the fit starts there and takes
    one block after the other toward the surface while that lies within five standard errors of what the fit so far
    foretells, those of the fit included: far from what it knows the fit foretells little and is soon corrected; at
    contact it foretells to a fraction of the noise. `step` is a raw number's own step, of which the least noise follows.
    """
    cdef double[36] matrix
    cdef double[36] root
    cdef double[6] right
    cdef double[6] half
    cdef double[6] theta
    cdef double[6] mean
    cdef double value, reach, variance, inflation, error, foretold, least = step * step / 12.0
    cdef Py_ssize_t n = axis.n, block = axis.far, width = axis.width, i
    cdef int j
    if n < 32 or axis.far >= axis.blocks:
        return
    reach = fabs(<double>axis.zeta[0])
    if not reach > 0.0:
        return
    for j in range(TERMS * TERMS):
        matrix[j] = 0.0
        root[j] = 0.0
    for j in range(TERMS):
        right[j] = 0.0
    add_block(axis, f, waves, reach, block * width, n, &matrix[0], &right[0], &mean[0], &value)
    factorise(&matrix[0], &root[0])
    forward(&root[0], &right[0], &half[0])
    backward(&root[0], &half[0], &theta[0])
    scatter_about(axis, f, waves, reach, block * width, &theta[0], &variance, &inflation)
    variance = variance if variance > least else least
    while block > 0:
        add_block(
            axis, f, waves, reach, (block - 1) * width, block * width, NULL, NULL, &mean[0], &value
        )
        forward(&root[0], &mean[0], &half[0])
        error = 1.0 / width
        foretold = 0.0
        for j in range(TERMS):
            error += half[j] * half[j]
            foretold += mean[j] * theta[j]
        if not (value - foretold) * (value - foretold) <= QUIET * variance * inflation * error:
            break
        block -= 1
        add_block(axis, f, waves, reach, block * width, (block + 1) * width, &matrix[0], &right[0], &mean[0], &value)
        factorise(&matrix[0], &root[0])
        forward(&root[0], &right[0], &half[0])
        backward(&root[0], &half[0], &theta[0])
    for i in range(n):
        f[i] = <float>(f[i] - (
            theta[2] * waves[i] + theta[3] * waves[n + i] + theta[4] * waves[2 * n + i] + theta[5] * waves[3 * n + i]
        ))
