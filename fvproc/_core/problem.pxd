# What eight fits start from and what they end in: one curve in each lane, its points one after the other.

from fvproc._core.lanes cimport lanes, less, load, mask, splat
from fvproc._core.noise cimport Neighbours
from fvproc._core.types cimport Law

cdef enum:
    MOST_POINTS = 80
    FEWEST = 4        # contact samples for a fit of three parameters; its noise is known from the baseline

# What eight fits start from. Points are means of neighbouring samples, so that a long contact costs no more than a
# short one: the model bends by less than 1e-4 of the load between the samples of one of 25 or more points.
cdef struct Problem:
    Law law
    bint hidden                 # whether the end of contact is in any lane
    bint correlated             # whether the noise is in any lane
    const Neighbours* neighbours    # table of groups of 0 to MOST_NEIGHBOURS samples
    int points                  # of the lane that has most; others are filled up with points of weight 0
    int[8] used                 # points of each lane, 0 where it holds no curve
    double[640] y               # [point][lane]: d, nm
    double[640] zeta            # z − centre, nm
    double[640] count           # samples in the point
    double[640] weight          # variance of a sample over that of their mean: their number under white noise; 0 of none
    double[640] spread          # variance of ζ in the point
    double[640] root            # of the model, kept between iterations
    double[640] rate            # ∂root/∂c of the sphere, likewise
    double[640] q               # of the model: load q − a, S = ∂d/∂c, ∂d/∂B, and of ∂d/∂a what is not S (rows_at)
    double[640] s
    double[640] g
    double[640] e
    double[3][8] weight_sums    # over the points: Σw, Σwζ, Σwζ²
    double[6][8] free_sums      # of the samples free of contact: 1, ζ, ζ², d, ζd, d²
    double[8] adhesion          # a to start from
    double[8] top               # d at the peak
    double[8] film_reach
    double[8] expected          # of the anchor: of_z0·z0 + of_end·end = expected
    double[8] of_z0
    double[8] of_end
    double[8] anchor_weight     # (noise/σ)²
    double[8] noise
    double[8] per_reach         # 1/nm, over which a hidden jump is drawn out; 0 where the end of contact is known
    double[8] ends              # 1 where the end of contact is known
    double[3][8] holds          # 1 where adhesion, offset, tilt are held
    double[8] idle              # 1 where the lane holds no curve to fit

# What they end in.
cdef struct Solution:
    double[5][8] theta          # B, z0 − centre, a (√a with JKR), offset, tilt
    double[8] end               # z − z0 of the jump
    double[3][8] inverse        # diagonal of the inverse normal matrix: times the variance, that of B, z0, a
    double[3][5][8] columns     # its first three columns, where some lane's noise is correlated
    double[8] cost              # over contact, free samples and anchor
    double[8] contact_cost
    double[8] failed            # 1 where no minimum was reached
    double[8] inside            # samples in contact
    double[8] squares           # of y about its mean, over the points
    # by how much B, z0, a follow one sample, (A⁻¹·Jᵀ): of each point; of the free samples, as offset and slope; and the
    # variance that the anchor passes on to them, per noise². Set by influence.pxd where some lane's noise is correlated
    double[3][640] influence
    double[3][2][8] free_influence
    double[3][8] of_anchor


cdef inline mask flagged(const double* x) noexcept nogil:
    return less(splat(0.5), load(x))
