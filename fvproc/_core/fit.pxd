# Least squares of the contact model, eight curves at once: maximum likelihood for noise in the deflection at known z.
#
# Parameters of each curve: compliance B, contact point z0, adhesion a = F_adh/k, and a correction (offset, tilt) of the
# baseline. Levenberg-Marquardt; every length in nm. Rejected: ln K in place of B (diverges in stiff contacts, bends
# the errors); one curve at a time (the solution of the normal equations and the divisions of Newton's steps are chains
# of dependent operations, in which a processor mostly waits; eight curves side by side fill its registers).

from fvproc._core.jkr cimport jkr_at
from fvproc._core.lanes cimport (
    LANES, any_of, at_most, choose, lanes, larger, less, load, mask, none, smaller, splat, store,
)
from fvproc._core.model cimport Contact, contact_of, model_at, near_root
from fvproc._core.problem cimport Problem, Solution, flagged
from fvproc._core.solve cimport (
    ENTRIES, PARAMETERS, Factors, factorise, factorise_baseline, inverse_diagonal, solve,
)
from fvproc._core.start cimport start_values
from fvproc._core.types cimport JKR, SPHERE

cdef enum:
    ITERATIONS = 47     # slow noise bends a hidden end of contact: of those that 23 do not settle, 47 do nine of ten


cdef struct State:
    lanes[5] theta
    lanes[15] matrix
    lanes[5] gradient
    lanes cost
    lanes contact_cost


cdef enum Sums:
    PLAIN = 0       # the adhesion acts outside the contact, whose end is known
    DRAWN_OUT = 1   # ... or is hidden in some lane
    INSIDE = 2      # the adhesion changes the contact


cdef inline void rows_at(Sums sums, Problem* problem, const Contact* contact, lanes z0) noexcept nogil:
    """Set q, s, g and (not where PLAIN) e of every point.

    e is ∂d/∂a with JKR, elsewhere the part h of the force that is there: ∂d/∂a = S − h. Where the end of contact is
    hidden, it is drawn out to both sides over a distance of about that of the samples, so that the fit can find it.
    """
    cdef lanes one = splat(1.0), tiny = splat(1e-18), shift = -contact.end - z0, per_reach = load(problem.per_reach)
    cdef lanes c, root, rate, q, s, g, e = one, x, h, slope
    cdef mask seeks = less(splat(0.0), per_reach)
    cdef int i
    # loops of their own: what a point waits for, a quotient most of all, must not keep a processor from the next point
    if sums != INSIDE and problem.law.kind == SPHERE:
        for i in range(problem.points):
            root = load(problem.root + i * LANES)
            rate = load(problem.rate + i * LANES)
            near_root(&problem.law, contact, larger(load(problem.zeta + i * LANES) + shift, tiny), &root, &rate)
            store(problem.root + i * LANES, root)
    for i in range(problem.points):
        c = load(problem.zeta + i * LANES) + shift
        root = load(problem.root + i * LANES)
        rate = load(problem.rate + i * LANES)
        if sums == INSIDE:
            jkr_at(
                contact.b, contact.per_b, contact.adhesion, contact.u_end, larger(c, tiny) + contact.end,
                &root, &q, &s, &g, &e
            )
        else:
            model_at(&problem.law, contact, larger(c, tiny), &root, &rate, &q, &s, &g)
            store(problem.rate + i * LANES, rate)
            q = q - contact.adhesion
            e = one
        store(problem.root + i * LANES, root)
        if sums != PLAIN:
            x = larger(smaller(c * per_reach, one), -one)
            # ½ + ¾x − ¼x³, the cubic from 0 to 1 that is flat at both ends
            h = choose(seeks, splat(0.5) + x * (0.75 - 0.25 * x * x), one)
            slope = choose(seeks, (0.75 - 0.75 * x * x) * per_reach, splat(0.0)) * q
            s = h * s + slope
            g = h * g
            q = h * q
            if sums == INSIDE:
                g = g - slope * contact.end_of_b
                e = h * e - slope * contact.end_of_adhesion
            else:
                e = h
            store(problem.e + i * LANES, e)
        store(problem.q + i * LANES, q)
        store(problem.s + i * LANES, s)
        store(problem.g + i * LANES, g)


