# The plain C structures that the kernel works on: settings in, one record per curve out, flags.
#
# Inside the kernel every length is in nm and every force is the deflection it causes, also in nm, so that the
# spring constant enters once, where the record is filled. The door (__init__.py) checks that Record and the
# flags agree with fvproc.quantities, name by name.

cdef enum:
    FEW_POINTS = 1 << 0
    NO_ADHESION = 1 << 1
    POOR_FIT = 1 << 2
    BASELINE_TILTED = 1 << 3
    NOISE_CORRELATED = 1 << 4
    SNAP_IN = 1 << 5
    INVALID_SAMPLES = 1 << 6
    BRANCHES_DISAGREE = 1 << 7
    BEYOND_TIP_SHAPE = 1 << 8
    DMT_DOUBTFUL = 1 << 9
    SPIKES = 1 << 10
    MULTIPLE_PULL_OFFS = 1 << 11
    BLUNT_PULL_OFF = 1 << 12
    PULL_OFF_DISAGREES = 1 << 13
    JKR_DOUBTFUL = 1 << 14
    FILM_DOUBTFUL = 1 << 15
    INVALID_CURVE = 1 << 19
    BASELINE_TOO_SHORT = 1 << 20
    NO_CONTACT = 1 << 21
    CONTACT_NOT_LEFT = 1 << 22
    SATURATED = 1 << 23
    TOO_FEW_POINTS = 1 << 24
    FIT_FAILED = 1 << 25
    MODULUS_UNBOUNDED = 1 << 26
    CONTACT_NOT_FOUND = 1 << 27
    NO_THICKNESS = 1 << 28
    UNWANTED = 1 << 30      # no flag: of quantities that the recipe does not ask for, while a record is sealed

cdef extern from *:
    """
    #define FVPROC_NM 1e-9
    """
    const double NM "FVPROC_NM"

# 1 << 31 does not fit the int of a C enum
cdef inline unsigned int NOT_FINITE() noexcept nogil:
    return 0x80000000u

cdef enum Kind:
    SPHERE = 0  # q = p³, δ = B·p²
    CONE = 1    # q = p², δ = B·p
    POWER = 2   # q = p^n·f, δ = B·p^r
    JKR = 3

# A contact model; fvproc/models.py says what the numbers are.
cdef struct Law:
    int kind
    int load_power          # n
    int depth_power         # r
    bint film
    int reach_power         # twice the power of δ in the film's χ
    double[8] series        # f in powers of χ
    double end              # χ beyond which f is held
    double limit            # χ beyond which it is not trusted

cdef enum ContactMethod:
    PIECEWISE = 0
    THRESHOLD = 1
    GRADIENT = 2
    RATIO_OF_VARIANCES = 3

cdef enum RawType:
    INT16 = 0
    INT32 = 1
    FLOAT32 = 2
    FLOAT64 = 3

cdef enum:
    FIELDS = 23  # floats in a record, before the flags

cdef struct Record:
    float modulus
    float modulus_std
    float modulus_lower
    float reduced_modulus
    float adhesion
    float adhesion_std
    float peak_force
    float contact_point
    float contact_point_std
    float approach_contact_point
    float approach_contact_point_std
    float deformation
    float indentation
    float stiffness
    float dissipation
    float adhesion_energy
    float snap_in
    float height
    float contact_height
    float baseline_noise
    float fit_rmse
    float r_squared
    float n_fit
    unsigned int flags

cdef struct Settings:
    double spring_constant      # N/m
    Law law
    double modulus_scale        # E* in Pa = k × this / B^m, m = n/r, B in nm^(1 − 1/m)
    double film_reach           # χ = reach·δ^(…)/h, δ and h in nm
    double film_thickness       # nm, where a tile has none of its own
    double one_minus_nu2        # 1 − ν² of the sample
    double tip_compliance       # (1 − ν_t²)/E_t in 1/Pa, 0 for a rigid tip
    double tip_share            # compliance B of the tip on a rigid sample, nm^(1 − 1/m)
    double tip_radius           # nm, 0 for a cone
    bint adhesive               # the model has a pull-off force
    int tabor                   # 1: flag where DMT does not hold, −1: where JKR does not
    double baseline_fraction
    int baseline_order
    bint baseline_of_approach   # the approach's line serves both branches
    double interference_period  # nm, 0 for none
    bint drag                   # the baseline has a term in the velocity
    bint bow                    # ... and one in z²
    int contact_method          # ContactMethod
    double contact_threshold    # in units of the noise, or of a slope's standard error
    double contact_window       # part of the branch below 1, else samples
    bint contact_detected       # where the method sees the contact, not carried back to zero load
    bint fit_approach
    bint maximum_likelihood
    bint adhesion_minimum       # adhesion is the lowest sample
    double window_low
    double window_high
    double deformation_region
    bint stiffness_of_window
    bint wants_fit              # something that the fit of the contact tells
    bint wants_contact          # ... the contact on approach
    bint wants_areas
    bint wants_deformation
    bint wants_height
    bint noise_known            # the noise's components are those of the map, at each curve's own level
    double[2][8] noise_shape    # of approach, retract: their variances per Allan variance of neighbours (noise.pxd)

