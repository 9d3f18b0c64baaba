# Contact models that are a pair of powers of one root, with or without a film's series: all but sphere, cone and JKR.
#
#     q = p^n·f(x),   δ = B·p^r,   q + δ = c,   f(x) = Σ f_j·x^j,   x = τ·p, at most x_end
#
# τ = reach·B^(e/2) is that of a film of finite thickness (fvproc/models.py); without one τ = 0 and f = 1.

from fvproc._core.lanes cimport (
    any_of, choose, cube_root_guess, lanes, lanes_sqrt, less, mask, smaller, splat, square_root_guess,
)
from fvproc._core.types cimport Law


cdef inline lanes to_power(lanes p, int power) noexcept nogil:
    """p^power, power >= 0."""
    cdef lanes result = splat(1.0)
    cdef int i
    for i in range(power):
        result = result * p
    return result


cdef inline lanes root_above(lanes x, int power) noexcept nogil:
    """x^(1/power), up to 10 % too large; power from 1 to 4."""
    if power == 1:
        return x
    if power == 3:
        return 1.05 * cube_root_guess(x)
    return 1.05 * square_root_guess(x) if power == 2 else 1.08 * square_root_guess(square_root_guess(x))


cdef inline lanes film_reach(const Law* law, lanes b, lanes reach) noexcept nogil:
    """τ."""
    if law.reach_power == 1:
        return reach * lanes_sqrt(b)
    return reach * b


cdef inline void series_at(const Law* law, lanes x, lanes* f, lanes* x_df) noexcept nogil:
    """f and x·df/dx."""
    cdef lanes end = splat(law.end), at = smaller(x, end), value = splat(law.series[7]), slope = splat(0.0)
    cdef int j
    if not law.film:
        f[0] = splat(1.0)
        x_df[0] = splat(0.0)
        return
    for j in range(6, -1, -1):
        slope = slope * at + value
        value = value * at + law.series[j]
    f[0] = value
    x_df[0] = choose(less(x, end), at * slope, splat(0.0))


cdef inline lanes power_step(const Law* law, lanes b, lanes tau, lanes c, lanes p) noexcept nogil:
    cdef double n = law.load_power, r = law.depth_power
    cdef lanes up = to_power(p, law.load_power - 1), down = to_power(p, law.depth_power - 1), f, x_df
    series_at(law, tau * p, &f, &x_df)
    return p - (up * p * f + b * down * p - c) / (up * (n * f + x_df) + r * b * down)


cdef inline void power_at(
    const Law* law, lanes b, lanes per_b, lanes tau, lanes c, lanes* root, lanes* q, lanes* s, lanes* of_b
) noexcept nogil:
    """q, ∂q/∂c and ∂q/∂B; Newton's steps in p, from above, where q + δ is convex."""
    cdef double n = law.load_power, r = law.depth_power
    cdef int step
    cdef lanes p = root[0], up, down, f, x_df, load, load_rate, depth_rate, far_root
    cdef lanes load_of_b
    cdef mask far
    series_at(law, tau * p, &f, &x_df)
    load = to_power(p, law.load_power) * f + b * to_power(p, law.depth_power)
    far = less(load, 0.9 * c) | less(1.1 * c, load)
    if any_of(far):
        far_root = smaller(root_above(c, law.load_power), root_above(c * per_b, law.depth_power))
        for step in range(4):
            far_root = power_step(law, b, tau, c, far_root)
        p = choose(far, far_root, p)
    p = power_step(law, b, tau, c, power_step(law, b, tau, c, p))
    root[0] = p
    series_at(law, tau * p, &f, &x_df)
    up = to_power(p, law.load_power - 1)
    down = to_power(p, law.depth_power - 1)
    load_rate = up * (n * f + x_df)
    depth_rate = r * b * down
    load_of_b = splat(0.0)
    if law.film:
        load_of_b = (0.5 * law.reach_power) * per_b * up * p * x_df
    q[0] = up * p * f
    s[0] = load_rate / (load_rate + depth_rate)
    of_b[0] = load_of_b - s[0] * (load_of_b + down * p)


cdef inline lanes power_root(const Law* law, lanes tau, lanes q) noexcept nogil:
    """p from the load: Newton's steps on p^n·f(τp) = q, from above since f >= 1. q > 0."""
    cdef double n = law.load_power
    cdef int step
    cdef lanes p = root_above(q, law.load_power), up, f, x_df
    for step in range(6):
        up = to_power(p, law.load_power - 1)
        series_at(law, tau * p, &f, &x_df)
        p = p - (up * p * f - q) / (up * (n * f + x_df))
    return p


cdef inline lanes power_slope_of_shape(const Law* law, lanes tau, lanes p) noexcept nogil:
    """d p^r/dq."""
    cdef double n = law.load_power, r = law.depth_power
    cdef lanes f, x_df
    series_at(law, tau * p, &f, &x_df)
    return r * to_power(p, law.depth_power) / (to_power(p, law.load_power) * (n * f + x_df))