cdef inline void assess_as(Sums sums, Problem* problem, State* state) noexcept nogil:
    """Normal equations and cost at state.theta; rows and columns of what is held become those of the unit matrix."""
    cdef lanes a = state.theta[2], offset = state.theta[3], tilt = state.theta[4]
    cdef lanes zero = splat(0.0), one = splat(1.0)
    cdef lanes bb = zero, bs = zero, b1 = zero, bz = zero, ss = zero, s1 = zero, sz = zero
    cdef lanes rb = zero, rs = zero, rh = zero, r1 = zero, rz = zero, rr = zero
    cdef lanes w0 = load(problem.weight_sums[0]), wz = load(problem.weight_sums[1]), wzz = load(problem.weight_sums[2])
    cdef lanes bh = zero, sh = zero, hh = zero, h1 = zero, hz = zero
    cdef lanes zeta, s, g, e, r, w, ws, wg, wr, x
    cdef mask held
    cdef Contact contact
    cdef int i, j, k
    contact_of(&problem.law, state.theta[0], a, load(problem.film_reach), &contact)
    rows_at(sums, problem, &contact, state.theta[1])
    for i in range(problem.points):
        zeta = load(problem.zeta + i * LANES)
        w = load(problem.weight + i * LANES)
        s = load(problem.s + i * LANES)
        g = load(problem.g + i * LANES)
        r = load(problem.y + i * LANES) - load(problem.q + i * LANES) - (offset + tilt * zeta)
        ws = w * s
        wg = w * g
        wr = w * r
        bb = bb + wg * g
        bs = bs + wg * s
        b1 = b1 + wg
        bz = bz + wg * zeta
        ss = ss + ws * s
        s1 = s1 + ws
        sz = sz + ws * zeta
        if sums != PLAIN:
            # of h, ∂d/∂a being S − h; inside the contact of ∂d/∂a itself
            e = load(problem.e + i * LANES)
            x = w * e
            bh = bh + x * g
            sh = sh + x * s
            hh = hh + x * e
            h1 = h1 + x
            hz = hz + x * zeta
            rh = rh + x * r
        rb = rb + wg * r
        rs = rs + ws * r
        r1 = r1 + wr
        rz = rz + wr * zeta
        rr = rr + wr * r
    # J = (g, −S, ∂d/∂a, 1, ζ)
    cdef lanes* m = state.matrix
    cdef lanes* v = state.gradient
    cdef lanes[6] free
    cdef lanes miss, weight, of_z0, of_end, of_adhesion, of_b
    for j in range(6):
        free[j] = load(problem.free_sums[j])
    m[0] = bb
    m[1] = -bs
    m[2] = ss
    m[6] = b1
    m[7] = -s1
    m[9] = w0 + free[0]
    m[10] = bz
    m[11] = -sz
    m[13] = wz + free[1]
    m[14] = wzz + free[2]
    v[0] = rb
    v[1] = -rs
    if sums == INSIDE:
        m[3] = bh
        m[4] = -sh
        m[5] = hh
        m[8] = h1
        m[12] = hz
        v[2] = rh
    else:
        if sums == PLAIN:
            bh = b1
            sh = s1
            hh = w0
            h1 = w0
            hz = wz
            rh = r1
        m[3] = bs - bh
        m[4] = sh - ss
        m[5] = ss - 2.0 * sh + hh
        m[8] = s1 - h1
        m[12] = sz - hz
        v[2] = rs - rh
    v[3] = r1 + (free[3] - offset * free[0] - tilt * free[1])
    v[4] = rz + (free[4] - offset * free[1] - tilt * free[2])
    state.contact_cost = rr
    state.cost = rr + (
        free[5] - 2.0 * (offset * free[3] + tilt * free[4])
        + offset * offset * free[0] + 2.0 * offset * tilt * free[1] + tilt * tilt * free[2]
    )
    # the anchor
    of_z0 = load(problem.of_z0)
    of_end = load(problem.of_end)
    weight = load(problem.anchor_weight)
    miss = load(problem.expected) - of_z0 * state.theta[1] - of_end * contact.end
    of_adhesion = -of_end
    if sums == INSIDE:
        of_adhesion = of_end * contact.end_of_adhesion
        of_b = of_end * contact.end_of_b
        m[0] = m[0] + weight * of_b * of_b
        m[1] = m[1] + weight * of_b * of_z0
        m[3] = m[3] + weight * of_b * of_adhesion
        v[0] = v[0] + weight * miss * of_b
    m[2] = m[2] + weight * of_z0 * of_z0
    m[4] = m[4] + weight * of_z0 * of_adhesion
    m[5] = m[5] + weight * of_adhesion * of_adhesion
    v[1] = v[1] + weight * miss * of_z0
    v[2] = v[2] + weight * miss * of_adhesion
    state.cost = state.cost + weight * miss * miss
    for j in range(2, PARAMETERS):
        held = flagged(problem.holds[j - 2])
        for k in range(PARAMETERS):
            i = j * (j + 1) // 2 + k if k <= j else k * (k + 1) // 2 + j
            m[i] = choose(held, one if k == j else zero, m[i])
        v[j] = choose(held, zero, v[j])


