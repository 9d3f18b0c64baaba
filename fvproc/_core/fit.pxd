# Least squares of the contact model: maximum likelihood for noise in the deflection at a known piezo position.
#
# Parameters: compliance B, contact point z0, adhesion a = F_adh/k, and a correction (offset, tilt) of the baseline.
# The non-contact samples enter the normal equations through six sums only. Levenberg-Marquardt; every length in nm.

from libc.math cimport sqrt
from libc.string cimport memcpy

from fvproc._core.lanes cimport dot, line_sums, total
from fvproc._core.model cimport indentation_shape, solve_sphere, start_roots
from fvproc._core.types cimport CONE, FIT_FAILED, TOO_FEW_POINTS, Branch, ContactFit

cdef enum:
    PARAMETERS = 5
    FEWEST = 5        # contact samples for a fit of three parameters and two to judge it
    ITERATIONS = 30


cdef inline bint solve_normal(const double* matrix, const double* gradient, double damping, double* step,
                              double* inverse_diagonal) noexcept nogil:
    """Solve (A + damping·diag A)·step = gradient by Cholesky; inverse_diagonal, if not NULL, gets diag A⁻¹.

    Rows of parameters that are held have 1 on the diagonal and 0 elsewhere. False if A is not positive definite.
    """
    cdef double[25] low
    cdef double[5] scale
    cdef double[5] y
    cdef double s
    cdef int i, j, k, column
    for i in range(PARAMETERS):
        if not matrix[i * 5 + i] > 0.0:
            return False
        scale[i] = 1.0 / sqrt(matrix[i * 5 + i])
    for i in range(PARAMETERS):
        for j in range(i + 1):
            s = matrix[i * 5 + j] * scale[i] * scale[j]
            if i == j:
                s = 1.0 + damping
            for k in range(j):
                s -= low[i * 5 + k] * low[j * 5 + k]
            if i == j:
                if not s > 1e-13:
                    return False
                low[i * 5 + i] = sqrt(s)
            else:
                low[i * 5 + j] = s / low[j * 5 + j]
    for i in range(PARAMETERS):
        s = gradient[i] * scale[i]
        for k in range(i):
            s -= low[i * 5 + k] * y[k]
        y[i] = s / low[i * 5 + i]
    for i in range(PARAMETERS - 1, -1, -1):
        s = y[i]
        for k in range(i + 1, PARAMETERS):
            s -= low[k * 5 + i] * step[k]
        step[i] = s / low[i * 5 + i]
    for i in range(PARAMETERS):
        step[i] *= scale[i]
    if inverse_diagonal != NULL:
        for column in range(PARAMETERS):
            # ‖L⁻¹ e‖² is the diagonal element of the inverse
            inverse_diagonal[column] = 0.0
            for i in range(column, PARAMETERS):
                s = 1.0 if i == column else 0.0
                for k in range(column, i):
                    s -= low[i * 5 + k] * y[k]
                y[i] = s / low[i * 5 + i]
                inverse_diagonal[column] += y[i] * y[i]
            inverse_diagonal[column] *= scale[column] * scale[column]
    return True


cdef inline double evaluate(
    int model, const Branch* branch, Py_ssize_t count, const double* theta, double* work,
    double* matrix, double* gradient
) noexcept nogil:
    """Add the contact samples [0, count) to matrix and gradient; return their sum of squared residuals.

    work holds 4·n doubles. The roots are found anew each time: a start from those of the step before saves less
    than it costs where a sample near the pull-off makes a large move.
    """
    cdef Py_ssize_t n = branch.n, i
    cdef const double* z = branch.z
    cdef const double* d = branch.d
    cdef double* p = work
    cdef double* column_b = work + n
    cdef double* column_s = work + 2 * n
    cdef double* r = work + 3 * n
    cdef double b = theta[0], a = theta[2], shift = theta[2] - theta[1], offset = theta[3], tilt = theta[4]
    cdef double centre = branch.centre, q, s, x
    for i in range(count):
        x = z[i] + shift
        column_s[i] = x if x > 0.0 else 0.0
    if model == CONE:
        for i in range(count):
            p[i] = 2.0 * column_s[i] / (b + sqrt(b * b + 4.0 * column_s[i]) + 1e-150)
        for i in range(count):
            x = p[i]
            s = 2.0 * x / (2.0 * x + b + 1e-150)
            r[i] = d[i] - (x * x - a + offset + tilt * (z[i] - centre))
            column_b[i] = -x * s
            column_s[i] = s
    else:
        start_roots(column_s, b, count, p)
        solve_sphere(column_s, b, count, 4, p)
        for i in range(count):
            x = p[i] if column_s[i] > 0.0 else 0.0
            s = 3.0 * x / (3.0 * x + 2.0 * b + 1e-150)
            r[i] = d[i] - (x * x * x - a + offset + tilt * (z[i] - centre))
            column_b[i] = -x * x * s
            column_s[i] = s
    # J = (column_b, −S, S − 1, 1, ζ), ζ = z − centre
    cdef double bb = dot(column_b, column_b, count), bs = dot(column_b, column_s, count), b1 = total(column_b, count)
    cdef double ss = dot(column_s, column_s, count), s1 = total(column_s, count)
    cdef double bz = dot(column_b, z, count) - centre * b1, sz = dot(column_s, z, count) - centre * s1
    cdef double rb = dot(r, column_b, count), rs = dot(r, column_s, count)
    cdef double[6] sums
    line_sums(z, r, count, centre, sums)
    matrix[0] += bb
    matrix[5] += -bs
    matrix[6] += ss
    matrix[10] += bs - b1
    matrix[11] += s1 - ss
    matrix[12] += ss - 2.0 * s1 + count
    matrix[15] += b1
    matrix[16] += -s1
    matrix[17] += s1 - count
    matrix[18] += count
    matrix[20] += bz
    matrix[21] += -sz
    matrix[22] += sz - sums[1]
    matrix[23] += sums[1]
    matrix[24] += sums[2]
    gradient[0] += rb
    gradient[1] += -rs
    gradient[2] += rs - sums[3]
    gradient[3] += sums[3]
    gradient[4] += sums[4]
    return sums[5]


