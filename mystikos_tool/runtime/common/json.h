/* Reads JSON (RFC 8259) piece by piece, in which a `//` comment may stand between tokens and a comma after the last
 * member. The input is hostile until proven otherwise: it is never written to, every read is bounded, and nothing
 * recurses. What returns an int returns 0, or -1 with an error that names the line and the key. */
#ifndef MYST_JSON_H
#define MYST_JSON_H

#include "error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct myst_json
{
    const char *start, *at, *end;
    char *text;        /* where the next decoded string goes; as many bytes as the input and one are enough */
    const char *where; /* begins messages */
    const char *key;   /* being read, for messages; NULL outside of a member */
    size_t values;     /* that were counted */
    struct myst_error *error;
};

struct myst_json_integer
{
    bool negative, huge; /* huge: the magnitude does not fit */
    uint64_t magnitude;
};

/* Sets the error "<where>: line <number>: <key>: <what>"; returns -1. */
__attribute__((format(printf, 2, 3))) int myst_json_fail(struct myst_json *r, const char *format, ...);

/* Steps over white space and comments to the next token; 0 at the end of the input. */
char myst_json_peek(struct myst_json *r);

/* Step over the token or word if it is next. */
bool myst_json_accept(struct myst_json *r, char token);
bool myst_json_accept_word(struct myst_json *r, const char *word);

/* The same, but refuses anything else; `what` names it. */
int myst_json_expect(struct myst_json *r, char token, const char *what);

/* Refuses a text that is not UTF-8, as RFC 8259 asks for. */
int myst_json_check_text(struct myst_json *r);

/* Counts a value; refuses more than MYST_JSON_MAX_VALUES. */
#define MYST_JSON_MAX_VALUES 65536
int myst_json_count(struct myst_json *r);

/* Decodes the string at the cursor into r->text, with a NUL behind it. */
int myst_json_string(struct myst_json *r, const char **string);

bool myst_json_at_integer(struct myst_json *r);
int myst_json_integer(struct myst_json *r, struct myst_json_integer *n);
int myst_json_bool(struct myst_json *r, bool *value);

/* True when item number `index` of a list or object follows, false after the closing bracket or on an error, told apart
 * by *result. */
bool myst_json_next(struct myst_json *r, char close, size_t index, int *result);

#endif
