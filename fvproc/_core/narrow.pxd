# The vector types of narrow.h, and the functions on them.
#
# `narrow` are neighbouring int16 samples of one curve, `pairs` the sums of two neighbours each; + adds pairs, | joins
# the bits of narrow.

cdef extern from "narrow.h" nogil:
    ctypedef short narrow "fvproc_narrow"
    ctypedef int pairs "fvproc_wide_mask"
    enum: NARROW "FVPROC_NARROW"
    narrow narrow_splat "fvproc_narrow_splat"(short x)
    narrow narrow_load "fvproc_narrow_load"(const short* p)
    void narrow_store "fvproc_narrow_store"(short* p, narrow x)
    narrow narrow_reversed "fvproc_narrow_reversed"(narrow x)
    narrow narrow_plus "fvproc_narrow_plus"(narrow x, narrow y)
    narrow narrow_minus "fvproc_narrow_minus"(narrow x, narrow y)
    narrow narrow_above "fvproc_narrow_above"(narrow x, narrow y)
    narrow narrow_smaller "fvproc_narrow_smaller"(narrow x, narrow y)
    narrow narrow_larger "fvproc_narrow_larger"(narrow x, narrow y)
    int first_narrow_at_least "fvproc_first_narrow"(narrow x, narrow y)
    int narrow_least "fvproc_narrow_least"(narrow x)
    int narrow_greatest "fvproc_narrow_greatest"(narrow x)
    pairs no_pairs "fvproc_no_pairs"()
    pairs pairs_of "fvproc_pairs"(narrow x)
    int sum_of_pairs "fvproc_sum_of_pairs"(pairs x)
    void add_shorts "fvproc_add_shorts"(const short* x, Py_ssize_t n, int* out)
    void add_ints "fvproc_add_ints"(const int* x, Py_ssize_t n, int* out)
