#include "program.h"

#include "../common/interpreter.h"
#include "../common/sizes.h"
#include "callers.h"
#include "own_files.h"

#include <elf.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_DYNAMIC 512 /* entries that are looked at */

/* True where DT_FLAGS_1 of the dynamic section calls the file a program. */
static bool is_marked_as_program(int file, const Elf64_Phdr *dynamic)
{
    Elf64_Dyn entries[MAX_DYNAMIC];
    const size_t room = dynamic->p_filesz < sizeof entries ? dynamic->p_filesz : sizeof entries;
    const ssize_t size = pread(file, entries, room, (off_t)dynamic->p_offset);
    for (ssize_t i = 0; i < size / (ssize_t)sizeof *entries && entries[i].d_tag != DT_NULL; i++)
        if (entries[i].d_tag == DT_FLAGS_1)
            return entries[i].d_un.d_val & DF_1_PIE;
    return false;
}

static bool is_shared_library(int file, const Elf64_Ehdr *header)
{
    bool is_program = header->e_type != ET_DYN;
    for (unsigned i = 0; i < header->e_phnum && !is_program; i++)
    {
        Elf64_Phdr segment;
        const off_t at = (off_t)(header->e_phoff + (uint64_t)i * sizeof segment);
        if (pread(file, &segment, sizeof segment, at) != sizeof segment)
            break;
        is_program =
            segment.p_type == PT_INTERP || (segment.p_type == PT_DYNAMIC && is_marked_as_program(file, &segment));
    }
    return !is_program;
}

static bool has_program(int file)
{
    Elf64_Ehdr header;
    const ssize_t size = pread(file, &header, sizeof header, 0);
    if (size >= 2 && memcmp(&header, "#!", 2) == 0)
        return true;
    return size == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 && !is_shared_library(file, &header);
}

bool myst_is_program_file(int file)
{
    struct stat status;
    char path[MYST_OWN_PATH];
    myst_own_path(file, path);
    if (fstat(file, &status) != 0 || S_ISDIR(status.st_mode))
        return false;
    const int content = S_ISREG(status.st_mode) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    const bool result = content < 0 || has_program(content);
    if (content >= 0)
        close(content);
    return result;
}

static bool look_for_musl(const struct myst_call *call)
{
    char name[32], interpreter[PATH_MAX];
    snprintf(name, sizeof name, "%d/exe", (int)myst_call_thread(call));
    const int file = openat(call->application->proc, name, O_RDONLY | O_CLOEXEC);
    const bool result = file >= 0 && myst_elf_interpreter(file, interpreter) && strstr(interpreter, "/ld-musl-");
    if (file >= 0)
        close(file);
    return result;
}

bool myst_uses_musl(const struct myst_call *call)
{
    int *note = myst_note_of_program(call->application, myst_call_thread(call));
    if (*note == 0)
        *note = look_for_musl(call) ? 1 : -1;
    return *note == 1;
}