cdef inline void assess(Problem* problem, State* state) noexcept nogil:
    if problem.law.kind == JKR:
        assess_as(INSIDE, problem, state)
    elif problem.hidden:
        assess_as(DRAWN_OUT, problem, state)
    else:
        assess_as(PLAIN, problem, state)


cdef inline void tally(const Problem* problem, lanes end, Solution* solution) noexcept nogil:
    """Set inside and squares; end: ζ of the end of contact."""
    cdef lanes zero = splat(0.0), mean = zero, squares = zero, inside = zero, w, y
    cdef lanes total = load(problem.weight_sums[0])
    cdef mask known = flagged(problem.ends)
    cdef int i
    for i in range(problem.points):
        w = load(problem.weight + i * LANES)
        y = load(problem.y + i * LANES)
        inside = inside + choose(
            known | less(end, load(problem.zeta + i * LANES)), load(problem.count + i * LANES), zero
        )
        mean = mean + w * y
        squares = squares + w * y * y
    store(solution.inside, inside)
    store(solution.squares, squares - mean * mean / larger(total, splat(1.0)))


cdef inline void set_column(const Factors* factors, int k, Solution* solution) noexcept nogil:
    """Column k of the inverse normal matrix."""
    cdef lanes[5] unit
    cdef lanes[5] column
    cdef int j
    for j in range(PARAMETERS):
        unit[j] = splat(1.0 if j == k else 0.0)
    solve(factors, unit, column)
    for j in range(PARAMETERS):
        store(solution.columns[k][j], column[j])


cdef inline void hold_adhesion(mask loose, lanes* matrix) noexcept nogil:
    """Make the rows and columns of the adhesion those of the unit matrix."""
    cdef lanes zero = splat(0.0)
    matrix[3] = choose(loose, zero, matrix[3])
    matrix[4] = choose(loose, zero, matrix[4])
    matrix[5] = choose(loose, splat(1.0), matrix[5])
    matrix[8] = choose(loose, zero, matrix[8])
    matrix[12] = choose(loose, zero, matrix[12])


