# Where the samples of a branch lie: everything that follows from z alone, made once a tile where curves share their z.

from fvproc._core.lanes cimport LANES, lanes, load, splat, sum_of_eight
from fvproc._core.sums cimport PADDING
from fvproc._core.types cimport Axis

cdef enum:
    MOST_BLOCKS = 128
    BLOCKS = MOST_BLOCKS + 8    # room for as many, and zeros behind them
    REGISTERS = 8 // LANES      # that hold eight partial sums
    TAIL = 40                   # numbers of Axis.tail for each block


cdef inline Py_ssize_t axis_size(Py_ssize_t n) noexcept nogil:
    """Doubles of storage that make_axis wants for n samples."""
    return 3 * (n + 2 * PADDING) + (7 + TAIL) * BLOCKS


cdef inline Py_ssize_t block_width(Py_ssize_t n, Py_ssize_t far) noexcept nogil:
    """A power of two: 32 to 63 blocks in the branch, and at least eight in its far part, as samples allow."""
    cdef Py_ssize_t width = 1
    while 2 * width * 32 <= n and 2 * width * 8 <= far:
        width *= 2
    while n // width > MOST_BLOCKS:
        width *= 2
    return width


cdef inline void sums_of_zeta(
    const double* z, double centre, Py_ssize_t first, Py_ssize_t stop, double* one, double* two
) noexcept nogil:
    """Σζ and Σζ² over samples [first, stop), sample i of them in partial sum i mod 8 while there are eight."""
    cdef lanes[8] ones
    cdef lanes[8] twos
    cdef lanes x, middle = splat(centre)
    cdef double rest
    cdef Py_ssize_t i = first
    cdef int k
    for k in range(REGISTERS):
        ones[k] = splat(0.0)
        twos[k] = ones[k]
    while i + 8 <= stop:
        for k in range(REGISTERS):
            x = load(z + i + k * LANES) - middle
            ones[k] = ones[k] + x
            twos[k] = twos[k] + x * x
        i += 8
    one[0] = sum_of_eight(ones)
    two[0] = sum_of_eight(twos)
    while i < stop:
        rest = z[i] - centre
        one[0] += rest
        two[0] += rest * rest
        i += 1


cdef inline void sums_from(const Axis* axis, Py_ssize_t start, double* one, double* two) noexcept nogil:
    """Σζ and Σζ² over samples [start, n)."""
    cdef Py_ssize_t block = (start + axis.width - 1) >> axis.bits, stop = block << axis.bits
    if block > axis.blocks:
        stop = axis.n
    sums_of_zeta(axis.z, axis.centre, start, stop, one, two)
    if block <= axis.blocks:
        one[0] += axis.sum_zeta[block]
        two[0] += axis.sum_zeta2[block]


cdef inline void reach(Axis* axis, Py_ssize_t count) noexcept nogil:
    """Carry way and way2 on to so many samples: additions that wait for each other, so only as far as they are wanted."""
    cdef Py_ssize_t i
    cdef double x
    for i in range(axis.reached, count):
        x = axis.z[i] - axis.z[0]
        axis.way[i + 1] = axis.way[i] + x
        axis.way2[i + 1] = axis.way2[i] + x * x
    if count > axis.reached:
        axis.reached = count


cdef inline void make_axis(
    const double* z, Py_ssize_t n, double fraction, int order, double* storage, Axis* axis
) noexcept nogil:
    """Fill the axis of z (nm, surface order), but for way and way2; `storage` stays in use."""
    cdef Py_ssize_t i, j, far = <Py_ssize_t>(fraction * n), width = block_width(n, far), blocks = n // width
    cdef Py_ssize_t room = (n + 2 * PADDING - 1) // PADDING * PADDING   # keeps everything where registers want it
    cdef double one, two, total, zeta, mean, spread, at, count, of_mean, of_slope = 0.0, per_sample = 1.0 / width
    axis.n = n
    axis.z = z
    axis.zeta = <float*>storage
    axis.weight = axis.zeta + room
    axis.block_zeta = storage + room
    axis.rest_zeta = axis.block_zeta + BLOCKS
    axis.rest_zeta2 = axis.rest_zeta + BLOCKS
    axis.sum_zeta = axis.rest_zeta2 + BLOCKS
    axis.sum_zeta2 = axis.sum_zeta + BLOCKS
    axis.tolerance = axis.sum_zeta2 + BLOCKS
    axis.step_tolerance = axis.tolerance + BLOCKS
    axis.way = axis.step_tolerance + BLOCKS
    axis.way2 = axis.way + room
    axis.tail = axis.way2 + room
    axis.reached = 0
    axis.tailed = blocks + 1
    axis.width = width
    axis.bits = 0
    while 1 << axis.bits < width:
        axis.bits += 1
    axis.blocks = blocks
    axis.far = (n - far + width - 1) // width
    if axis.far > blocks - 2 and blocks > 1:
        axis.far = blocks - 2   # a far part shorter than two blocks, which a line wants
    if n == 0:
        return
    for i in range(n, n + PADDING):
        axis.zeta[i] = 0.0
        axis.weight[i] = 0.0
    axis.centre = z[n - 1 - far // 2]
    axis.way[0] = 0.0
    axis.way2[0] = 0.0
    for i in range(n):
        axis.zeta[i] = <float>(z[i] - axis.centre)
    for i in range(1, n - 1):
        axis.weight[i] = <float>(0.5 * (z[i - 1] - z[i + 1]))
    if n > 1:
        axis.weight[0] = <float>(0.5 * (z[0] - z[1]))
        axis.weight[n - 1] = <float>(0.5 * (z[n - 2] - z[n - 1]))
    else:
        axis.weight[0] = 0.0
    sums_of_zeta(z, axis.centre, blocks * width, n, &one, &two)
    axis.sum_zeta[blocks] = one
    axis.sum_zeta2[blocks] = two
    zeta = 0.0
    total = 0.0
    for j in range(blocks - 1, -1, -1):
        sums_of_zeta(z, axis.centre, j * width, (j + 1) * width, &one, &two)
        axis.sum_zeta[j] = axis.sum_zeta[j + 1] + one
        axis.sum_zeta2[j] = axis.sum_zeta2[j + 1] + two
        one *= per_sample
        axis.block_zeta[j] = one
        zeta += one
        total += one * one
        axis.rest_zeta[j] = zeta
        axis.rest_zeta2[j] = total
    for j in range(blocks, blocks + 8):
        axis.block_zeta[j] = 0.0
    # variance of the mean of a block about the line through the far blocks, in units of a sample's variance
    if axis.far >= blocks:
        return
    count = blocks - axis.far
    mean = axis.rest_zeta[axis.far] / count
    spread = axis.rest_zeta2[axis.far] - count * mean * mean
    of_mean = (1.0 + 1.0 / count) * per_sample
    if order > 0 and spread > 0.0:
        of_slope = per_sample / spread
    for j in range(blocks):
        at = axis.block_zeta[j] - mean
        axis.tolerance[j] = of_mean + at * at * of_slope
