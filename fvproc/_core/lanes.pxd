# Eight curves at once: the vector type of lanes.h, and the few functions on it that are no operator.
#
# `lanes` behaves as a number: + − · / are those of the eight curves. Cython is told that it is a double, and so writes
# the operators as they stand; nothing else than them and the functions below may be applied to it.

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
    void store "fvproc_store"(double* p, lanes x)
    lanes cube_root_guess "fvproc_cube_root_guess"(lanes x)
