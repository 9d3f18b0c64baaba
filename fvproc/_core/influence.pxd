# How B, z0 and a of eight fits follow each sample: what the errors under correlated noise are made of (covariance.pxd).

from fvproc._core.fit cimport DRAWN_OUT, INSIDE, PLAIN, Sums, row_at
from fvproc._core.lanes cimport LANES, lanes, less, load, mask, splat, store
from fvproc._core.model cimport Contact, contact_of
from fvproc._core.problem cimport Problem, Solution
from fvproc._core.solve cimport PARAMETERS
from fvproc._core.types cimport JKR


cdef inline void influence_as(
    Sums sums, Problem* problem, const lanes* theta, const Contact* contact, const lanes* columns, Solution* solution
) noexcept nogil:
    """J·A⁻¹ at every point, for the three parameters whose errors are told."""
    cdef lanes per_reach = load(problem.per_reach), shift = -contact.end - theta[1], zeta, q, s, g, e
    cdef mask seeks = less(splat(0.0), per_reach)
    cdef const lanes* column
    cdef int i, k
    for i in range(problem.points):
        zeta = load(problem.zeta + i * LANES)
        row_at(sums, problem, contact, zeta + shift, per_reach, seeks, i, &q, &s, &g, &e)
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
    cdef lanes[15] columns      # of A⁻¹, one after the other
    cdef const lanes* column
    cdef lanes of_z0, of_end, of_b = splat(0.0), of_adhesion, x
    cdef int j, k
    for j in range(PARAMETERS):
        theta[j] = load(solution.theta[j])
        for k in range(3):
            columns[PARAMETERS * k + j] = load(solution.columns[k][j])
    # the roots kept are one step more or less behind the parameters, as other lanes took longer: found anew
    for j in range(problem.points):
        store(problem.root + j * LANES, splat(1e-300))
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
