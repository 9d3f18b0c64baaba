/* For MSVC, which is told to include it first: a product and a sum are never contracted to one fused multiply-add. */
#ifdef _MSC_VER
#pragma fp_contract(off)
#endif
