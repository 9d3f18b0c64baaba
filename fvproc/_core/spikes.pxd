# Single samples far off their neighbours (spikes): found and bridged in raw numbers, before the baseline.

from libc.math cimport ceil, fabs

from fvproc._core.lanes cimport (
    WIDE, first_at_least_of, gathered, greatest_of, wide, wide_larger, wide_load, wide_magnitude, wide_splat,
)
from fvproc._core.narrow cimport (
    NARROW, first_narrow_at_least, narrow, narrow_greatest, narrow_above, narrow_larger, narrow_least, narrow_load,
    narrow_minus, narrow_plus, narrow_smaller, narrow_splat, no_pairs, pairs, pairs_of, sum_of_pairs,
)
from fvproc._core.rows cimport as_floats
from fvproc._core.sums cimport EACH, PARTS, extremes
from fvproc._core.types cimport Samples

cdef extern from *:
    """
    /* the smaller of a sample and one of these, from the 32nd less k on: the last k of a register, elsewhere zero */
    static const short FVPROC_LAST[64] = {
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767,
        32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767, 32767};
    """
    const short* LAST "FVPROC_LAST"

cdef enum:
    WIDEST = 3          # samples of a spike
    BEFORE = 8          # samples before a pull-off among which there is repulsion
    LONGEST = 65536     # samples whose second differences add up to less than 2^31
    SHARE = 64          # at most one sample in this many is bridged
    NO_SPIKES = 0
    SPIKES_BRIDGED = 1
    SPIKES_TOO_MANY = 2


cdef inline float bend(const float* f, Py_ssize_t i) noexcept nogil:
    """How far sample i lies off those two places away, twice, less twice what those differ by.

    Zero or less on a straight line, at its kinks and at its jumps.
    """
    cdef float second = (f[i] - f[i - 2]) + (f[i] - f[i + 2]), both = f[i + 2] - f[i - 2]
    second = second if second > 0.0 else -second
    both = both if both > 0.0 else -both
    return second - (both + both)


# What a pass over the int16 of a branch tells.
cdef struct Shorts:
    int lowest
    int highest
    int total           # Σ |second difference| over two samples
    int sharpest        # greatest bend

cdef inline narrow second_difference(const short* x, narrow* bends) noexcept nogil:
    """|x_(i−2) − 2·x_i + x_(i+2)| from x_i on, as numbers from 0 to 65535, and the bends there, 0 where they are less.

    Exact where no two samples lie farther apart than 32767. Written for what a processor does most of at a time:
    sums that wrap round, not those that stop at the limits.
    """
    cdef narrow here = narrow_load(x), low = narrow_load(x - 2), high = narrow_load(x + 2)
    cdef narrow left = narrow_minus(here, low), right = narrow_minus(high, here), both = narrow_minus(high, low)
    cdef narrow second = narrow_minus(narrow_larger(left, right), narrow_smaller(left, right))
    both = narrow_larger(both, narrow_minus(narrow_splat(0), both))
    bends[0] = narrow_above(second, narrow_plus(both, both))
    return second


cdef inline bint look_at_shorts(const short* x, Py_ssize_t n, Shorts* told) noexcept nogil:
    """Set what samples 2 to n − 2 tell; 64 <= n <= LONGEST. False where some differences lie beyond the limits of int16.

    Sums of integers are exact: their order is of no matter.
    """
    cdef narrow least = narrow_load(x), most = least, here, second, bends, sharpest = narrow_splat(0), bits = sharpest
    cdef pairs total = no_pairs()
    cdef Py_ssize_t i = 2
    while i + NARROW <= n - 2:
        here = narrow_load(x + i)
        least = narrow_smaller(least, here)
        most = narrow_larger(most, here)
        second = second_difference(x + i, &bends)
        bits = bits | second
        sharpest = narrow_larger(sharpest, bends)
        total = total + pairs_of(second)
        i += NARROW
    if i < n - 2:
        second = second_difference(x + n - 2 - NARROW, &bends)
        bits = bits | second
        sharpest = narrow_larger(sharpest, bends)
        # without those looked at before
        total = total + pairs_of(narrow_smaller(second, narrow_load(LAST + 32 - NARROW + (n - 2 - i))))
    # those at the ends, too, whichever the width: differences reach to the second and the last but one
    here = narrow_load(x + n - NARROW)
    least = narrow_smaller(least, here)
    most = narrow_larger(most, here)
    least = narrow_smaller(least, narrow_smaller(narrow_load(x + 1), narrow_load(x + n - 1 - NARROW)))
    most = narrow_larger(most, narrow_larger(narrow_load(x + 1), narrow_load(x + n - 1 - NARROW)))
    told.lowest = narrow_least(least)
    told.highest = narrow_greatest(most)
    told.sharpest = narrow_greatest(sharpest)
    told.total = sum_of_pairs(total)
    # differences of what lies no farther apart are exact; an int16 from 32768 on is negative
    return told.highest - told.lowest <= 32767 and narrow_least(bits) >= 0


