/* What the fuzz targets share. Each is a function for libFuzzer; with replay.c it is a program that takes
 * files, for compilers that have no fuzzer. */
#ifndef MYST_FUZZ_H
#define MYST_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* Unlike assert it can not be compiled away: a broken promise is a finding. */
#define PROMISE(holds)                                                                  \
    do                                                                                  \
    {                                                                                   \
        if (!(holds))                                                                   \
        {                                                                               \
            fprintf(stderr, "%s:%d: broken promise: %s\n", __FILE__, __LINE__, #holds); \
            abort();                                                                    \
        }                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The fuzzer's own changes, for a target that says where they go. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

#endif
