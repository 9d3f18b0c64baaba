# The vector types of lanes.h, and the few functions on them that are no operator.
#
# `lanes` (the same number of eight curves) and `wide` (sixteen neighbouring samples of one) behave as numbers: + − · /
# are those of their elements. Cython is told that they are numbers, and so writes the operators as they stand;
# nothing else than them and the functions below may be applied to them.

cdef extern from "lanes.h" nogil:
    ctypedef double lanes "fvproc_lanes"
    ctypedef long long mask "fvproc_mask"
    enum: LANES "FVPROC_LANES"
    lanes splat "fvproc_splat"(double x)
    mask none "fvproc_none"()
    double get "fvproc_get"(lanes x, int lane)
    lanes lanes_sqrt "fvproc_sqrt"(lanes x)
    bint any_of "fvproc_any"(mask m)
    mask less "fvproc_less"(lanes x, lanes y)
    mask at_most "fvproc_at_most"(lanes x, lanes y)
    lanes choose "fvproc_choose"(mask m, lanes x, lanes y)
    lanes larger "fvproc_larger"(lanes x, lanes y)
    lanes smaller "fvproc_smaller"(lanes x, lanes y)
    lanes load "fvproc_load"(const double* p)
    lanes of_floats "fvproc_of_floats"(const float* p)
    void store "fvproc_store"(double* p, lanes x)
    double sum_of_eight "fvproc_sum_of_eight"(const lanes* parts)
    lanes square_root_guess "fvproc_square_root_guess"(lanes x)
    lanes cube_root_guess "fvproc_cube_root_guess"(lanes x)

    ctypedef float wide "fvproc_wide"
    enum: WIDE "FVPROC_WIDE"
    wide wide_splat "fvproc_wide_splat"(float x)
    wide wide_load "fvproc_wide_load"(const float* p)
    void wide_store "fvproc_wide_store"(float* p, wide x)
    wide wide_smaller "fvproc_wide_smaller"(wide x, wide y)
    wide wide_magnitude "fvproc_wide_magnitude"(wide x)
    wide wide_larger "fvproc_wide_larger"(wide x, wide y)
    int first_at_most_of "fvproc_first_at_most"(wide x, wide y)
    int first_at_least_of "fvproc_first_at_least"(wide x, wide y)
    wide of_shorts "fvproc_of_shorts"(const short* p)
    void prefetch "FVPROC_PREFETCH"(const void* p)
    float least_of "fvproc_least"(wide x)
    float greatest_of "fvproc_greatest"(wide x)
    double gathered "fvproc_gathered"(const wide* parts)

    ctypedef short narrow "fvproc_narrow"
    ctypedef int pairs "fvproc_wide_mask"
    enum: NARROW "FVPROC_NARROW"
    narrow narrow_splat "fvproc_narrow_splat"(short x)
    narrow narrow_load "fvproc_narrow_load"(const short* p)
    void narrow_store "fvproc_narrow_store"(short* p, narrow x)
    narrow narrow_reversed "fvproc_narrow_reversed"(narrow x)
    narrow narrow_minus "fvproc_narrow_minus"(narrow x, narrow y)
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