cdef inline double add_baseline(const double* sums, const double* theta, double* matrix, double* gradient) noexcept nogil:
    """Add non-contact samples, given by their line_sums, where the model is offset + tilt·ζ; return their Σr²."""
    cdef double o = theta[3], t = theta[4]
    matrix[18] += sums[0]
    matrix[23] += sums[1]
    matrix[24] += sums[2]
    gradient[3] += sums[3] - o * sums[0] - t * sums[1]
    gradient[4] += sums[4] - o * sums[1] - t * sums[2]
    return (
        sums[5] - 2.0 * o * sums[3] - 2.0 * t * sums[4]
        + o * o * sums[0] + 2.0 * o * t * sums[1] + t * t * sums[2]
    )


cdef inline double add_anchor(
    double expected, double of_z0, double of_adhesion, double weight, const double* theta, double* matrix,
    double* gradient
) noexcept nogil:
    """Add the observation of_z0·z0 + of_adhesion·a = expected, of weight (noise/σ)²; return its weighted r²."""
    cdef double r = expected - of_z0 * theta[1] - of_adhesion * theta[2]
    matrix[6] += weight * of_z0 * of_z0
    matrix[11] += weight * of_z0 * of_adhesion
    matrix[12] += weight * of_adhesion * of_adhesion
    gradient[1] += weight * r * of_z0
    gradient[2] += weight * r * of_adhesion
    return weight * r * r


cdef inline Py_ssize_t agreeing_end(const Branch* branch, double pull_off_z, Py_ssize_t limit) noexcept nogil:
    """Number of leading samples that lie nearer to the surface than the model's pull-off, FEWEST to limit."""
    cdef Py_ssize_t count = 0
    while count < limit and branch.z[count] > pull_off_z:
        count += 1
    return count if count > FEWEST else FEWEST


