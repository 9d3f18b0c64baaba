# How B, z0 and a of eight fits follow each sample: what the errors under correlated noise are made of (covariance.pxd).

from fvproc._core.fit cimport DRAWN_OUT, INSIDE, PLAIN, Sums, rows_at
from fvproc._core.lanes cimport LANES, lanes, load, splat, store
from fvproc._core.model cimport Contact, contact_of, forget_root
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.solve cimport PARAMETERS
from fvproc._core.types cimport JKR


cdef inline void influence_as(
    Sums sums, Problem* problem, const lanes* theta, const Contact* contact, const lanes* columns, Solution* solution
) noexcept nogil:
    """J·A⁻¹ at every point, for the three parameters whose errors are told."""
    cdef lanes one = splat(1.0), zeta, s, g, e
    cdef const lanes* column
    cdef int i, k
    rows_at(sums, problem, contact, theta[1])
    for i in range(problem.points):
        zeta = load(problem.zeta + i * LANES)
        s = load(problem.s + i * LANES)
        g = load(problem.g + i * LANES)
        e = load(problem.e + i * LANES) if sums != PLAIN else one
        if sums != INSIDE:
            e = s - e
        for k in range(3):
            column = columns + PARAMETERS * k
            store(
                solution.influence[k] + i * LANES,
                column[0] * g - column[1] * s + column[2] * e + (column[3] + column[4] * zeta),
            )


cdef inline void set_influence(Problem* problem, Solution* solution) noexcept nogil:
    """Set influence, free_influence and of_anchor of a solution.

    The estimate is A⁻¹·Jᵀ·y near its minimum, whatever the noise is like: a covariance C of the samples makes one of
    A⁻¹·(Jᵀ·C·J)·A⁻¹ of the parameters (White, Econometrica 48 (1980) 817).
    """
    cdef Contact contact
    cdef lanes[5] theta
    cdef lanes root, rate
    cdef lanes[15] columns      # of A⁻¹, one after the other
    cdef const lanes* column
    cdef lanes of_z0, of_end, of_b = splat(0.0), of_adhesion, x
    cdef int j, k
    for j in range(PARAMETERS):
        theta[j] = load(solution.theta[j])
        for k in range(3):
            columns[PARAMETERS * k + j] = load(solution.columns[k][j])
    forget_root(&root, &rate)
    # the roots kept are one step more or less behind the parameters, as other lanes took longer: found anew
    for j in range(problem.points):
        store(problem.root + j * LANES, root)
        store(problem.rate + j * LANES, rate)
    contact_of(&problem.law, theta[0], theta[2], load(problem.film_reach), &contact)
    of_z0 = load(problem.of_z0)
    of_end = load(problem.of_end)
    of_adhesion = -of_end
    if problem.law.kind == JKR:
        influence_as(INSIDE, problem, theta, &contact, columns, solution)
        of_b = of_end * contact.end_of_b
        of_adhesion = of_end * contact.end_of_adhesion
    elif problem.hidden:
        influence_as(DRAWN_OUT, problem, theta, &contact, columns, solution)
    else:
        influence_as(PLAIN, problem, theta, &contact, columns, solution)
    for k in range(3):
        column = columns + PARAMETERS * k
        store(solution.free_influence[k][0], column[3])
        store(solution.free_influence[k][1], column[4])
        x = column[0] * of_b + column[1] * of_z0 + column[2] * of_adhesion
        store(solution.of_anchor[k], load(problem.anchor_weight) * x * x)
