"""Which of the kernel's instruction sets this CPU and its operating system can run."""

cdef extern from *:
    """
    #if defined(_MSC_VER) && defined(_M_X64) && !defined(_M_ARM64EC)
    #include <immintrin.h>
    #include <intrin.h>
    /* Bits of XCR0: the operating system saves the registers of SSE and AVX (6), and of AVX-512 (0xE0 as well).
       Bits of CPUID: Intel, Software Developer's Manual, volume 2A, CPUID, leaves 1 and 7. */
    static int fvproc_registers_saved(unsigned long long registers) {
        int leaf[4];
        __cpuid(leaf, 1);
        if (!(leaf[2] >> 27 & 1)) return 0;
        return (_xgetbv(0) & registers) == registers;
    }
    static unsigned int fvproc_leaf7(void) {
        int leaf[4];
        __cpuid(leaf, 0);
        if (leaf[0] < 7) return 0;
        __cpuidex(leaf, 7, 0);
        return (unsigned int)leaf[1];
    }
    static int fvproc_has_avx2(void) {
        return fvproc_registers_saved(0x06) && (fvproc_leaf7() >> 5 & 1);
    }
    static int fvproc_has_avx512(void) {
        const unsigned int needed = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  /* F, DQ, BW, VL */
        return fvproc_registers_saved(0xE6) && (fvproc_leaf7() & needed) == needed;
    }
    #elif defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
    /* these look at what the operating system saves, too */
    static int fvproc_has_avx2(void) {
        __builtin_cpu_init();
        return !!__builtin_cpu_supports("avx2");
    }
    static int fvproc_has_avx512(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int fvproc_has_avx2(void) { return 0; }
    static int fvproc_has_avx512(void) { return 0; }
    #endif
    """
    bint fvproc_has_avx2() nogil
    bint fvproc_has_avx512() nogil


def supported():
    """Return the names of the instruction sets that can run here, the best first; "baseline" is the last."""
    names = ["baseline"]
    if fvproc_has_avx2():
        names.insert(0, "avx2")
        # every CPU with AVX-512 has AVX2; a virtual machine that hides AVX2 is not trusted with more
        if fvproc_has_avx512():
            names.insert(0, "avx512")
    return tuple(names)