cdef inline bint start_values(
    int model, const Branch* branch, Py_ssize_t count, double adhesion, double* theta
) noexcept nogil:
    """B and z0 from a straight line of δ-like z − d against q^(1/m): the model is linear in these, q being measured.

    Samples below a tenth of the load are left out, where noise bends q^(1/m); some twenty samples do for a start.
    """
    cdef Py_ssize_t i, j, used = 0, stride = 1 + count // 24
    cdef double top = branch.peak + adhesion, g, s, sg = 0.0, sd = 0.0, sgg = 0.0, sgd = 0.0, determinant
    for j in range((count + stride - 1) // stride):
        i = j * stride
        if branch.d[i] + adhesion < 0.1 * top:
            continue
        g = indentation_shape(model, branch.d[i] + adhesion)
        s = branch.z[i] - branch.d[i] - branch.z[0]
        used += 1
        sg += g
        sd += s
        sgg += g * g
        sgd += g * s
    if used < 3:
        return False
    determinant = used * sgg - sg * sg
    if not determinant > 0.0:
        return False
    theta[0] = (used * sgd - sg * sd) / determinant
    # a slope that is not positive says "stiffer than can be told": start from one part in 30 of the load's travel
    if not theta[0] * indentation_shape(model, top) > top / 30.0:
        theta[0] = top / 30.0 / indentation_shape(model, top)
    theta[1] = (sd - theta[0] * sg) / used + branch.z[0]
    theta[2] = adhesion
    theta[3] = 0.0
    theta[4] = 0.0
    return True


# What a fit minimises: the contact samples [0, count), the free ones [count or baseline_from, n), the anchor.
cdef struct Problem:
    int model
    const Branch* branch
    bint free_adhesion
    int baseline_parameters
    Py_ssize_t count
    Py_ssize_t baseline_from
    double[6] far_sums
    double expected             # of the anchor, see add_anchor
    double of_z0
    double of_adhesion
    double weight
    double contact_sse          # of the last call of assess


cdef inline double assess(
    Problem* problem, const double* theta, double* work, double* matrix, double* gradient
) noexcept nogil:
    """Normal equations and cost at theta; rows and columns of what is held become those of the unit matrix."""
    cdef const Branch* branch = problem.branch
    cdef double[6] sums
    cdef double cost
    cdef int j, k
    for j in range(25):
        matrix[j] = 0.0
    for j in range(PARAMETERS):
        gradient[j] = 0.0
    problem.contact_sse = evaluate(problem.model, branch, problem.count, theta, work, matrix, gradient)
    cost = problem.contact_sse
    if problem.baseline_parameters > 0 or not branch.pulled:
        cost += add_baseline(problem.far_sums, theta, matrix, gradient)
        if not branch.pulled and problem.baseline_from > problem.count:
            line_sums(
                branch.z + problem.count, branch.d + problem.count, problem.baseline_from - problem.count,
                branch.centre, sums
            )
            cost += add_baseline(sums, theta, matrix, gradient)
    if problem.free_adhesion:
        cost += add_anchor(
            problem.expected, problem.of_z0, problem.of_adhesion, problem.weight, theta, matrix, gradient
        )
    for j in range(2, PARAMETERS):
        if (j == 2 and problem.free_adhesion) or (j > 2 and problem.baseline_parameters > j - 3):
            continue
        for k in range(PARAMETERS):
            matrix[(j * 5 + k) if j >= k else (k * 5 + j)] = 0.0
        matrix[j * 5 + j] = 1.0
        gradient[j] = 0.0
    return cost


cdef inline void set_anchor(Problem* problem, bint retract) noexcept nogil:
    """What is known of pull-off or snap-in besides the forces.

    In a stiff contact the forces hardly tell the adhesion: the place of the jump does. On retract the pull-off,
    z0 − a, lies between the last sample in contact and the first one free. On approach the contact point itself does,
    but for the distance from which the tip jumps in, about as far as the jump is high. Where no jump stands out, the
    adhesion is no more than what noise and the distance of the samples can hide.
    """
    cdef const Branch* branch = problem.branch
    cdef Py_ssize_t i = problem.count if problem.count < branch.n - 1 else branch.n - 1
    cdef double spacing = branch.z[i - 1] - branch.z[i]
    problem.of_z0 = 1.0 if branch.pulled else 0.0
    problem.expected = 0.5 * (branch.z[i - 1] + branch.z[i]) if branch.pulled else 0.0
    if not branch.pulled:
        problem.of_adhesion = 1.0
        problem.weight = branch.noise / (spacing + 5.0 * branch.noise)
    elif retract:
        problem.of_adhesion = -1.0
        problem.weight = branch.noise / (spacing + branch.noise)
    else:
        problem.of_adhesion = 0.0
        problem.weight = branch.noise / (spacing + branch.noise - branch.lowest)
    problem.weight *= problem.weight


cdef inline bint minimise(Problem* problem, double* theta, double* work, double* matrix, double* gradient,
                          double* cost) noexcept nogil:
    """Levenberg-Marquardt from theta to the minimum, matrix, gradient and cost there; False if it is not reached.

    Where the pull-off does not stand out (branch.pulled false), which samples are in contact is settled with the
    fit: at the minimum, those nearer to the surface than the pull-off it gives; if that changes the set, again.
    """
    cdef const Branch* branch = problem.branch
    cdef double[25] trial_matrix
    cdef double[5] trial_gradient
    cdef double[5] trial
    cdef double[5] step
    cdef double damping = 0.0, trial_cost, contact_sse, promised = 0.0
    cdef Py_ssize_t count
    cdef int iteration, j, moves = 0, clamped = 0
    cdef bint settled = False
    cost[0] = assess(problem, theta, work, matrix, gradient)
    contact_sse = problem.contact_sse
    for iteration in range(ITERATIONS):
        if not solve_normal(matrix, gradient, damping, step, NULL):
            damping = 1e-3 if damping == 0.0 else damping * 10.0
            if damping > 1e8:
                return False
            continue
        promised = 0.0
        for j in range(PARAMETERS):
            promised += step[j] * gradient[j]
            trial[j] = theta[j] + step[j]
        if trial[0] < 0.2 * theta[0]:
            # the data want a contact stiffer than rigid: a few bounded steps, then the compliance is as good as zero
            trial[0] = 0.2 * theta[0]
            clamped += 1
            settled = clamped == 8
        trial_cost = assess(problem, trial, work, trial_matrix, trial_gradient)
        if trial_cost <= cost[0]:
            cost[0] = trial_cost
            contact_sse = problem.contact_sse
            memcpy(theta, trial, sizeof(trial))
            memcpy(matrix, trial_matrix, sizeof(trial_matrix))
            memcpy(gradient, trial_gradient, sizeof(trial_gradient))
            damping = damping * 0.1 if damping > 1e-6 else 0.0
            settled = settled or promised < 1e-6 * cost[0] / branch.n
        elif promised < 1e-5 * cost[0] / branch.n:
            settled = True  # rounding, not curvature, stands in the way
        else:
            damping = 1e-3 if damping == 0.0 else damping * 10.0
            if damping > 1e8:
                return False
        if not settled:
            continue
        if branch.pulled or moves == 3 or clamped == 8:
            break
        moves += 1
        count = agreeing_end(branch, theta[1] - theta[2], problem.baseline_from)
        if count == problem.count:
            break
        problem.count = count
        settled = False
        damping = 0.0
        cost[0] = assess(problem, theta, work, matrix, gradient)
        contact_sse = problem.contact_sse
    if not settled and not promised < 0.05 * cost[0] / branch.n:
        return False
    problem.contact_sse = contact_sse  # the last call of assess may have been at a point that was turned down
    return True


cdef inline void fit_contact(
    int model, const Branch* branch, bint free_adhesion, double adhesion, int baseline_parameters,
    Py_ssize_t baseline_from, bint retract, double quantum, double* work, ContactFit* fit
) noexcept nogil:
    """Maximum-likelihood fit of B, z0 (, adhesion)(, offset (, tilt)) to one branch, with standard errors."""
    cdef Problem problem
    cdef double[25] matrix
    cdef double[5] gradient
    cdef double[5] theta
    cdef double[5] step
    cdef double[5] inverse
    cdef double cost, mean, variance, contact_variance
    cdef Py_ssize_t count = branch.end, samples, contact_degrees, i
    if count > baseline_from:
        baseline_from = count
    if count < FEWEST and not branch.pulled and baseline_from >= FEWEST:
        count = FEWEST
    if count < FEWEST:
        fit.status = TOO_FEW_POINTS
        return
    fit.status = FIT_FAILED
    if not start_values(model, branch, count, adhesion, theta):
        return
    problem.model = model
    problem.branch = branch
    problem.free_adhesion = free_adhesion
    problem.baseline_parameters = baseline_parameters
    problem.count = count
    problem.baseline_from = baseline_from
    set_anchor(&problem, retract)
    line_sums(
        branch.z + baseline_from, branch.d + baseline_from, branch.n - baseline_from, branch.centre, problem.far_sums
    )
    if not minimise(&problem, theta, work, matrix, gradient, &cost):
        return
    if not solve_normal(matrix, gradient, 0.0, step, inverse):
        return
    count = problem.count
    # residual variance: pooled over all samples, unless the contact is plainly worse than the rest
    samples = count
    if baseline_parameters > 0 or not branch.pulled:
        samples += branch.n - (baseline_from if branch.pulled else count)
    contact_degrees = count - 2 - free_adhesion
    contact_variance = problem.contact_sse / contact_degrees
    variance = branch.noise * branch.noise
    if samples > count:
        variance = cost / (samples - 2 - free_adhesion - baseline_parameters)
    if variance < quantum * quantum / 12.0:
        variance = quantum * quantum / 12.0
    if contact_variance > variance * (1.0 + 4.0 * sqrt(2.0 / contact_degrees)):
        variance = contact_variance
    variance *= branch.inflation
    mean = total(branch.d, count) / count
    fit.sst = 0.0
    for i in range(count):
        fit.sst += (branch.d[i] - mean) * (branch.d[i] - mean)
    fit.compliance = theta[0]
    fit.compliance_std = sqrt(variance * inverse[0])
    fit.z0 = theta[1]
    fit.z0_std = sqrt(variance * inverse[1])
    fit.adhesion = theta[2]
    fit.adhesion_std = sqrt(variance * inverse[2]) if free_adhesion else branch.noise
    fit.offset = theta[3]
    fit.tilt = theta[4]
    fit.sse = problem.contact_sse
    fit.start = 0
    fit.stop = count
    fit.samples = count
    fit.status = 0
