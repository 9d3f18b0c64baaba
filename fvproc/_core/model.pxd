# The contact models: deflection as a function of piezo position, solved without pow, log or a call to libm's cbrt.
#
# With q = P/k, P the force on the contact itself (F = P − F_adh), and δ the indentation, a curve obeys
#
#     q + δ = c,   c = z − z0 + F_adh/k,   d = q − F_adh/k,   q = p^n, δ = B·p^r
#
# which is P = K·δ^m with m = n/r (3/2 sphere, 2 cone, 1 punch) and K = k/B^m in the coordinates of the measurement.
# The compliance B enters almost linearly, and B → 0 is the rigid limit: a fit in B neither diverges there nor bends
# its errors, which a fit in ln K does. Sphere and cone are here, other powers and films in power.pxd, JKR in jkr.pxd.
#
# On lanes each model is one function: from B and c to q, S = ∂q/∂c and ∂q/∂B; `root` and, of the sphere, its `rate`
# ∂p/∂c are kept from one call to the next at parameters nearby. That of the sphere comes in two parts, near_root first.

from libc.math cimport sqrt

from fvproc._core.jkr cimport jkr_at, jkr_end, jkr_root, jkr_shape, jkr_slope_of_shape
from fvproc._core.lanes cimport (
    any_of, at_most, choose, cube_root_guess, lanes, lanes_sqrt, larger, less, load, mask, smaller, splat, square_root_guess,
    store,
)
from fvproc._core.power cimport film_reach, power_at, power_root, power_slope_of_shape, to_power
from fvproc._core.types cimport CONE, JKR, POWER, SPHERE, Law

# What is the same for all samples of a curve.
cdef struct Contact:
    lanes b             # compliance
    lanes per_b
    lanes adhesion      # a = F_adh/k; α = √a with JKR
    lanes tau           # of a film
    lanes end           # z − z0 at which the tip jumps off, and its derivatives
    lanes end_of_b
    lanes end_of_adhesion
    lanes u_end         # JKR's root there


cdef inline void contact_of(const Law* law, lanes b, lanes adhesion, lanes reach, Contact* contact) noexcept nogil:
    """adhesion: a, or α with JKR."""
    contact.b = b
    contact.per_b = splat(1.0) / b
    contact.adhesion = adhesion
    contact.tau = splat(0.0)
    contact.u_end = contact.tau
    contact.end_of_b = contact.tau
    contact.end_of_adhesion = splat(-1.0)
    if law.kind == JKR:
        jkr_end(
            b, adhesion, &contact.u_end, &contact.end, &contact.end_of_b, &contact.end_of_adhesion
        )
        return
    contact.end = -adhesion
    if law.kind == POWER:
        contact.tau = film_reach(law, b, reach)


cdef inline lanes sphere_start(lanes per_b, lanes c) noexcept nogil:
    """A root to start from: the smaller of the two asymptotes, a third above the root at most."""
    return smaller(cube_root_guess(c), square_root_guess(c * per_b))


cdef inline lanes sphere_step(lanes b, lanes c, lanes p) noexcept nogil:
    """One step of Halley's on f = p³ + B·p² − c, of third order: an error of a third becomes 1e-2, then 1e-6."""
    cdef lanes f = p * p * (p + b) - c
    cdef lanes slope = p * (3.0 * p + 2.0 * b)
    cdef lanes bend = 3.0 * p + b
    return p - f * slope / (slope * slope - f * bend)


cdef inline lanes sphere_slope(lanes b, lanes c, lanes p, lanes* rest) noexcept nogil:
    """f' at p, and rest = −f there. Written with as few products as can be: of sums a processor does as many besides."""
    cdef lanes square = p * p, linear = b * p
    rest[0] = c - p * (square + linear)
    return square + square + square + (linear + linear)


cdef inline lanes sphere_correction(lanes b, lanes p, lanes u, lanes rest) noexcept nogil:
    """Chebyshev's step on the same, of third order too, u = 1/f' being known."""
    cdef lanes step = rest * u
    return step - (p + p + p + b) * u * (step * step)


