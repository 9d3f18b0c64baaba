# The contact models: deflection as a function of piezo position, solved without pow, log or a call to libm's cbrt.
#
# With q = P/k, P the force on the contact itself (F = P − F_adh), and δ = B·q^(1/m) the indentation, a curve obeys
#
#     q + B·q^(1/m) = c,   c = z − z0 + F_adh/k,   d = q − F_adh/k
#
# which is P = K·δ^m with K = k/B^m (m = 3/2 sphere, 2 cone) in the coordinates of the measurement. The compliance B
# enters almost linearly, and B → 0 is the rigid limit: a fit in B neither diverges there nor bends its errors,
# which a fit in ln K does. The sphere is solved for p = q^(1/3) from p³ + B·p² = c, the cone in closed form.
#
# On lanes each model is one function: from B and c to q, S = ∂q/∂c and ∂q/∂B = −q^(1/m)·S; `root` is kept from one
# call to the next at parameters nearby.

from libc.math cimport sqrt

from fvproc._core.lanes cimport (
    any_of, choose, cube_root_guess, lanes, lanes_sqrt, less, mask, smaller, splat, square_root_guess,
)
from fvproc._core.types cimport CONE


cdef inline lanes sphere_start(lanes per_b, lanes c) noexcept nogil:
    """A root to start from: the smaller of the two asymptotes, a third above the root at most."""
    return smaller(cube_root_guess(c), square_root_guess(c * per_b))


cdef inline lanes sphere_step(lanes b, lanes c, lanes p) noexcept nogil:
    """One step of Halley's on f = p³ + B·p² − c, of third order: an error of a third becomes 1e-2, then 1e-6."""
    cdef lanes f = p * p * (p + b) - c
    cdef lanes slope = p * (3.0 * p + 2.0 * b)
    cdef lanes bend = 3.0 * p + b
    return p - f * slope / (slope * slope - f * bend)


cdef inline void sphere_at(lanes b, lanes per_b, lanes c, lanes* root, lanes* q, lanes* s, lanes* of_b) noexcept nogil:
    cdef lanes p = root[0], f = p * p * (p + b), fresh, inverse
    cdef mask far = less(f, 0.9 * c) | less(1.1 * c, f)
    if any_of(far):
        fresh = sphere_start(per_b, c)
        fresh = sphere_step(b, c, fresh)
        p = choose(far, sphere_step(b, c, fresh), p)
    p = sphere_step(b, c, p)
    root[0] = p
    inverse = p / (3.0 * p + 2.0 * b)
    q[0] = p * p * p
    s[0] = 3.0 * inverse
    of_b[0] = -3.0 * p * p * inverse


cdef inline void cone_at(lanes b, lanes c, lanes* q, lanes* s, lanes* of_b) noexcept nogil:
    cdef lanes p = 2.0 * c / (b + lanes_sqrt(b * b + 4.0 * c))
    cdef lanes inverse = p / (2.0 * p + b)
    q[0] = p * p
    s[0] = 2.0 * inverse
    of_b[0] = -2.0 * p * inverse


cdef inline void model_at(
    int model, lanes b, lanes per_b, lanes c, lanes* root, lanes* q, lanes* s, lanes* of_b
) noexcept nogil:
    """q, ∂q/∂c and ∂q/∂B of one sample of each lane; c > 0, per_b = 1/b; root is read and set."""
    if model == CONE:
        cone_at(b, c, q, s, of_b)
    else:
        sphere_at(b, per_b, c, root, q, s, of_b)


cdef inline lanes root_guess(int model, lanes q) noexcept nogil:
    """p, of which q and q^(1/m) are powers, within 1e-4. q > 0."""
    cdef lanes p, cube
    if model == CONE:
        return lanes_sqrt(q)
    p = cube_root_guess(q)
    # Halley's step on p³ = q, of third order
    cube = p * p * p
    return p * (cube + 2.0 * q) / (2.0 * cube + q)


cdef inline lanes root_at(int model, lanes q) noexcept nogil:
    """p, within 1e-12. q > 0."""
    cdef lanes p = root_guess(model, q), cube
    if model == CONE:
        return p
    cube = p * p * p
    return p * (cube + 2.0 * q) / (2.0 * cube + q)


cdef inline lanes shape_of_root(int model, lanes p) noexcept nogil:
    """q^(1/m)."""
    return p if model == CONE else p * p


cdef inline lanes slope_of_shape(int model, lanes p) noexcept nogil:
    """d q^(1/m)/dq."""
    return (splat(0.5) if model == CONE else splat(2.0 / 3.0)) / p


cdef inline double cube_root(double x) noexcept nogil:
    """x^(1/3) for x >= 0 to the last bits, from additions, products and quotients only."""
    cdef double p
    cdef int i
    if x <= 1e-30:
        return 0.0
    p = guess_of_one(x)
    for i in range(3):
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


cdef inline double model_load(int model, double b, double c) noexcept nogil:
    """q of one sample."""
    cdef double p, s, f, slope
    cdef int i
    if not c > 1e-30:
        return 0.0
    if model == CONE:
        s = 2.0 * c / (b + sqrt(b * b + 4.0 * c))
        return s * s
    p = cube_root(c)
    s = sqrt(c / b) if b > 0.0 else p
    if s < p:
        p = s
    for i in range(3):
        f = p * p * (p + b) - c
        slope = p * (3.0 * p + 2.0 * b)
        p = p - f * slope / (slope * slope - f * (3.0 * p + b))
    return p * p * p


cdef extern from *:
    """
    static inline double fvproc_guess_of_one(double x) {
        int64_t bits, high;
        memcpy(&bits, &x, sizeof bits);
        high = bits >> 32;
        high += high << 2;
        high += high << 4;
        high += high << 8;
        bits = ((high >> 16) + (int64_t)715100000) << 32;
        memcpy(&x, &bits, sizeof x);
        return x;
    }
    """
    double guess_of_one "fvproc_guess_of_one"(double x) noexcept nogil
