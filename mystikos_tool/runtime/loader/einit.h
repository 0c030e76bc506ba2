/* Whether an enclave may start: the checks of EINIT (SDM volume 3D) on a SIGSTRUCT. */
#ifndef MYST_EINIT_H
#define MYST_EINIT_H

#include "../common/error.h"
#include "../common/formats.h"

#include <stdint.h>

/* What is known of the enclave when it is laid out and measured; of SECS, what is checked. */
struct myst_secs
{
    struct sgx_attributes attributes;
    uint32_t miscselect;
    uint8_t mrenclave[32];
};

/* The enclave's SECS for its record, but for MRENCLAVE. */
struct myst_secs myst_secs_of(const struct myst_oeinfo *record);

/* The part of myst_einit that needs no measurement: SIGSTRUCT's form and its signature. */
int myst_check_signature(const struct sgx_sigstruct *sigstruct, struct myst_error *error);

/* Holds SIGSTRUCT, SECS and record against each other. */
int myst_einit(const struct sgx_sigstruct *sigstruct, const struct myst_secs *secs, const struct myst_oeinfo *record,
               struct myst_error *error);

/* MRSIGNER: SHA-256 of MODULUS. */
void myst_mrsigner(const struct sgx_sigstruct *sigstruct, uint8_t mrsigner[32]);

#endif
