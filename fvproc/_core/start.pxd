# Where eight fits start: parameters from a linear problem, and the bend within a point taken off.

from fvproc._core.lanes cimport LANES, choose, lanes, lanes_sqrt, larger, less, load, mask, smaller, splat, store
from fvproc._core.model cimport Contact, bend_at, contact_of, root_guess, shape_at, shape_of_root
from fvproc._core.problem cimport Problem, flagged
from fvproc._core.types cimport JKR


cdef inline mask start_values(Problem* problem, lanes* theta) noexcept nogil:
    """B, z0 and a from a straight line of δ-like ζ − d against q^(1/m): the model is linear in these, q being measured.

    Where the end of contact is known, a first correction of a, on which q depends, is fitted with them, held near the
    lowest sample's by what this may miss: the noise, and the load between two samples. Points below a tenth of the load are left out, where noise bends
    q^(1/m). Sets the sums of the points' weights, too. Returns the lanes with too few points.
    """
    cdef lanes zero = splat(0.0), one = splat(1.0), a = load(problem.adhesion), top = load(problem.top) + a, attraction = a
    cdef Contact contact
    cdef double bend
    cdef lanes w0 = zero, wz = zero, wzz = zero
    cdef lanes n = zero, sg = zero, sh = zero, sd = zero, sgg = zero, sgh = zero, shh = zero, sgd = zero, shd = zero
    cdef lanes w, q, g, h, d, b, least, y, p, zeta, rate, noise = load(problem.noise), miss, change
    cdef mask found
    cdef int i
    if problem.law.kind == JKR:
        attraction = lanes_sqrt(a)
    # as if there were no film: its series holds B, which is not known yet
    contact_of(&problem.law, one, attraction, zero, &contact)
    for i in range(problem.points):
        y = load(problem.y + i * LANES)
        zeta = load(problem.zeta + i * LANES)
        w = load(problem.weight + i * LANES)
        w0 = w0 + w
        wz = wz + w * zeta
        wzz = wzz + w * zeta * zeta
        q = y + a
        w = choose(less(0.1 * top, q), w, zero)
        shape_at(&problem.law, &contact, larger(q, splat(1e-18)), &p, &g, &h)
        store(problem.root + i * LANES, p)
        d = zeta - y
        n = n + w
        sg = sg + w * g
        sh = sh + w * h
        sd = sd + w * d
        sgg = sgg + w * g * g
        sgh = sgh + w * g * h
        shh = shh + w * h * h
        sgd = sgd + w * g * d
        shd = shd + w * h * d
    store(problem.weight_sums[0], w0)
    store(problem.weight_sums[1], wz)
    store(problem.weight_sums[2], wzz)
    found = less(splat(2.5), n) & less(zero, n * sgg - sg * sg) & less(zero, top)
    sgg = sgg - sg * sg / n
    sgh = sgh - sg * sh / n
    shh = shh - sh * sh / n
    sgd = sgd - sg * sd / n
    shd = shd - sh * sd / n
    b = sgd / sgg
    # a slope that is not positive says "stiffer than can be told": start from one part in 30 of the load's travel
    p = root_guess(&problem.law, &contact, larger(top, splat(1e-18)))
    least = top / (30.0 * shape_of_root(&problem.law, &contact, p))
    b = choose(less(least, b), b, least)
    # the mean of a bent curve over a point's samples is not its value at their mean: ½·d″·spread is taken off, once,
    # at the start values. d″ = (1 − r/n)·B·w·S³/q, S = 1/(1 + B·w), w = d(δ/B)/dq for the pair of powers
    bend = 0.5 * (1.0 - <double>problem.law.depth_power / problem.law.load_power)
    for i in range(problem.points):
        y = load(problem.y + i * LANES)
        q = larger(y + a, splat(1e-18))
        d = bend_at(&problem.law, &contact, b, load(problem.root + i * LANES), q, &rate)
        store(problem.rate + i * LANES, rate)
        d = bend * load(problem.spread + i * LANES) * d
        # near the end of contact the points are narrow, and beyond it there is no bend
        store(problem.y + i * LANES, y - choose(less(0.05 * top, q), d, zero))
    if problem.law.kind != JKR:
        miss = noise + larger(load(problem.y + LANES) - load(problem.y), zero)
        shh = shh + noise * noise / (b * b * miss * miss)
        change = (shd * sgg - sgd * sgh) / (b * (sgg * shh - sgh * sgh))
        change = larger(smaller(change, 2.0 * miss), -0.5 * miss)
        change = choose(flagged(problem.ends) & ~flagged(problem.holds[0]) & less(splat(3.5), n), change, zero)
        b = (sgd - change * b * sgh) / sgg
        b = choose(less(least, b), b, least)
        attraction = a + change
        sd = sd - change * b * sh
    theta[0] = b
    theta[1] = (sd - b * sg) / n
    theta[2] = attraction
    theta[3] = zero
    theta[4] = zero
    return ~found
