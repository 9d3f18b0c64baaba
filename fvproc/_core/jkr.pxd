# The contact of Johnson, Kendall & Roberts (Proc. R. Soc. A 324 (1971) 301) on a cantilever.
#
# With P the load that gives the same contact radius without adhesion, F = P − 2·√(F_adh·P) and
# δ = (P/K)^(2/3)·(1 − (4/3)·√(F_adh/P)), F_adh = (3/2)·π·w·R. In lengths, u = (P/k)^(1/6) and α = √(F_adh/k):
#
#     d = u⁶ − 2α·u³,   δ = B·(u⁴ − (4/3)α·u),   x = z − z0 = d + δ
#
# so that no power of a fraction is left. α, not F_adh, is fitted: the adhesion acts as its root. On retract the tip
# stays until dx/du = 0 and then jumps off: at dF/dδ = −k rather than at the lowest force.

from fvproc._core.lanes cimport (
    any_of, choose, cube_root_guess, lanes, larger, less, mask, smaller, splat, square_root_guess,
)


cdef inline lanes jkr_cube_root(lanes x) noexcept nogil:
    """x^(1/3), within 1e-12; 0 for x <= 0."""
    cdef lanes p, cube
    cdef int step
    x = larger(x, splat(1e-60))
    p = cube_root_guess(x)
    for step in range(2):
        cube = p * p * p
        p = p * (cube + 2.0 * x) / (2.0 * cube + x)
    return p


cdef inline lanes jkr_bend(lanes b, lanes alpha, lanes u) noexcept nogil:
    """dx/du."""
    return 6.0 * u * u * (u * u * u - alpha) + b * (4.0 * u * u * u - (4.0 / 3.0) * alpha)


cdef inline void jkr_end(lanes b, lanes alpha, lanes* u_end, lanes* end, lanes* of_b, lanes* of_alpha) noexcept nogil:
    """Where the tip jumps off: u, x, and the derivatives of x; 0 where nothing attracts.

    Newton's steps on dx/du = 0 from u³ = α, where it is positive and convex down to u³ = α/3.
    """
    cdef lanes zero = splat(0.0), u, cube
    cdef mask pulls = less(zero, alpha)
    cdef int step
    u = jkr_cube_root(alpha)
    for step in range(6):
        cube = u * u * u
        u = u - jkr_bend(b, alpha, u) / (u * (30.0 * cube - 12.0 * alpha) + 12.0 * b * u * u)
    u = choose(pulls, u, zero)
    cube = u * u * u
    u_end[0] = u
    end[0] = cube * cube - 2.0 * alpha * cube + b * u * (cube - (4.0 / 3.0) * alpha)
    # dx/du = 0: only what depends on B and α themselves is left
    of_b[0] = u * (cube - (4.0 / 3.0) * alpha)
    of_alpha[0] = -2.0 * cube - (4.0 / 3.0) * b * u


cdef inline lanes jkr_root(lanes alpha, lanes q) noexcept nogil:
    """u from the load q = d + α²: √(P/k) = α + √q."""
    cdef lanes root = square_root_guess(q)
    root = 0.5 * (root + q / root)
    root = 0.5 * (root + q / root)
    root = 0.5 * (root + q / root)
    return jkr_cube_root(alpha + root)


cdef inline lanes jkr_shape(lanes alpha, lanes u) noexcept nogil:
    """δ/B."""
    return u * (u * u * u - (4.0 / 3.0) * alpha)


cdef inline lanes jkr_slope_of_shape(lanes alpha, lanes u) noexcept nogil:
    """d(δ/B)/dq."""
    cdef lanes cube = u * u * u
    return (4.0 * cube - (4.0 / 3.0) * alpha) / (6.0 * u * u * (cube - alpha))


cdef inline lanes jkr_step(lanes b, lanes alpha, lanes least, lanes x, lanes u) noexcept nogil:
    cdef lanes cube = u * u * u
    cdef lanes excess = cube * (cube - 2.0 * alpha) + b * u * (cube - (4.0 / 3.0) * alpha) - x
    return larger(u - excess / jkr_bend(b, alpha, u), least)


cdef inline void jkr_at(
    lanes b, lanes per_b, lanes alpha, lanes u_end, lanes x, lanes* root, lanes* d, lanes* s, lanes* of_b,
    lanes* of_alpha
) noexcept nogil:
    """d, ∂d/∂x, ∂d/∂B and ∂d/∂α; what lies beyond the jump is taken at the jump.

    x(u) is convex beyond u_end: Newton's steps from above. There u³ >= 4α, or half of u⁶, or two thirds of B·u⁴, is
    no more than x.
    """
    cdef lanes u = root[0], cube, rate, fresh, least = 1.02 * u_end + splat(1e-9)
    cdef lanes way = larger(x, splat(1e-18)), of_u, at
    cdef mask far
    cdef int step
    u = larger(u, least)
    cube = u * u * u
    at = cube * cube - 2.0 * alpha * cube + b * u * (cube - (4.0 / 3.0) * alpha)
    far = less(0.02 * way, at - x) | less(at - x, -0.02 * way)
    if any_of(far):
        fresh = larger(
            1.05 * cube_root_guess(larger(4.0 * alpha, splat(1e-60))),
            1.05 * smaller(
                square_root_guess(cube_root_guess(2.0 * way)),
                square_root_guess(square_root_guess(1.5 * way * per_b)),
            ),
        )
        for step in range(5):
            fresh = jkr_step(b, alpha, least, x, fresh)
        u = choose(far, fresh, u)
    u = jkr_step(b, alpha, least, x, u)
    u = jkr_step(b, alpha, least, x, u)
    root[0] = u
    cube = u * u * u
    of_u = 6.0 * u * u * (cube - alpha)
    rate = of_u + b * (4.0 * cube - (4.0 / 3.0) * alpha)
    d[0] = cube * (cube - 2.0 * alpha)
    s[0] = of_u / rate
    of_b[0] = -s[0] * jkr_shape(alpha, u)
    of_alpha[0] = -2.0 * cube + s[0] * (2.0 * cube + (4.0 / 3.0) * b * u)
