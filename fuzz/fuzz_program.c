/* What is looked at of a file that shall be executed: its kind and its interpreter. The input is the file. */
#include "common/interpreter.h"
#include "crt/program.h"
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int file = -1;
    char interpreter[PATH_MAX];
    if (file < 0)
        file = memfd_create("program", MFD_CLOEXEC);
    if (ftruncate(file, 0) != 0 || pwrite(file, data, size, 0) != (ssize_t)size)
        return 0;
    const bool is_program = myst_is_program_file(file);
    const bool is_script = size >= 2 && memcmp(data, "#!", 2) == 0,
               is_elf = size >= 64 && memcmp(data, "\177ELF", 4) == 0;
    PROMISE(!is_script || is_program);
    PROMISE(is_script || is_elf || !is_program);
    if (myst_elf_interpreter(file, interpreter))
        PROMISE(is_elf && memchr(interpreter, 0, sizeof interpreter));
    return 0;
}