cdef inline void near_sphere_root(lanes b, lanes per_b, lanes c, lanes* root, lanes* rate) noexcept nogil:
    """Chebyshev's step from the root kept, with 1/f' as it was there, where Newton's would be a twelfth of it at most.

    Chebyshev's own step is no test: far from the root its two parts may take each other out. What a move of c or of B
    alone leaves behind this step and that of sphere_at is 2e-4 at most, 1e-6 where Newton's step is a fiftieth. A
    processor waits longer for a quotient than for ten products, and so wants no more than one of them for a sample.
    """
    cdef lanes p = root[0], u = rate[0], rest = c - p * (p * (p + b)), size = rest * u, fresh
    cdef mask near
    size = larger(size, -size)
    near = at_most(12.0 * size, p)
    p = p + sphere_correction(b, p, u, rest)
    if any_of(~near):
        # lanes that are near stay as they are: none sees another
        fresh = sphere_step(b, c, sphere_start(per_b, c))
        u = splat(1.0) / sphere_slope(b, c, fresh, &rest)
        p = choose(near, p, fresh + sphere_correction(b, fresh, u, rest))
    root[0] = p


cdef inline void sphere_at(lanes b, lanes c, lanes* root, lanes* rate, lanes* q, lanes* s, lanes* of_b) noexcept nogil:
    """Newton's step from a root nearby."""
    cdef lanes p = root[0], rest, u = splat(1.0) / sphere_slope(b, c, p, &rest), step = rest * u, square
    rate[0] = u
    # ∂p/∂c = u, and what the step changes in 3p + 2B = 1/(p·u)
    u = p * u
    u = u - (step + step + step) * u * u
    p = p + step
    root[0] = p
    square = p * p
    q[0] = p * square
    s[0] = (p + p + p) * u
    of_b[0] = -square * s[0]


cdef inline void forget_root(lanes* root, lanes* rate) noexcept nogil:
    """Make model_at look for the root anew: what these lead to lies far off any."""
    root[0] = splat(1e-300)
    rate[0] = splat(1e30)


cdef inline void cone_at(lanes b, lanes c, lanes* q, lanes* s, lanes* of_b) noexcept nogil:
    cdef lanes p = 2.0 * c / (b + lanes_sqrt(b * b + 4.0 * c))
    cdef lanes inverse = p / (2.0 * p + b)
    q[0] = p * p
    s[0] = 2.0 * inverse
    of_b[0] = -2.0 * p * inverse


cdef inline void near_root(
    const Law* law, const Contact* contact, lanes c, lanes* root, lanes* rate
) noexcept nogil:
    """Lead the root kept to where model_at goes on from; a function of its own, so that samples do not wait in turn."""
    if law.kind == SPHERE:
        near_sphere_root(contact.b, contact.per_b, c, root, rate)


cdef inline void model_at(
    const Law* law, const Contact* contact, lanes c, lanes* root, lanes* rate, lanes* q, lanes* s, lanes* of_b
) noexcept nogil:
    """q, ∂q/∂c and ∂q/∂B of one sample of each lane; c > 0; root and rate, from near_root, are set. Not for JKR."""
    if law.kind == SPHERE:
        sphere_at(contact.b, c, root, rate, q, s, of_b)
    elif law.kind == CONE:
        cone_at(contact.b, c, q, s, of_b)
    else:
        power_at(law, contact.b, contact.per_b, contact.tau, c, root, q, s, of_b)


cdef inline lanes root_guess(const Law* law, const Contact* contact, lanes q) noexcept nogil:
    """The root of a load, within 1e-4. q > 0."""
    cdef lanes p, cube
    if law.kind == CONE:
        return lanes_sqrt(q)
    if law.kind == POWER:
        return power_root(law, contact.tau, q)
    if law.kind == JKR:
        return jkr_root(contact.adhesion, q)
    p = cube_root_guess(q)
    # Halley's step on p³ = q, of third order
    cube = p * p * p
    return p * (cube + 2.0 * q) / (2.0 * cube + q)


