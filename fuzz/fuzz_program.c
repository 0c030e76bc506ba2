/* What is looked at of a file that shall be executed: its kind, its interpreter, and the words of a script. The input
 * is the file. */
#include "common/interpreter.h"
#include "crt/program.h"
#include "crt/redirect.h"
#include "crt/scripts.h"
#include "fuzz.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Nothing is executed here. */
int64_t myst_call_open(const struct myst_call *call, int directory, const char *path, unsigned flags)
{
    PROMISE(!call && !directory && !path && !flags);
    return 0;
}

int64_t myst_call_read(const struct myst_call *call, uint64_t address, void *to, size_t size)
{
    PROMISE(!call && !address && !to && !size);
    return 0;
}

pid_t myst_call_process(const struct myst_call *call)
{
    PROMISE(!call);
    return 0;
}

int *myst_note_of_program(const struct myst_application *application, pid_t thread)
{
    static int note;
    PROMISE(!application && !thread);
    return &note;
}

int64_t myst_redirect_to_exit(const struct myst_call *call, int status)
{
    PROMISE(!call && !status);
    return 0;
}

int64_t myst_redirect_to_program(const struct myst_call *call, const char *path, char *const *arguments,
                                 uint64_t environment)
{
    PROMISE(!call && !path && !arguments && !environment);
    return 0;
}

/* Each lies in the line, is not empty and has no blank. */
static void check_words(int file, bool is_script)
{
    static struct myst_script script;
    const size_t count = myst_script_words(file, &script);
    PROMISE(count <= MYST_SCRIPT_WORDS && (count == 0 || is_script));
    for (size_t i = 0; i < count; i++)
    {
        const char *word = script.words[i];
        PROMISE(word > script.line + 1 && word < script.line + MYST_SCRIPT_LINE);
        PROMISE(*word && !strpbrk(word, " \t\r\n"));
        PROMISE(i == 0 || word > script.words[i - 1] + strlen(script.words[i - 1]));
    }
}

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
    check_words(file, is_script);
    PROMISE(is_script || is_elf || !is_program);
    if (myst_elf_interpreter(file, interpreter))
        PROMISE(is_elf && memchr(interpreter, 0, sizeof interpreter));
    return 0;
}
