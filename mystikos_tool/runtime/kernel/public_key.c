#include "public_key.h"

#include <string.h>

#define MAX_DER 4096 /* bytes: two numbers of 1024 and what is around them */

enum tag
{
    TAG_INTEGER = 0x02,
    TAG_BIT_STRING = 0x03,
    TAG_SEQUENCE = 0x30
};

/* Bytes that are still to be read. */
struct bytes
{
    const uint8_t *at;
    size_t left;
};

static bool take(struct bytes *from, size_t size, struct bytes *taken)
{
    if (size > from->left)
        return false;
    *taken = (struct bytes){from->at, size};
    from->at += size;
    from->left -= size;
    return true;
}

/* The length of a value, in the one form that DER has for it. */
static bool take_length(struct bytes *from, size_t *length)
{
    struct bytes first, more;
    if (!take(from, 1, &first))
        return false;
    *length = first.at[0];
    if (*length < 0x80)
        return true;
    if (*length > 0x82 || !take(from, *length & 0x7f, &more) || more.left == 0)
        return false;
    *length = more.left == 1 ? more.at[0] : (size_t)more.at[0] << 8 | more.at[1];
    return *length >= (more.left == 1 ? 0x80u : 0x100u);
}

static bool take_value(struct bytes *from, enum tag tag, struct bytes *value)
{
    struct bytes first;
    size_t length;
    return take(from, 1, &first) && first.at[0] == tag && take_length(from, &length) && take(from, length, value);
}

/* A number above 0. */
static bool take_number(struct bytes *from, uint8_t number[MYST_RSA_KEY_SIZE], size_t *size)
{
    struct bytes value;
    if (!take_value(from, TAG_INTEGER, &value) || value.left == 0 || (value.at[0] & 0x80))
        return false;
    if (value.at[0] == 0)
    {
        value.at++;
        value.left--;
        if (value.left == 0 || !(value.at[0] & 0x80))
            return false;
    }
    if (value.left > MYST_RSA_KEY_SIZE)
        return false;
    memcpy(number, value.at, value.left);
    *size = value.left;
    return true;
}

/* RSAPublicKey, and nothing behind it. */
static bool read_rsa_key(struct bytes der, struct myst_rsa_key *key)
{
    struct bytes numbers;
    return take_value(&der, TAG_SEQUENCE, &numbers) && der.left == 0 &&
           take_number(&numbers, key->modulus, &key->modulus_size) &&
           take_number(&numbers, key->exponent, &key->exponent_size) && numbers.left == 0;
}

/* SubjectPublicKeyInfo with an RSAPublicKey in it. */
static bool read_key_info(struct bytes der, struct myst_rsa_key *key)
{
    static const uint8_t algorithm[] = {0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86,
                                        0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00};
    struct bytes info, is, bits, unused;
    return take_value(&der, TAG_SEQUENCE, &info) && der.left == 0 && take(&info, sizeof algorithm, &is) &&
           memcmp(is.at, algorithm, sizeof algorithm) == 0 && take_value(&info, TAG_BIT_STRING, &bits) &&
           info.left == 0 && take(&bits, 1, &unused) && unused.at[0] == 0 && read_rsa_key(bits, key);
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *found = c ? strchr(digits, c) : NULL;
    return found ? (int)(found - digits) : -1;
}

/* White space is left out. */
static bool decode_base64(const char *text, size_t size, uint8_t der[MAX_DER], size_t *der_size)
{
    uint32_t group = 0;
    size_t digits = 0, padding = 0;
    *der_size = 0;
    for (size_t i = 0; i < size; i++)
    {
        if (text[i] && strchr(" \t\r\n", text[i]))
            continue;
        const int value = base64_value(text[i]);
        padding += text[i] == '=';
        if ((value < 0 && text[i] != '=') || (value >= 0 && padding > 0) || padding > 2)
            return false;
        group = group << 6 | (uint32_t)(value < 0 ? 0 : value);
        if (++digits % 4 != 0)
            continue;
        if (*der_size + 3 > MAX_DER)
            return false;
        for (int shift = 16; shift >= 0; shift -= 8)
            der[(*der_size)++] = (uint8_t)(group >> shift);
    }
    *der_size -= *der_size >= padding ? padding : 0;
    return digits > 0 && digits % 4 == 0;
}

static const char *find(const char *text, size_t size, const char *wanted)
{
    return memmem(text, size, wanted, strlen(wanted));
}

bool myst_public_key_read(const char *text, size_t size, struct myst_rsa_key *key)
{
    static uint8_t der[MAX_DER];
    static const char own_begin[] = "-----BEGIN RSA PUBLIC KEY-----", info_begin[] = "-----BEGIN PUBLIC KEY-----";
    const char *own = find(text, size, own_begin), *info = find(text, size, info_begin), *end;
    const bool is_own = own && (!info || own < info);
    const char *content = is_own ? own + strlen(own_begin) : info ? info + strlen(info_begin) : NULL;
    size_t der_size;
    if (!content)
        return false;
    const char *end_line = is_own ? "-----END RSA PUBLIC KEY-----" : "-----END PUBLIC KEY-----";
    if (!(end = find(content, size - (size_t)(content - text), end_line)) ||
        !decode_base64(content, (size_t)(end - content), der, &der_size))
        return false;
    const struct bytes bytes = {der, der_size};
    return is_own ? read_rsa_key(bytes, key) : read_key_info(bytes, key);
}