cdef inline mask factorise_stiff(
    mask stiff, mask loose, lanes damping, State* state, Factors* factors, lanes* gradient
) noexcept nogil:
    """Factorise with the compliance held in some lanes, and the adhesion in those of them where nothing else tells it.

    In a rigid contact the forces do not, ∂d/∂a = S − 1 → 0. gradient: that without what is held.
    """
    cdef lanes[15] matrix = state.matrix
    cdef lanes zero = splat(0.0)
    cdef int j
    matrix[0] = choose(stiff, splat(1.0), matrix[0])
    gradient[0] = choose(stiff, zero, state.gradient[0])
    for j in range(1, PARAMETERS):
        matrix[j * (j + 1) // 2] = choose(stiff, zero, matrix[j * (j + 1) // 2])
        gradient[j] = state.gradient[j]
    hold_adhesion(loose, matrix)
    gradient[2] = choose(loose, zero, gradient[2])
    return factorise(matrix, damping, factors)


cdef inline void minimise(Problem* problem, Solution* solution) noexcept nogil:
    """Levenberg-Marquardt from start_values to the minimum in every lane; a lane that is settled rests."""
    cdef State state, trial
    cdef Contact contact
    cdef Factors factors
    cdef lanes[5] step
    cdef lanes[5] gradient
    cdef lanes zero = splat(0.0), one = splat(1.0), damping = zero, clamped = zero, promised = zero, limit, least, earlier
    cdef lanes promised_before = zero
    cdef mask busy, failed, bad, better, done, clamp, rests, stiff = none(), untold = ~flagged(problem.of_end)
    cdef int iteration, j
    failed = start_values(problem, trial.theta) | flagged(problem.idle)
    for j in range(PARAMETERS):
        trial.theta[j] = choose(failed, one if j == 0 else zero, trial.theta[j])
    limit = load(problem.noise) + 1e-7 * load(problem.top)
    limit = 1e-4 * limit * limit
    assess(problem, &trial)
    state = trial
    failed = failed | factorise_baseline(state.matrix, &factors)
    busy = ~failed
    earlier = state.cost + splat(1e300)
    for iteration in range(ITERATIONS):
        if any_of(stiff):
            bad = factorise_stiff(stiff, stiff & untold, damping, &state, &factors, gradient)
            promised = solve(&factors, gradient, step)
        else:
            bad = factorise(state.matrix, damping, &factors)
            promised = solve(&factors, state.gradient, step)
        least = 0.2 * state.theta[0]
        clamp = less(state.theta[0] + step[0], least)
        # what is promised within a hundredth of the noise is as good as had: the last step is taken unseen, as is one
        # behind which the next would promise so, if the promises went on falling as they did
        done = busy & ~bad & ~clamp & less(damping, splat(1e-2)) & (
            less(promised, limit)
            | (less(promised, 2.0 * limit) & less(promised * promised, 0.1 * limit * promised_before))
        )
        promised_before = promised
        rests = none()
        if iteration % 3 == 2:
            # a sample at the very end of contact, where the model has a corner, may turn the steps back and forth:
            # three that have gained less than a thirtieth of the variance, and promise no more than three tenths, say
            # that the minimum is here
            rests = busy & ~bad & less(earlier - state.cost, 300.0 * limit) & less(promised, 3000.0 * limit)
            earlier = state.cost
        for j in range(PARAMETERS):
            state.theta[j] = choose(done, state.theta[j] + step[j], state.theta[j])
        for j in range(PARAMETERS):
            trial.theta[j] = choose(bad, state.theta[j], state.theta[j] + step[j])
        state.cost = choose(done, state.cost - promised, state.cost)
        state.contact_cost = choose(done, larger(state.contact_cost - promised, zero), state.contact_cost)
        # the data want a contact stiffer than rigid: a few bounded steps, then the compliance is as good as zero, and
        # the others are fitted without it
        trial.theta[0] = choose(clamp & ~bad, least, trial.theta[0])
        clamped = choose(busy & clamp & ~bad, clamped + one, clamped)
        failed = failed | (busy & ~less(damping, splat(1e8)))
        stiff = less(splat(7.5), clamped)
        busy = busy & ~done & ~rests & ~failed
        if not any_of(busy):
            break
        assess(problem, &trial)
        # a hundredth of the variance is less than the roots, one step behind the parameters, may be wrong by
        better = busy & ~bad & at_most(trial.cost, state.cost + 100.0 * limit)
        for j in range(PARAMETERS):
            state.theta[j] = choose(better, trial.theta[j], state.theta[j])
            state.gradient[j] = choose(better, trial.gradient[j], state.gradient[j])
        for j in range(ENTRIES):
            state.matrix[j] = choose(better, trial.matrix[j], state.matrix[j])
        state.cost = choose(better, trial.cost, state.cost)
        state.contact_cost = choose(better, trial.contact_cost, state.contact_cost)
        damping = choose(
            better, choose(less(splat(1e-6), damping), 0.1 * damping, zero), larger(10.0 * damping, splat(1e-3))
        )
    # a lane that ran out of iterations is at its minimum if no more than a fifth of an error is left to go
    failed = failed | (busy & ~less(promised, 400.0 * limit))
    if any_of(stiff):
        hold_adhesion(stiff & untold, state.matrix)
    failed = failed | factorise(state.matrix, zero, &factors)
    if problem.correlated:
        for j in range(3):
            set_column(&factors, j, solution)
    inverse_diagonal(&factors, step)
    for j in range(PARAMETERS):
        store(solution.theta[j], state.theta[j])
    for j in range(3):
        store(solution.inverse[j], step[j])
    contact_of(&problem.law, state.theta[0], state.theta[2], load(problem.film_reach), &contact)
    store(solution.end, contact.end)
    tally(problem, state.theta[1] + contact.end, solution)
    store(solution.cost, state.cost)
    store(solution.contact_cost, state.contact_cost)
    store(solution.failed, choose(failed, one, zero))
