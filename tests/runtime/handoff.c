/* Stands in for the embedded kernel: prints what the enclave image hands over, one `key value...` a line, and the
 * mappings of the enclave. Addresses are relative to the start of the enclave. */
#include "common/handoff.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>

static const struct myst_handoff *handoff;

static unsigned long long relative(const void *address)
{
    return (unsigned long long)((uintptr_t)address - (uintptr_t)handoff->enclave.data);
}

static void print_span(const char *name, const struct myst_span *span)
{
    printf("%s %llu %llu\n", name, relative(span->data), (unsigned long long)span->size);
}

static void print_mappings(void)
{
    char line[512], access[8];
    unsigned long long start, end;
    const unsigned long long base = (uintptr_t)handoff->enclave.data, size = handoff->enclave.size;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (maps && fgets(line, sizeof line, maps))
        if (sscanf(line, "%llx-%llx %7s", &start, &end, access) == 3 && start < base + size && end > base)
            printf("mapping %llu %llu %.3s\n", start < base ? 0 : start - base, end > base + size ? size : end - base,
                   access);
}

int main(int argc, char **argv, char **envp)
{
    int variables = 0;
    handoff = (const struct myst_handoff *)getauxval(AT_MYST_HANDOFF);
    while (envp[variables])
        variables++;
    printf("arguments %d %s %d\n", argc, argv[0], variables);
    printf("stack %llu\n", relative(__builtin_frame_address(0)));
    printf("auxv %lu %lu %lu\n", getauxval(AT_PAGESZ), getauxval(AT_SECURE), getauxval(AT_PHENT));
    printf("machine %d %d\n", getauxval(AT_SYSINFO_EHDR) != 0, getauxval(AT_HWCAP) != 0);
    printf("random %016llx\n", *(unsigned long long *)getauxval(AT_RANDOM));
    print_span("enclave", &handoff->enclave);
    print_span("kernel", &handoff->regions[MYST_REGION_KERNEL]);
    print_span("crt", &handoff->regions[MYST_REGION_CRT]);
    print_span("rootfs", &handoff->regions[MYST_REGION_ROOTFS]);
    print_span("pubkeys", &handoff->regions[MYST_REGION_PUBKEYS]);
    print_span("roothashes", &handoff->regions[MYST_REGION_ROOTHASHES]);
    print_span("config", &handoff->regions[MYST_REGION_CONFIG]);
    printf("debug %d\n", (int)handoff->debug);
    printf("name %s\n", handoff->host.name);
    for (int i = 0; i < handoff->host.argc; i++)
        printf("argument %s\n", handoff->host.argv[i]);
    printf("terminated %d\n", handoff->host.argv[handoff->host.argc] == NULL);
    for (int i = 0; handoff->host.envp[i]; i++)
        printf("variable %s\n", handoff->host.envp[i]);
    print_mappings();
    return 17;
}
