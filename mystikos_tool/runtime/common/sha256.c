#include "sha256.h"

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

static const uint32_t k[64] __attribute__((aligned(16))) = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

static const uint32_t initial_state[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

static uint32_t big_endian(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t rotate(uint32_t x, int n)
{
    return x >> n | x << (32 - n);
}

void myst_sha256_blocks_portable(uint32_t state[8], const void *data, size_t count)
{
    const uint8_t *p = data;
    for (; count > 0; count--, p += MYST_SHA256_BLOCK)
    {
        uint32_t w[64];
        for (int t = 0; t < 16; t++)
            w[t] = big_endian(p + 4 * t);
        for (int t = 16; t < 64; t++)
        {
            uint32_t s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3;
            uint32_t s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10;
            w[t] = s1 + w[t - 7] + s0 + w[t - 16];
        }
        uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
        uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
        for (int t = 0; t < 64; t++)
        {
            uint32_t s1 = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
            uint32_t t1 = h + s1 + ((e & f) ^ (~e & g)) + k[t] + w[t];
            uint32_t s0 = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
            uint32_t t2 = s0 + ((a & b) ^ (a & c) ^ (b & c));
            h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
        }
        state[0] += a, state[1] += b, state[2] += c, state[3] += d;
        state[4] += e, state[5] += f, state[6] += g, state[7] += h;
    }
}

/* Four rounds on the message words m[I % 4], which from the fifth group on are first made of the
 * sixteen before them (SDM volume 2, SHA256RNDS2, SHA256MSG1, SHA256MSG2). */
#define FOUR_ROUNDS(I)                                                                                         \
    do                                                                                                         \
    {                                                                                                          \
        if ((I) < 4)                                                                                           \
            m[I % 4] = _mm_shuffle_epi8(_mm_loadu_si128(block + I % 4), swap);                                 \
        else                                                                                                   \
            m[I % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(m[I % 4], m[(I + 1) % 4]),      \
                                                          _mm_alignr_epi8(m[(I + 3) % 4], m[(I + 2) % 4], 4)), \
                                            m[(I + 3) % 4]);                                                   \
        __m128i wk = _mm_add_epi32(m[I % 4], _mm_load_si128((const __m128i *)k + I));                          \
        cdgh = _mm_sha256rnds2_epu32(cdgh, abef, wk);                                                          \
        abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(wk, 0x0e));                                 \
    } while (0)

__attribute__((target("sha,sse4.1,ssse3"))) void myst_sha256_blocks_instructions(uint32_t state[8], const void *data,
                                                                                 size_t count)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    const __m128i *block = data;
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    __m128i hgfe = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state + 1), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, hgfe, 8);
    __m128i cdgh = _mm_blend_epi16(hgfe, badc, 0xf0);
    for (; count > 0; count--, block += 4)
    {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i m[4];
        FOUR_ROUNDS(0);
        FOUR_ROUNDS(1);
        FOUR_ROUNDS(2);
        FOUR_ROUNDS(3);
        FOUR_ROUNDS(4);
        FOUR_ROUNDS(5);
        FOUR_ROUNDS(6);
        FOUR_ROUNDS(7);
        FOUR_ROUNDS(8);
        FOUR_ROUNDS(9);
        FOUR_ROUNDS(10);
        FOUR_ROUNDS(11);
        FOUR_ROUNDS(12);
        FOUR_ROUNDS(13);
        FOUR_ROUNDS(14);
        FOUR_ROUNDS(15);
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    __m128i feba = _mm_shuffle_epi32(abef, 0x1b);
    __m128i dchg = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)state + 1, _mm_alignr_epi8(dchg, feba, 8));
}

int myst_sha256_has_instructions(void)
{
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_SSSE3) || !(c & bit_SSE4_1))
        return 0;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & bit_SHA) != 0;
}

void myst_sha256_blocks(uint32_t state[8], const void *data, size_t count)
{
    static myst_sha256_blocks_fn *chosen;
    if (!chosen)
        chosen = myst_sha256_has_instructions() ? myst_sha256_blocks_instructions : myst_sha256_blocks_portable;
    chosen(state, data, count);
}

void myst_sha256_init(struct myst_sha256 *hash)
{
    memcpy(hash->state, initial_state, sizeof hash->state);
    hash->size = 0;
}

void myst_sha256_update(struct myst_sha256 *hash, const void *data, size_t size)
{
    const uint8_t *p = data;
    size_t used = hash->size % MYST_SHA256_BLOCK;
    hash->size += size;
    if (used > 0)
    {
        size_t n = MYST_SHA256_BLOCK - used;
        if (n > size)
            n = size;
        memcpy(hash->partial + used, p, n);
        if (used + n < MYST_SHA256_BLOCK)
            return;
        myst_sha256_blocks(hash->state, hash->partial, 1);
        p += n;
        size -= n;
    }
    if (size >= MYST_SHA256_BLOCK)
        myst_sha256_blocks(hash->state, p, size / MYST_SHA256_BLOCK);
    if (size % MYST_SHA256_BLOCK > 0)
        memcpy(hash->partial, p + size / MYST_SHA256_BLOCK * MYST_SHA256_BLOCK, size % MYST_SHA256_BLOCK);
}

void myst_sha256_final(struct myst_sha256 *hash, uint8_t digest[MYST_SHA256_SIZE])
{
    const uint64_t bits = hash->size * 8;
    const size_t used = hash->size % MYST_SHA256_BLOCK;
    uint8_t end[2 * MYST_SHA256_BLOCK] = {0x80};
    const size_t padding = (used < 56 ? 56 : 120) - used;
    for (int i = 0; i < 8; i++)
        end[padding + (size_t)i] = (uint8_t)(bits >> (56 - 8 * i));
    myst_sha256_update(hash, end, padding + 8);
    for (size_t i = 0; i < MYST_SHA256_SIZE; i++)
        digest[i] = (uint8_t)(hash->state[i / 4] >> (24 - 8 * (i % 4)));
}

void myst_sha256(const void *data, size_t size, uint8_t digest[MYST_SHA256_SIZE])
{
    struct myst_sha256 hash;
    myst_sha256_init(&hash);
    myst_sha256_update(&hash, data, size);
    myst_sha256_final(&hash, digest);
}
