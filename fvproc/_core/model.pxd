# The contact models: force as a function of piezo position, solved without pow, log or a call to libm's cbrt.
#
# With q = P/k, P the force on the contact itself (F = P − F_adh), and δ = B·q^(1/m) the indentation, a curve obeys
#
#     q + B·q^(1/m) = c,   c = z − z0 + F_adh/k,   d = q − F_adh/k
#
# which is P = K·δ^m with K = k/B^m (m = 3/2 sphere, 2 cone) in the coordinates of the measurement. The compliance B
# enters almost linearly, and B → 0 is the rigid limit: a fit in B neither diverges there nor bends its errors,
# which a fit in ln K does. The sphere is solved for p = q^(1/3) from p³ + B·p² = c, the cone in closed form.

from libc.math cimport sqrt

from fvproc._core.types cimport CONE

cdef extern from *:
    """
    #include <stdint.h>
    #include <string.h>
    static inline double fvproc_cube_root_guess(double x) {
        /* a third of the exponent, by the bits: within 6 % for normal x > 0; same on every machine */
        float f = (float)x;
        int32_t bits;
        memcpy(&bits, &f, sizeof bits);
        bits = bits / 3 + 709921077;
        memcpy(&f, &bits, sizeof f);
        return (double)f;
    }
    """
    double cube_root_guess "fvproc_cube_root_guess"(double x) noexcept nogil


cdef inline double cube_root(double x) noexcept nogil:
    """x^(1/3) for x >= 0 to the last bits, from additions, products and quotients only."""
    cdef double p
    cdef int i
    if x <= 1e-30:
        return 0.0
    p = cube_root_guess(x)
    for i in range(4):
        p = (2.0 * p + x / (p * p)) * (1.0 / 3.0)
    return p


cdef inline double indentation_shape(int model, double q) noexcept nogil:
    """q^(1/m): the indentation per compliance; 0 for q <= 0."""
    cdef double p
    if q <= 0.0:
        return 0.0
    if model == CONE:
        return sqrt(q)
    p = cube_root(q)
    return p * p


cdef inline double compliance_power(int model, double b) noexcept nogil:
    """B^m."""
    return b * b if model == CONE else b * sqrt(b)


cdef inline void start_roots(const double* c, double b, Py_ssize_t n, double* p) noexcept nogil:
    """Starting values for solve_sphere: the smaller of the two asymptotes, at most a third above the root."""
    cdef Py_ssize_t i
    cdef double stiff, soft
    for i in range(n):
        stiff = cube_root_guess(c[i]) if c[i] > 1e-30 else 0.0
        soft = sqrt(c[i] / b)
        p[i] = stiff if stiff < soft else soft


cdef inline void solve_sphere(const double* c, double b, Py_ssize_t n, int steps, double* p) noexcept nogil:
    """Newton steps on p³ + B·p² = c from the values of start_roots; four end within 1e-8 of the root.

    The left side is convex for p > 0: from above the root the steps fall towards it, from just below they pass
    it once. From far below the first step would overshoot by orders of magnitude.
    """
    cdef Py_ssize_t i
    cdef int step
    cdef double x
    for step in range(steps):
        for i in range(n):
            x = p[i]
            # f/f' = (p³ + B p² − c)/(3p² + 2Bp); the tiny term keeps 0/0 away where c = 0
            p[i] = x - (x * x * (x + b) - c[i]) / (x * (3.0 * x + 2.0 * b) + 1e-150)


cdef inline double model_load(int model, double b, double c) noexcept nogil:
    """q of one sample."""
    cdef double p, s
    if c <= 0.0:
        return 0.0
    if model == CONE:
        s = 2.0 * c / (b + sqrt(b * b + 4.0 * c))
        return s * s
    start_roots(&c, b, 1, &p)
    solve_sphere(&c, b, 1, 5, &p)
    return p * p * p
