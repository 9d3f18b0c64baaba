# Where the samples of a branch lie: everything that follows from z alone, made once a tile where curves share their z.

from fvproc._core.sums cimport PADDING
from fvproc._core.types cimport Axis

cdef enum:
    MOST_BLOCKS = 128
    BLOCKS = MOST_BLOCKS + 8    # room for as many, and zeros behind them


cdef inline Py_ssize_t axis_size(Py_ssize_t n) noexcept nogil:
    """Doubles of storage that make_axis wants for n samples."""
    return 3 * (n + 2 * PADDING) + 4 * BLOCKS


cdef inline Py_ssize_t block_width(Py_ssize_t n, Py_ssize_t far) noexcept nogil:
    """A power of two: 32 to 63 blocks in the branch, and at least eight in its far part, as samples allow."""
    cdef Py_ssize_t width = 1
    while 2 * width * 32 <= n and 2 * width * 8 <= far:
        width *= 2
    while n // width > MOST_BLOCKS:
        width *= 2
    return width


cdef inline void make_axis(
    const double* z, Py_ssize_t n, double fraction, int order, double* storage, Axis* axis
) noexcept nogil:
    """Fill the axis of z (nm, surface order); `storage` stays in use."""
    cdef Py_ssize_t i, j, far = <Py_ssize_t>(fraction * n), width = block_width(n, far), blocks = n // width
    cdef Py_ssize_t room = (n + 2 * PADDING - 1) // PADDING * PADDING   # keeps everything where registers want it
    cdef double total, zeta, mean, spread, at, count
    axis.n = n
    axis.z = z
    axis.zeta = <float*>storage
    axis.weight = axis.zeta + room
    axis.block_zeta = storage + room
    axis.rest_zeta = axis.block_zeta + BLOCKS
    axis.rest_zeta2 = axis.rest_zeta + BLOCKS
    axis.tolerance = axis.rest_zeta2 + BLOCKS
    axis.way = axis.tolerance + BLOCKS
    axis.way2 = axis.way + room
    axis.width = width
    axis.blocks = blocks
    axis.far = (n - far + width - 1) // width
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
        axis.way[i + 1] = axis.way[i] + (z[i] - z[0])
        axis.way2[i + 1] = axis.way2[i] + (z[i] - z[0]) * (z[i] - z[0])
    for i in range(1, n - 1):
        axis.weight[i] = <float>(0.5 * (z[i - 1] - z[i + 1]))
    if n > 1:
        axis.weight[0] = <float>(0.5 * (z[0] - z[1]))
        axis.weight[n - 1] = <float>(0.5 * (z[n - 2] - z[n - 1]))
    else:
        axis.weight[0] = 0.0
    for j in range(blocks):
        total = 0.0
        for i in range(j * width, (j + 1) * width):
            total += z[i]
        axis.block_zeta[j] = total / width - axis.centre
    for j in range(blocks, blocks + 8):
        axis.block_zeta[j] = 0.0
    zeta = 0.0
    total = 0.0
    for j in range(blocks - 1, -1, -1):
        zeta += axis.block_zeta[j]
        total += axis.block_zeta[j] * axis.block_zeta[j]
        axis.rest_zeta[j] = zeta
        axis.rest_zeta2[j] = total
    # variance of the mean of a block about the line through the far blocks, in units of a sample's variance
    if axis.far >= blocks:
        return
    count = blocks - axis.far
    mean = axis.rest_zeta[axis.far] / count
    spread = axis.rest_zeta2[axis.far] - count * mean * mean
    for j in range(blocks):
        at = axis.block_zeta[j] - mean
        axis.tolerance[j] = (1.0 + 1.0 / count) / width
        if order > 0 and spread > 0.0:
            axis.tolerance[j] += at * at / (spread * width)