cdef inline double limit_of(double total, double ends, Py_ssize_t n, double step) noexcept nogil:
    """Eight times the mean |second difference| over two samples, and more.

    `step` is a raw number's own step (1 for integers, 0 for real numbers): a flicker of the converter on a branch
    that is otherwise still is no spike, nor is what is less than a thousandth of the branch's range.
    """
    return 8.0 * total / (n - 4) + 4.0 * step + fabs(ends) / 1024.0


cdef inline Py_ssize_t next_bend_of_shorts(
    const short* x, Py_ssize_t i, Py_ssize_t stop, short limit
) noexcept nogil:
    """The first sample from i on whose bend is at least the limit (> 0); stop where there is none."""
    cdef narrow bends, enough = narrow_splat(limit)
    cdef Py_ssize_t at
    cdef int k
    while i < stop:
        at = i
        if i + NARROW > stop:
            at = stop - NARROW
        second_difference(x + at, &bends)
        if at < i:
            # the last ones, without those looked at before
            bends = narrow_smaller(bends, narrow_load(LAST + 32 - NARROW + (stop - i)))
        k = first_narrow_at_least(bends, enough)
        i = at + k
        if k < NARROW:
            return i
    return stop


cdef inline Py_ssize_t next_bend(const float* f, Py_ssize_t i, Py_ssize_t stop, float limit) noexcept nogil:
    """The same, where there are no int16."""
    cdef wide x, both, level = wide_splat(limit)
    while i + WIDE <= stop:
        x = wide_load(f + i)
        both = wide_magnitude(wide_load(f + i + 2) - wide_load(f + i - 2))
        if first_at_least_of(
            wide_magnitude((x - wide_load(f + i - 2)) + (x - wide_load(f + i + 2))) - (both + both), level
        ) < WIDE:
            break
        i += WIDE
    while i < stop and not bend(f, i) >= limit:
        i += 1
    return i


cdef inline double spike_limit(const float* f, Py_ssize_t n, double step, float* greatest) noexcept nogil:
    """The limit, and the greatest bend; n >= 32."""
    cdef wide[16] s
    cdef wide x, low, high, top = wide_splat(0.0)
    cdef Py_ssize_t i = 2, whole = 2 + (n - 4) // PARTS * PARTS
    cdef float second
    cdef double total
    cdef int k
    for k in range(EACH):
        s[k] = wide_splat(0.0)
    while i < whole:
        for k in range(EACH):
            x = wide_load(f + i + k * WIDE)
            low = wide_load(f + i + k * WIDE - 2)
            high = wide_load(f + i + k * WIDE + 2)
            x = wide_magnitude((x - low) + (x - high))
            high = wide_magnitude(high - low)
            s[k] = s[k] + x
            top = wide_larger(x - (high + high), top)
        i += PARTS
    greatest[0] = greatest_of(top)
    total = gathered(s)
    for i in range(whole, n - 2):
        second = (f[i] - f[i - 2]) + (f[i] - f[i + 2])
        total += second if second > 0.0 else -second
        second = bend(f, i)
        greatest[0] = second if second > greatest[0] else greatest[0]
    return limit_of(total, <double>f[0] - f[n - 1], n, step)


cdef inline float at(const Samples* samples, Py_ssize_t i) noexcept nogil:
    return <float>samples.x[i] if samples.x != NULL else samples.f[i]


cdef inline void extremes_of(
    const Samples* samples, Py_ssize_t start, Py_ssize_t n, float* lowest, float* highest
) noexcept nogil:
    cdef narrow least, most, here
    cdef Py_ssize_t i = start
    if samples.x == NULL:
        extremes(samples.f + start, n, lowest, highest)
        return
    lowest[0] = <float>samples.x[start]
    highest[0] = lowest[0]
    if n >= NARROW:
        least = narrow_load(samples.x + start)
        most = least
        while i < start + n:
            # the last ones with some of those before
            here = narrow_load(samples.x + (i if i + NARROW <= start + n else start + n - NARROW))
            least = narrow_smaller(least, here)
            most = narrow_larger(most, here)
            i += NARROW
        lowest[0] = <float>narrow_least(least)
        highest[0] = <float>narrow_greatest(most)
        return
    while i < start + n:
        lowest[0] = <float>samples.x[i] if samples.x[i] < lowest[0] else lowest[0]
        highest[0] = <float>samples.x[i] if samples.x[i] > highest[0] else highest[0]
        i += 1


