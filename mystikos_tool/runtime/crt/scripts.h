/* What a program needs beyond its own file when it starts, where Linux and Mystikos differ. */
#ifndef MYST_SCRIPTS_H
#define MYST_SCRIPTS_H

#include "call.h"

/* The interpreter of the application's script is not there, upon which Mystikos ends it: told already. */
#define MYST_NOT_STARTED (INT64_MIN + 3)

/* For a call of execve or execveat of `file`, open without a right to read it: MYST_CONTINUE, MYST_REDIRECTED or
 * MYST_NOT_STARTED. The words behind #! are arguments each; what is open for writing starts; a program whose dynamic
 * linker is not there is loaded by musl's. */
int64_t myst_prepare_content(const struct myst_call *call, int file);

#define MYST_SCRIPT_LINE 256 /* bytes that are looked at, as Linux does */
#define MYST_SCRIPT_WORDS (MYST_SCRIPT_LINE / 2)

struct myst_script
{
    char line[MYST_SCRIPT_LINE + 1];
    char *words[MYST_SCRIPT_WORDS]; /* in `line`: the interpreter, and arguments */
};

/* Reads the words behind #!; 0 for what is no script. */
size_t myst_script_words(int content, struct myst_script *script);

/* Puts musl's dynamic linker of the root in the place of a program's that is not there: Mystikos loads every program
 * with its own C library, which is musl. */
void myst_provide_interpreter(int content);

#endif
