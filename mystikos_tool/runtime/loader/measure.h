/* MRENCLAVE: what ECREATE, EADD and EEXTEND make of the enclave (SDM volume 3D; docs/formats.md,
 * section 5). */
#ifndef MYST_MEASURE_H
#define MYST_MEASURE_H

#include "layout.h"
#include "memory.h"

/* Reads what the package's sections hold into memory that myst_memory_place made, and measures the
 * enclave as it then lies there. */
int myst_measure(const struct myst_layout *layout, const struct myst_memory *memory, uint8_t mrenclave[32],
                 struct myst_error *error);

#endif
