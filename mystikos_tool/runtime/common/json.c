#include "json.h"

#include "hex.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MAX_DIGITS 20

int myst_json_fail(struct myst_json *r, const char *format, ...)
{
    char text[sizeof r->error->text];
    unsigned long line = 1;
    for (const char *p = r->start; p < r->at; p++)
        line += *p == '\n';

    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return myst_fail(r->error, "%s: line %lu: %s%s%s", r->where, line, r->key ? r->key : "", r->key ? ": " : "", text);
}

char myst_json_peek(struct myst_json *r)
{
    while (r->at < r->end)
    {
        if (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r')
            r->at++;
        else if (r->end - r->at >= 2 && r->at[0] == '/' && r->at[1] == '/')
            while (r->at < r->end && *r->at != '\n' && *r->at != '\r')
                r->at++;
        else
            return *r->at;
    }
    return 0;
}

bool myst_json_accept(struct myst_json *r, char token)
{
    if (myst_json_peek(r) != token)
        return false;
    r->at++;
    return true;
}

bool myst_json_accept_word(struct myst_json *r, const char *word)
{
    size_t length = strlen(word);
    myst_json_peek(r);
    if ((size_t)(r->end - r->at) < length || memcmp(r->at, word, length) != 0)
        return false;
    r->at += length;
    return true;
}

int myst_json_expect(struct myst_json *r, char token, const char *what)
{
    return myst_json_accept(r, token) ? 0 : myst_json_fail(r, "expected %s", what);
}

/* The length of the UTF-8 sequence at `at`; 0 where there is none (RFC 3629: shortest form, no surrogates). */
static size_t utf8_length(const char *at, const char *end)
{
    const unsigned char *c = (const unsigned char *)at;
    if (c[0] < 0x80)
        return 1;
    const size_t length = c[0] < 0xc2 ? 0 : c[0] < 0xe0 ? 2 : c[0] < 0xf0 ? 3 : c[0] < 0xf5 ? 4 : 0;
    if ((size_t)(end - at) < length)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    const bool is_long = (c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xf0 && c[1] < 0x90);
    const bool is_none = (c[0] == 0xed && c[1] > 0x9f) || (c[0] == 0xf4 && c[1] > 0x8f);
    return is_long || is_none ? 0 : length;
}

int myst_json_check_text(struct myst_json *r)
{
    const char *start = r->at;
    size_t length;
    for (; r->at < r->end; r->at += length)
        if ((length = utf8_length(r->at, r->end)) == 0)
            return myst_json_fail(r, "a byte that is not UTF-8");
    r->at = start;
    return 0;
}

int myst_json_count(struct myst_json *r)
{
    return ++r->values > MYST_JSON_MAX_VALUES ? myst_json_fail(r, "more than %d values", MYST_JSON_MAX_VALUES) : 0;
}

/* The four digits after \u. */
static int read_code_unit(struct myst_json *r, uint32_t *unit)
{
    if (r->end - r->at < 4)
        return myst_json_fail(r, "\\u needs four hexadecimal digits");
    *unit = 0;
    for (int i = 0; i < 4; i++, r->at++)
    {
        int digit = myst_hex_digit(*r->at);
        if (digit < 0)
            return myst_json_fail(r, "\\u needs four hexadecimal digits");
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return 0;
}

static int read_code_point(struct myst_json *r, uint32_t *point)
{
    uint32_t low;
    if (read_code_unit(r, point) != 0)
        return -1;
    if (*point < 0xd800 || *point > 0xdfff)
        return 0;
    if (*point > 0xdbff || !(r->end - r->at >= 2 && r->at[0] == '\\' && r->at[1] == 'u'))
        return myst_json_fail(r, "half of a surrogate pair");
    r->at += 2;
    if (read_code_unit(r, &low) != 0)
        return -1;
    if (low < 0xdc00 || low > 0xdfff)
        return myst_json_fail(r, "half of a surrogate pair");
    *point = 0x10000 + ((*point - 0xd800) << 10) + (low - 0xdc00);
    return 0;
}

/* At most as many bytes as the escape sequence had. */
static char *put_utf8(char *out, uint32_t point)
{
    if (point < 0x80)
    {
        *out++ = (char)point;
        return out;
    }
    int more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
    *out++ = (char)(lead[more] | point >> (6 * more));
    while (more-- > 0)
        *out++ = (char)(0x80 | (point >> (6 * more) & 0x3f));
    return out;
}

static int read_escape(struct myst_json *r, uint32_t *point)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    if (r->at == r->end)
        return myst_json_fail(r, "a string is not closed");
    char c = *r->at++;
    if (c == 'u')
        return read_code_point(r, point);
    const char *name = c ? strchr(names, c) : NULL;
    if (!name)
        return myst_json_fail(r, "unknown escape sequence in a string");
    *point = (unsigned char)values[name - names];
    return 0;
}

/* A string of n bytes in the input, quotes included, takes at most n - 1 with its NUL. */
int myst_json_string(struct myst_json *r, const char **string)
{
    char *out = r->text;
    if (!myst_json_accept(r, '"'))
        return myst_json_fail(r, "expected a string");
    *string = out;
    for (;;)
    {
        if (r->at == r->end || *r->at == '\n')
            return myst_json_fail(r, "a string is not closed");
        char c = *r->at++;
        if (c == '"')
            break;
        uint32_t point = 1;
        if (c == '\\' && read_escape(r, &point) != 0)
            return -1;
        if (c == 0 || point == 0)
            return myst_json_fail(r, "a string has a NUL in it");
        if ((unsigned char)c < 0x20)
            return myst_json_fail(r, "a string has a control character in it");
        if (c == '\\')
            out = put_utf8(out, point);
        else
            *out++ = c;
    }
    *out++ = 0;
    r->text = out;
    return 0;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void add_digit(struct myst_json_integer *n, char digit)
{
    if (__builtin_mul_overflow(n->magnitude, 10, &n->magnitude) ||
        __builtin_add_overflow(n->magnitude, (uint64_t)(digit - '0'), &n->magnitude))
        n->huge = true;
}

int myst_json_integer(struct myst_json *r, struct myst_json_integer *n)
{
    memset(n, 0, sizeof *n);
    myst_json_peek(r);
    const char *start = r->at;
    n->negative = myst_json_accept(r, '-');
    if (r->at == r->end || !is_digit(*r->at))
        return myst_json_fail(r, "expected a whole number");
    if (*r->at == '0' && r->end - r->at >= 2 && is_digit(r->at[1]))
        return myst_json_fail(r, "a number must not begin with 0");
    while (r->at < r->end && is_digit(*r->at))
        add_digit(n, *r->at++);
    if (r->at < r->end && (*r->at == '.' || *r->at == 'e' || *r->at == 'E'))
        return myst_json_fail(r, "expected a whole number");
    return r->at - start > MAX_DIGITS ? myst_json_fail(r, "a number of more than %d characters", MAX_DIGITS) : 0;
}

bool myst_json_at_integer(struct myst_json *r)
{
    char c = myst_json_peek(r);
    return c == '-' || is_digit(c);
}

int myst_json_bool(struct myst_json *r, bool *value)
{
    if (!(*value = myst_json_accept_word(r, "true")) && !myst_json_accept_word(r, "false"))
        return myst_json_fail(r, "expected true or false");
    return 0;
}

bool myst_json_next(struct myst_json *r, char close, size_t index, int *result)
{
    *result = 0;
    if (myst_json_accept(r, close))
        return false;
    if (index == 0)
        return true;
    if (myst_json_accept(r, ','))
        return !myst_json_accept(r, close);
    *result = myst_json_fail(r, "expected , or %c", close);
    return false;
}
