#include "interpreter.h"

#include <elf.h>
#include <string.h>
#include <unistd.h>

bool myst_elf_interpreter(int file, char interpreter[PATH_MAX])
{
    Elf64_Ehdr header;
    Elf64_Phdr segment;
    if (pread(file, &header, sizeof header, 0) != sizeof header || memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
        return false;
    for (unsigned i = 0; i < header.e_phnum; i++)
    {
        const off_t at = (off_t)(header.e_phoff + (uint64_t)i * sizeof segment);
        if (pread(file, &segment, sizeof segment, at) != sizeof segment)
            return false;
        if (segment.p_type != PT_INTERP)
            continue;
        const size_t size = segment.p_filesz < PATH_MAX ? segment.p_filesz : PATH_MAX - 1;
        const ssize_t got = pread(file, interpreter, size, (off_t)segment.p_offset);
        interpreter[got > 0 ? got : 0] = 0;
        return got > 0;
    }
    return false;
}