cdef inline bint is_pull_off(
    const Samples* samples, Py_ssize_t first, Py_ssize_t last, Py_ssize_t n, double toward, double limit
) noexcept nogil:
    """Whether samples [first, last] toward the attractive side are the end of contact: force before, rest behind.

    And nothing behind in the next quarter of the branch that pulls farther than they do: contact would go on there.

    A stiff contact passes from repulsion through its pull-off (or snap-in) to the baseline in a few samples. toward:
    the sign of a raw number's change under attraction.
    """
    cdef double highest = -1e300, rest = 0.0, value, farther
    cdef float least, most
    cdef Py_ssize_t i, begin = first - BEFORE if first > BEFORE else 0, stop = last + 4 if last + 4 < n else n
    for i in range(last + 1, stop):
        rest += at(samples, i)
    rest /= stop - last - 1
    for i in range(last + 1, stop):
        if fabs(at(samples, i) - rest) > limit:
            return False
    farther = (at(samples, first) - rest) * toward
    farther = farther if farther > limit else limit
    stop = last + n // 4 if last + n // 4 < n else n
    extremes_of(samples, last + 1, stop - last - 1, &least, &most)
    if (most - rest if toward > 0.0 else rest - least) > farther:
        return False
    for i in range(begin, first):
        value = (rest - at(samples, i)) * toward
        highest = value if value > highest else highest
    return highest > limit


cdef inline bint is_spike(
    const Samples* samples, Py_ssize_t first, Py_ssize_t last, double limit, double* sign
) noexcept nogil:
    """Whether samples [first, last] lie off the line between their neighbours, all to one side.

    Farther than the neighbours lie apart, and than the samples beyond these lie off the line: the tip of a V is none.
    """
    cdef double before = at(samples, first - 1), apart = fabs(at(samples, last + 1) - before), slope, off, way, beyond
    cdef double enough = limit if limit > 2.0 * apart else 2.0 * apart, least
    cdef Py_ssize_t i
    # most are none because the first of them lies too near, which is seen without a division
    if fabs(at(samples, first) - before) + apart <= enough:
        return False
    slope = (at(samples, last + 1) - before) / (last + 2 - first)
    off = at(samples, first) - (before + slope)
    way = 1.0 if off > 0.0 else -1.0
    least = off * way
    for i in range(first + 1, last + 1):
        off = (at(samples, i) - (before + slope * (i + 1 - first))) * way
        least = off if off < least else least
    if not least > enough:
        return False
    sign[0] = way
    off = fabs(at(samples, first - 1) - at(samples, first - 2) - slope)
    beyond = fabs(at(samples, last + 2) - at(samples, last + 1) - slope)
    return least > 2.0 * off and least > 2.0 * beyond


cdef inline int bridge_spikes(
    Samples* samples, Py_ssize_t n, double unit, double step, Shorts* told
) noexcept nogil:
    """Put the line between its neighbours in the place of every spike of up to three samples.

    unit: nm per raw number, of which the sign matters. The two samples at either end are not looked at. Where more than
    one sample in 64 would go, all stay as they are. told.lowest and highest are set where there are int16.
    """
    cdef float* f = samples.f
    cdef float greatest
    cdef int whole = 0
    cdef double limit, off, sign, slope, toward = -1.0 if unit > 0.0 else 1.0
    cdef Py_ssize_t i = 2, j, width, first, last, count = 0, found = 0
    cdef Py_ssize_t[32] firsts
    cdef Py_ssize_t[32] lasts
    told.lowest = -32768
    told.highest = 32767
    if n < 32:
        return NO_SPIKES
    if samples.x != NULL and 64 <= n <= LONGEST and look_at_shorts(samples.x, n, told):
        limit = limit_of(<double>told.total, <double>samples.x[0] - samples.x[n - 1], n, step)
        whole = <int>ceil(limit) if limit < 32767.0 else 32768
        if told.sharpest < whole:
            return NO_SPIKES
    else:
        as_floats(samples, n)
        limit = spike_limit(f, n, step, &greatest)
        if not greatest >= <float>limit:
            return NO_SPIKES
    off = limit / 3.0
    while True:
        if samples.x != NULL:
            i = next_bend_of_shorts(samples.x, i, n - 2, <short>whole)
        else:
            i = next_bend(f, i, n - 2, <float>limit)
        if i >= n - 2:
            break
        last = i
        for j in range(WIDEST * WIDEST):
            width = 1 + j // WIDEST
            first = i - j % WIDEST
            if j % WIDEST >= width or first < 2 or first + width > n - 2:
                continue
            if not is_spike(samples, first, first + width - 1, off, &sign):
                continue
            last = first + width - 1
            if sign == toward and is_pull_off(samples, first, last, n, toward, off):
                break
            count += width
            if count * SHARE > n or found == 32:
                return SPIKES_TOO_MANY
            firsts[found] = first
            lasts[found] = last
            found += 1
            break
        i = last + 1
    if not found:
        return NO_SPIKES
    as_floats(samples, n)
    for j in range(found):
        first = firsts[j]
        last = lasts[j]
        slope = (f[last + 1] - f[first - 1]) / <double>(last + 2 - first)
        for i in range(first, last + 1):
            f[i] = <float>(f[first - 1] + slope * (i + 1 - first))
    return SPIKES_BRIDGED
