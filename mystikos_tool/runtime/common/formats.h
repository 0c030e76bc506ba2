/* The records of an enclave, byte for byte (docs/formats.md, sections 4 to 6; SDM volume 3D for
 * SIGSTRUCT, TCS, SECINFO and ATTRIBUTES). All integers are little-endian. */
#ifndef MYST_FORMATS_H
#define MYST_FORMATS_H

#include "sizes.h"

#include <stddef.h>
#include <stdint.h>

/* SECINFO.FLAGS */
#define SGX_SECINFO_R 0x1
#define SGX_SECINFO_W 0x2
#define SGX_SECINFO_X 0x4
#define SGX_SECINFO_TCS 0x100
#define SGX_SECINFO_REG 0x200

/* ATTRIBUTES.FLAGS and ATTRIBUTES.XFRM */
#define SGX_ATTRIBUTE_DEBUG 0x2
#define SGX_ATTRIBUTE_MODE64BIT 0x4
#define SGX_XFRM_LEGACY 0x3 /* x87 and SSE: ECREATE requires both */

#define SGX_SSA_FRAME_SIZE 1 /* pages */
#define RSA3072_SIZE 384     /* bytes */

struct sgx_attributes
{
    uint64_t flags;
    uint64_t xfrm;
};

struct sgx_sigstruct
{
    uint8_t header[12];
    uint32_t type;
    uint32_t vendor;
    uint32_t date; /* BCD, 0xYYYYMMDD */
    uint8_t header2[16];
    uint32_t swdefined;
    uint8_t reserved1[84];
    uint8_t modulus[RSA3072_SIZE];
    uint32_t exponent;
    uint8_t signature[RSA3072_SIZE];
    uint32_t miscselect;
    uint32_t miscmask;
    uint8_t reserved2[4];
    uint8_t family_id[16];
    struct sgx_attributes attributes;
    struct sgx_attributes attributes_mask;
    uint8_t mrenclave[32];
    uint8_t reserved3[16];
    uint8_t extended_product_id[16];
    uint16_t product_id;
    uint16_t security_version;
    uint8_t reserved4[12];
    uint8_t q1[RSA3072_SIZE];
    uint8_t q2[RSA3072_SIZE];
};

/* The signature covers what lies before the modulus and from MISCSELECT to ISVSVN. */
#define SGX_SIGNED_HEAD_SIZE offsetof(struct sgx_sigstruct, modulus)
#define SGX_SIGNED_BODY_OFFSET offsetof(struct sgx_sigstruct, miscselect)
#define SGX_SIGNED_BODY_SIZE (offsetof(struct sgx_sigstruct, reserved4) - SGX_SIGNED_BODY_OFFSET)

_Static_assert(sizeof(struct sgx_sigstruct) == 1808, "SIGSTRUCT");
_Static_assert(SGX_SIGNED_HEAD_SIZE == 128, "MODULUS");
_Static_assert(SGX_SIGNED_BODY_OFFSET == 900 && SGX_SIGNED_BODY_SIZE == 128, "MISCSELECT");
_Static_assert(offsetof(struct sgx_sigstruct, signature) == 516, "SIGNATURE");
_Static_assert(offsetof(struct sgx_sigstruct, attributes) == 928, "ATTRIBUTES");
_Static_assert(offsetof(struct sgx_sigstruct, mrenclave) == 960, "ENCLAVEHASH");
_Static_assert(offsetof(struct sgx_sigstruct, product_id) == 1024, "ISVPRODID");
_Static_assert(offsetof(struct sgx_sigstruct, q1) == 1040, "Q1");

#define OEINFO_SIZE 1960
#define OEINFO_TYPE_SGX 2
#define OEINFO_FLAG_CAPTURE_PF_GP 0x1
#define OEINFO_FLAG_ZERO_BASE 0x2
#define OEINFO_END_MARKER 0xececececececececull

struct myst_oeinfo
{
    uint32_t size;
    uint32_t enclave_type;
    uint64_t heap_pages;
    uint64_t stack_pages;
    uint64_t tcs_count;
    uint16_t product_id;
    uint16_t security_version;
    uint32_t flags;
    uint8_t family_id[16];
    uint8_t extended_product_id[16];
    struct sgx_attributes attributes;
    uint64_t start_address;

    /* Of the image in memory; filled in by whoever lays the enclave out. */
    uint64_t oeinfo_rva;
    uint64_t oeinfo_size;
    uint64_t reloc_rva;
    uint64_t reloc_size;
    uint64_t heap_rva;
    uint64_t enclave_size;

    struct sgx_sigstruct sigstruct;
    uint64_t end_marker;
};

_Static_assert(sizeof(struct myst_oeinfo) == OEINFO_SIZE, ".oeinfo");
_Static_assert(offsetof(struct myst_oeinfo, product_id) == 32, "product id");
_Static_assert(offsetof(struct myst_oeinfo, attributes) == 72, "attributes");
_Static_assert(offsetof(struct myst_oeinfo, oeinfo_rva) == 96, "image fields");
_Static_assert(offsetof(struct myst_oeinfo, sigstruct) == 144, "SIGSTRUCT");
_Static_assert(offsetof(struct myst_oeinfo, end_marker) == 1952, "end marker");

#define MYST_TRAILER_MAGIC 0x1c8093ca739f4e61ull

/* Begins the page behind a region. */
struct myst_trailer
{
    uint64_t magic;
    char name[256];
    uint64_t size;      /* bytes of the region's pages */
    uint64_t file_size; /* bytes of what was put in */
    uint64_t index;
};

_Static_assert(sizeof(struct myst_trailer) == 288, "trailer");
_Static_assert(offsetof(struct myst_trailer, size) == 264, "trailer");

/* Mystikos' regions in their order: index in the trailer and name. */
enum myst_region
{
    MYST_REGION_KERNEL,
    MYST_REGION_KERNEL_RELOC,
    MYST_REGION_KERNEL_SYMTAB,
    MYST_REGION_KERNEL_DYNSYM,
    MYST_REGION_KERNEL_STRTAB,
    MYST_REGION_KERNEL_DYNSTR,
    MYST_REGION_CRT,
    MYST_REGION_CRT_RELOC,
    MYST_REGION_ROOTFS,
    MYST_REGION_FDMAPPINGS,
    MYST_REGION_PUBKEYS,
    MYST_REGION_ROOTHASHES,
    MYST_REGION_MMAN,
    MYST_REGION_CONFIG,
    MYST_REGION_ENTER_STACK,
    MYST_REGION_MMAN_PIDS,
    MYST_REGIONS
};

/* The name of each region, as a list for an array's initializer. */
#define MYST_REGION_NAMES                                                                     \
    {"kernel",        "kernel.reloc", "kernel.symtab", "kernel.dynsym", "kernel.strtab",      \
     "kernel.dynstr", "crt",          "crt.reloc",     "rootfs",        "fdmappings",         \
     "pubkeys",       "roothashes",   "mman",          "config",        "kernel.enter.stack", \
     "mman.pids"}

struct sgx_tcs
{
    uint64_t reserved1;
    uint64_t flags;
    uint64_t ossa;
    uint32_t cssa;
    uint32_t nssa;
    uint64_t oentry;
    uint64_t reserved2;
    uint64_t ofsbase;
    uint64_t ogsbase;
    uint32_t fslimit;
    uint32_t gslimit;
};

_Static_assert(sizeof(struct sgx_tcs) == 72, "TCS");
_Static_assert(offsetof(struct sgx_tcs, oentry) == 32, "TCS.OENTRY");

#endif