# How raw numbers of a channel lie in memory and turn into nm.
cdef struct Raw:
    const char* base
    Py_ssize_t curve_stride     # bytes
    Py_ssize_t sample_stride    # bytes
    int type                    # RawType
    double scale                # nm
    double offset               # nm
    bint has_invalid
    double invalid

# Samples of a branch in raw numbers, in surface order.
cdef struct Samples:
    const short* x              # as they were measured; NULL where they are no int16, or some are left out or mended
    float* f                    # where x is NULL; else room for them

# Where the samples of a branch lie, in surface order (sample 0 at the turning point, the last farthest from the
# surface), and all that follows from this alone: made once a tile where the curves share it.
cdef struct Axis:
    Py_ssize_t n
    const double* z             # nm
    float* zeta                 # z − centre, nm
    float* weight               # of the trapezoidal rule
    double centre               # nm, in the far part
    Py_ssize_t width            # samples in a block, 1 << bits
    int bits
    Py_ssize_t blocks
    Py_ssize_t far              # first block of the part that is baseline by definition
    double* block_zeta          # mean ζ of each block
    double* rest_zeta           # Σζ and Σζ² over this block and all farther ones
    double* rest_zeta2
    double* tolerance           # variance of a block's mean about the far line, per variance of the noise (Branch.level_of_noise)
    double* step_tolerance      # variance of its difference from the next block's about that line's slope, likewise
    double* sum_zeta            # Σζ and Σζ² over the samples from this block's first on, to the last of all
    double* sum_zeta2
    Py_ssize_t reached          # samples that way and way2 cover
    double* way                 # Σ(z − z_0) and Σ(z − z_0)² over the samples before each
    double* way2
    Py_ssize_t tailed           # first block that tail covers; blocks + 1 where it covers nothing
    double* tail                # what noise does to a line over this block and all beyond it (covariance.pxd)

# One branch of one curve.
cdef struct Branch:
    Axis axis
    float* d                    # nm, the baseline subtracted
    double level                # nm, of what raw numbers were counted from: two branches have two
    double offset               # baseline at ζ = 0, nm
    double tilt                 # baseline's slope
    double noise                # standard deviation about the baseline, nm
    double allan                # half the mean square of the difference of neighbours, nm²
    double inflation            # variance of a long mean over that of white noise, as a first-order autoregression's
    bint correlated
    double[8] components        # variances of the noise's components where it is correlated, nm² (noise.pxd)
    Py_ssize_t start            # the baseline is fitted on [start, n)
    double peak                 # largest d
    Py_ssize_t peak_at
    double lowest               # smallest d beyond the zero crossing
    Py_ssize_t lowest_at
    Py_ssize_t zero             # first sample past the peak that is not above the baseline
    Py_ssize_t end              # contact is [0, end)
    bint pulled                 # the pull-off (or snap-in) stands out of the noise
    bint ends                   # the end of contact is known to lie between samples end − 1 and off
    Py_ssize_t off              # samples [end, off) may be in contact or not
    double holds                # z until which contact lasts at least; it ends between there and z[off]
    Py_ssize_t fitted           # samples [0, fitted) are those that a fit looks at
    Py_ssize_t back             # the force has come back to the baseline: off, but where it takes several samples
    bint several                # it came back in more than one step
    double jump_width           # nm, of a pull-off that takes several samples; 0 of a jump
    double faint                # nm, by which the place of a pull-off that was found by means of samples is uncertain; else 0
    Py_ssize_t free             # samples [free, n) are free of contact; their sums: 1, ζ, ζ², d, ζd, d²
    double[6] free_sums

# Result of a fit of the contact model, nm.
cdef struct ContactFit:
    double compliance           # B in δ = B q^(1/m)
    double compliance_std
    double z0
    double z0_std
    double adhesion
    double adhesion_std
    double offset               # correction of the baseline at Axis.centre
    double tilt
    double rmse                 # over the contact samples
    double r_squared
    double slope                # straight line through the window: d against δ
    double reach                # of the film, χ = reach·δ^(…)
    Py_ssize_t start            # contact samples [start, stop)
    Py_ssize_t stop
    Py_ssize_t samples
    int status                  # 0 done, else a fatal flag

# One curve on its way. The branches' samples are those of the curve that was surveyed last.
cdef struct Curve:
    Branch approach
    Branch retract
    ContactFit fit
    ContactFit contact          # on approach
    Py_ssize_t fit_count        # samples that the fits look at; 0 where there is none to do
    Py_ssize_t contact_begin
    Py_ssize_t contact_count    # 0 where the contact is taken as detected
    double unit_approach        # nm per raw number
    double unit_retract
    double quantum              # nm, a step of the converter
    double height               # m, of the scanner; NaN where there is none
    double film_reach           # χ = film_reach·δ^(…), 1/nm^(…); 0 without a film
    double snap_in              # nm
    double pull_off             # nm, depth of the lowest samples of the retract, where it may be asked for
    bint pull_off_held          # the fit's adhesion is held there
    unsigned int flags