cdef inline void shape_at(
    const Law* law, const Contact* contact, lanes q, lanes* root, lanes* shape, lanes* slope
) noexcept nogil:
    """The root of a load, within 1e-4, δ/B there, and d(δ/B)/dq. q > 0."""
    cdef lanes p, cube, up, down, inverse
    if law.kind != SPHERE:
        root[0] = root_guess(law, contact, q)
        shape[0] = shape_of_root(law, contact, root[0])
        slope[0] = slope_of_shape(law, contact, root[0])
        return
    # root_guess and its inverse with one division for both
    p = cube_root_guess(q)
    cube = p * p * p
    up = p * (cube + 2.0 * q)
    down = 2.0 * cube + q
    inverse = splat(1.0) / (up * down)
    p = up * up * inverse
    root[0] = p
    shape[0] = p * p
    slope[0] = (2.0 / 3.0) * (down * down * inverse)


cdef inline lanes bend_at(
    const Law* law, const Contact* contact, lanes b, lanes p, lanes q, lanes* rate
) noexcept nogil:
    """B·w·S³/q, w = d(δ/B)/dq, S = 1/(1 + B·w), at the root p of a load q; sets the rate there.

    Times 1 − r/n, for q = p^n and δ = B·p^r, that is ∂S/∂c.
    """
    cdef lanes w, s
    if law.kind == SPHERE:
        # S = 3p²·rate, B·w·S = 2·B·p·rate, q = p³
        rate[0] = splat(1.0) / (p * (3.0 * p + 2.0 * b))
        return 18.0 * b * (p * p) * (rate[0] * rate[0] * rate[0])
    w = b * slope_of_shape(law, contact, p)
    s = splat(1.0) / (splat(1.0) + w)
    rate[0] = s
    return w * s * s * s / q


cdef inline lanes root_at(const Law* law, const Contact* contact, lanes q) noexcept nogil:
    """The root of a load, within 1e-12. q > 0."""
    cdef lanes p = root_guess(law, contact, q), cube
    if law.kind == SPHERE:
        cube = p * p * p
        p = p * (cube + 2.0 * q) / (2.0 * cube + q)
    return p


cdef inline lanes shape_of_root(const Law* law, const Contact* contact, lanes p) noexcept nogil:
    """δ/B."""
    if law.kind == SPHERE:
        return p * p
    if law.kind == CONE:
        return p
    return to_power(p, law.depth_power) if law.kind == POWER else jkr_shape(contact.adhesion, p)


cdef inline lanes slope_of_shape(const Law* law, const Contact* contact, lanes p) noexcept nogil:
    """d(δ/B)/dq."""
    if law.kind == SPHERE:
        return splat(2.0 / 3.0) / p
    if law.kind == CONE:
        return splat(0.5) / p
    if law.kind == POWER:
        return power_slope_of_shape(law, contact.tau, p)
    return jkr_slope_of_shape(contact.adhesion, p)


cdef inline void travel_at(
    const Law* law, const double* compliance, const double* adhesion, const double* reach, const double* travel,
    double* d, double* slope
) noexcept nogil:
    """d and ∂d/∂z at z − z0 = travel, of as many contacts as there are lanes; −a or 0 beyond the end of contact."""
    cdef Contact contact
    cdef lanes a = load(adhesion), x = load(travel), root, rate, q, s, of_b, of_adhesion, c, tiny = splat(1e-18)
    cdef mask outside
    cdef lanes zero = splat(0.0), attraction = a
    if law.kind == JKR:
        a = lanes_sqrt(larger(a, zero))
    contact_of(law, load(compliance), a, load(reach), &contact)
    c = x - contact.end
    outside = less(c, tiny)
    c = larger(c, tiny)
    forget_root(&root, &rate)
    if law.kind == JKR:
        jkr_at(
            contact.b, contact.per_b, a, contact.u_end, c + contact.end, &root, &q, &s, &of_b, &of_adhesion
        )
    else:
        near_root(law, &contact, c, &root, &rate)
        model_at(law, &contact, c, &root, &rate, &q, &s, &of_b)
        # a second time from the root so found, to the last digits
        near_root(law, &contact, c, &root, &rate)
        model_at(law, &contact, c, &root, &rate, &q, &s, &of_b)
        q = choose(outside, zero, q) - attraction
    store(d, q)
    store(slope, s)


cdef inline double compliance_power(const Law* law, double b) noexcept nogil:
    """B^m; m is a multiple of a half."""
    cdef double root = sqrt(b), result = 1.0
    cdef int i
    for i in range(2 * law.load_power // law.depth_power):
        result = result * root
    return result
