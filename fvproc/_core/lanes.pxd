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
