/* MRENCLAVE: what ECREATE, EADD and EEXTEND make of the enclave (SDM volume 3D; docs/formats.md,
 * section 5). */
#ifndef MYST_MEASURE_H
#define MYST_MEASURE_H

#include "layout.h"
#include "memory.h"

/* Measures the enclave as it lies in memory. */
void myst_measure(
    const struct myst_layout *layout, const struct myst_memory *memory, uint8_t mrenclave[32]);

#endif
