#include "identity.h"

#include <stdio.h>

void myst_hex(const uint8_t bytes[32], char hex[65])
{
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < 32; i++)
    {
        hex[2 * i] = digits[bytes[i] >> 4];
        hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    hex[64] = '\0';
}

static void print_size(const char *key, uint64_t size)
{
    printf("%s: %llu\n", key, (unsigned long long)size);
}

static int flush(void)
{
    return fflush(stdout) == 0 && !ferror(stdout) ? 0 : -1;
}

int myst_print_identity(const struct myst_layout *layout, const uint8_t mrsigner[32])
{
    const struct sgx_sigstruct *s = &layout->record.sigstruct;
    char mrenclave_hex[65], mrsigner_hex[65];
    myst_hex(s->mrenclave, mrenclave_hex);
    myst_hex(mrsigner, mrsigner_hex);
    printf("mrenclave: %s\n", mrenclave_hex);
    printf("mrsigner: %s\n", mrsigner_hex);
    printf("product id: %u\n", s->product_id);
    printf("security version: %u\n", s->security_version);
    printf("debug: %s\n", s->attributes.flags & SGX_ATTRIBUTE_DEBUG ? "yes" : "no");
    printf("signed: %04x-%02x-%02x\n", s->date >> 16, s->date >> 8 & 0xff, s->date & 0xff);
    print_size("memory size", layout->memory_size);
    print_size("loaded size", layout->loaded_size);
    print_size("enclave size", layout->ecreate_size);
    print_size("package size", layout->package->size);
    for (int i = 0; i < MYST_SECTIONS; i++)
        print_size(myst_section_names[i], layout->package->sections[i].size);
    return flush();
}

int myst_print_verified(const char *name, const struct myst_layout *layout, const uint8_t mrsigner[32])
{
    char mrenclave_hex[65], mrsigner_hex[65];
    myst_hex(layout->record.sigstruct.mrenclave, mrenclave_hex);
    myst_hex(mrsigner, mrsigner_hex);
    printf("%s: verified: MRENCLAVE %s, MRSIGNER %s\n", name, mrenclave_hex, mrsigner_hex);
    return flush();
}
