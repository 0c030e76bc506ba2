"""The runtime's SHA-256 and signature check, held against Python's.

MYST_CRYPTO_CASES=10000 takes so many random cases, and a tenth as many malformed ones, instead of a few
hundred.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import random
import struct
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from compiling import HERE, MakeOnce, compile_sanitized, compile_static, needs_compiler
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from packaging import KEY, OTHER_KEY

from mystikos_tool.runtime.build import SOURCE_DIRECTORY
from mystikos_tool.signing import pem

pytestmark = needs_compiler

CASES = int(os.environ.get("MYST_CRYPTO_CASES", "100"))
SIZE = 384
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
SOURCES = (
    HERE / "crypto.c",
    *(SOURCE_DIRECTORY / "common" / f"{name}.c" for name in ("error", "rsa", "sha256")),
    *(SOURCE_DIRECTORY / "kernel" / f"{name}.c" for name in ("public_key", "rsa_key")),
)


@pytest.fixture(scope="module", params=["static", "sanitized"])
def driver(request: pytest.FixtureRequest, make_once: MakeOnce) -> Path:
    """The C code as it is built, and with sanitizers."""
    compiled = compile_static if request.param == "static" else compile_sanitized
    name = f"crypto-{request.param}"
    return make_once(name, lambda place: compiled(place / "crypto", *SOURCES)) / "crypto"


def ask(driver: Path, requests: Sequence[bytes]) -> bytes:
    done = subprocess.run([driver], input=b"".join(requests), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def has_sha_instructions() -> bool:
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    return "sha_ni" in flags.split()


def test_sha256_agrees_with_hashlib_for_every_size_and_cut(driver: Path) -> None:
    chance = random.Random(1)
    sizes = [*range(200), *(chance.randrange(1 << 14) for _ in range(CASES)), 1 << 20]
    messages = [(chance.randbytes(size), chance.choice([1, 3, 63, 64, 65, 1000, 1 << 20])) for size in sizes]
    answers = ask(driver, [b"H" + struct.pack("<II", len(data), cut) + data for data, cut in messages])
    for number, (data, cut) in enumerate(messages):
        digest = hashlib.sha256(data).digest()
        accelerated = digest if has_sha_instructions() else bytes(32)
        assert answers[number * 96 : (number + 1) * 96] == digest * 2 + accelerated, (len(data), cut)


@dataclass(frozen=True)
class Signed:
    """The numbers of a signature, and what it is to be the signature of."""

    modulus: int
    signature: int
    q1: int
    q2: int
    digest: bytes

    @property
    def request(self) -> bytes:
        numbers = (self.modulus, self.signature, self.q1, self.q2)
        return b"R" + b"".join(number.to_bytes(SIZE, "little") for number in numbers) + self.digest

    @property
    def problem(self) -> bytes | None:
        """What Python's arithmetic finds wrong: a word of the message, or None."""
        square = self.signature**2 - self.q1 * self.modulus
        cube = self.signature * square - self.q2 * self.modulus
        message = b"\0\1".ljust(SIZE - 52, b"\xff") + b"\0" + DIGEST_INFO + self.digest
        checks = (
            (b"modulus is not", self.modulus.bit_length() == SIZE * 8 and self.modulus % 2 == 1),
            (b"not below", self.signature < self.modulus),
            (b"q1", 0 <= square < self.modulus),
            (b"q2", 0 <= cube < self.modulus),
            (b"not that of", cube == int.from_bytes(message, "big")),
        )
        return next((word for word, holds in checks if not holds), None)


def with_quotients(modulus: int, signature: int, digest: bytes) -> Signed:
    q1, rest = divmod(signature**2, modulus)
    return Signed(modulus, signature, q1, signature * rest // modulus, digest)


@cache
def signatures(count: int, seed: int) -> tuple[Signed, ...]:
    return tuple(_signatures(count, seed))


def _signatures(count: int, seed: int) -> Iterator[Signed]:
    chance = random.Random(seed)
    both = [pem.load(KEY), pem.load(OTHER_KEY)]
    for _ in range(count):
        key, message = chance.choice(both), chance.randbytes(256)
        digest = hashlib.sha256(message).digest()
        yield with_quotients(key.modulus, int.from_bytes(key.sign(digest), "big"), digest)


def malformed(good: Signed, chance: random.Random) -> Signed:
    """Spoil a good signature in one of the ways that a careless check would miss."""
    bit = 1 << chance.randrange(SIZE * 8)
    other = chance.randrange(1 << (SIZE * 8))
    top = (1 << (SIZE * 8)) - 1
    ways = (
        replace(good, modulus=good.modulus ^ bit),
        replace(good, signature=good.signature ^ bit),
        replace(good, q1=good.q1 ^ bit),
        replace(good, q2=good.q2 ^ bit),
        replace(good, digest=chance.randbytes(32)),
        # s^3 - (q1 s + q2) m stays the same; only the range of the first remainder shows it.
        replace(good, q1=good.q1 - 1, q2=(good.q2 + good.signature) & top),
        replace(good, signature=min(good.signature + good.modulus, top)),
        replace(good, signature=good.modulus - good.signature),
        with_quotients(good.modulus, other % good.modulus, good.digest),
        with_quotients(good.modulus, chance.randrange(4), good.digest),
        with_quotients(good.modulus ^ 1, good.signature % (good.modulus ^ 1), good.digest),
        Signed(0, 0, 0, 0, good.digest),
        Signed(top, top, top, top, good.digest),
        Signed(good.modulus, good.modulus, good.modulus, 0, good.digest),
        Signed(good.modulus >> 1, good.signature >> 2, 0, 0, good.digest),
        Signed(*(chance.randrange(top) for _ in range(4)), good.digest),
    )
    return chance.choice(ways)


def verdicts(driver: Path, cases: Sequence[Signed]) -> list[bytes]:
    return ask(driver, [case.request for case in cases]).split(b"\n")[:-1]


def test_good_signatures_are_accepted(driver: Path) -> None:
    cases = signatures(CASES, 2)
    assert verdicts(driver, cases) == [b""] * len(cases)


def test_malformed_signatures_are_refused_for_the_reason_that_python_finds(driver: Path) -> None:
    chance = random.Random(3)
    cases = [malformed(good, chance) for good in signatures(max(CASES // 10, 200), 4)]
    for case, verdict in zip(cases, verdicts(driver, cases), strict=True):
        assert case.problem is not None
        assert case.problem in verdict


def test_a_padding_that_is_not_of_pkcs1_v15_is_refused(driver: Path) -> None:
    """A cube root forges a signature where the check does not look at the whole padding."""
    key = pem.load(KEY)
    digest = hashlib.sha256(b"forged").digest()
    prefix = b"\0\1" + b"\xff" * 8 + b"\0" + DIGEST_INFO + digest
    wanted = int.from_bytes(prefix.ljust(SIZE, b"\0"), "big")
    root = _cube_root_up(wanted)
    assert (root**3).to_bytes(SIZE, "big").startswith(prefix)
    (verdict,) = verdicts(driver, [with_quotients(key.modulus, root, digest)])
    assert b"not that of" in verdict


def _cube_root_up(number: int) -> int:
    low, high = 0, 1 << (number.bit_length() // 3 + 1)
    while low < high:
        middle = (low + high) // 2
        if middle**3 < number:
            low = middle + 1
        else:
            high = middle
    return low


# Keys of disks: of any size and exponent

# Mersenne primes: the private exponents of their products are known.
PRIMES = [(1 << bits) - 1 for bits in (521, 607, 1279, 2203, 2281, 3217, 4423)]


def in_bytes(number: int) -> bytes:
    return number.to_bytes((number.bit_length() + 7) // 8, "big")


def any_request(modulus: int, exponent: int, signature: bytes, digest: bytes) -> bytes:
    numbers = in_bytes(modulus), in_bytes(exponent), signature
    return b"V" + struct.pack("<3I", *map(len, numbers)) + b"".join(numbers) + digest


@cache
def sign(modulus: int, order: int, exponent: int, digest: bytes) -> bytes:
    """A signature by a key whose numbers have ``order`` as the order of their group."""
    size = (modulus.bit_length() + 7) // 8
    message = b"\0\1".ljust(size - 52, b"\xff") + b"\0" + DIGEST_INFO + digest
    signature = pow(int.from_bytes(message, "big"), pow(exponent, -1, order), modulus)
    return signature.to_bytes(size, "big")


def keys() -> Iterator[tuple[int, int]]:
    """Moduli from 521 to 7,640 bits, and the orders of their groups."""
    yield from ((prime, prime - 1) for prime in PRIMES)
    for one, other in ((0, 1), (1, 2), (4, 5), (5, 6)):
        yield PRIMES[one] * PRIMES[other], (PRIMES[one] - 1) * (PRIMES[other] - 1)


def test_signatures_of_any_size_and_exponent_are_accepted_and_changed_ones_are_not(driver: Path) -> None:
    chance = random.Random(5)
    requests, expected = [], []
    for modulus, order in keys():
        digest = chance.randbytes(32)
        exponents = [number for number in (5, 65537, (1 << 100) + 9) if math.gcd(number, order) == 1]
        for exponent in exponents:
            good = sign(modulus, order, exponent, digest)
            bad = bytearray(good)
            bad[chance.randrange(1, len(bad))] ^= 1 << chance.randrange(8)
            requests += [any_request(modulus, exponent, data, digest) for data in (good, bytes(bad))]
            requests.append(any_request(modulus, exponent, good, bytes(32)))
            expected += [b"1", b"0", b"0"]
    assert expected.count(b"1") >= len(PRIMES)
    assert ask(driver, requests).split() == expected


def test_the_largest_key_and_odd_numbers_are_handled(driver: Path) -> None:
    digest = bytes(range(32))
    largest = (1 << 8192) - 1
    message = sign(largest, 2, 1, digest)  # by the exponent 1 it is the message itself
    small = (1 << 495) - 1
    cases = [
        (any_request(largest, 1, message, digest), b"1"),
        (any_request(largest, 1, message[1:], digest), b"0"),
        (any_request(largest, 1, b"\0" + message, digest), b"0"),
        (any_request(largest - 1, 1, message, digest), b"0"),
        (any_request(largest, 1, in_bytes(largest), digest), b"0"),
        (any_request(largest, 0, message, digest), b"0"),
        (any_request(small, 1, sign(small, 2, 1, digest), digest), b"1"),
        (any_request(small >> 8, 1, sign(small, 2, 1, digest)[1:], digest), b"0"),
        (any_request(0, 1, b"", digest), b"0"),
        (any_request(1, 1, b"\0", digest), b"0"),
    ]
    assert ask(driver, [request for request, _ in cases]).split() == [answer for _, answer in cases]


def key_request(text: bytes) -> bytes:
    return b"K" + struct.pack("<I", len(text)) + text


def test_public_keys_of_both_forms_are_read(driver: Path) -> None:
    numbers = [*(modulus for modulus, _ in keys()), (1 << 8192) - 1]
    requests, expected = [], []
    for modulus, exponent in [(modulus, exponent) for modulus in numbers for exponent in (3, 65537)]:
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        for form in (PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1):
            text = key.public_bytes(Encoding.PEM, form)
            requests += [
                key_request(b"A comment\n" + text + text[:-5]),
                key_request(text.replace(b"\n", b"\r\n")),
            ]
            expected += 2 * [f"{modulus:x} {exponent:02x}".encode()]
    answers = ask(driver, requests).split(b"\n")[:-1]
    assert [tuple(int(number, 16) for number in answer.split()) for answer in answers] == [
        tuple(int(number, 16) for number in answer.split()) for answer in expected
    ]


def test_what_is_no_public_rsa_key_is_refused(driver: Path) -> None:
    text = rsa.RSAPublicNumbers(3, PRIMES[3]).public_key().public_bytes(Encoding.PEM, PublicFormat.PKCS1)
    lines = text.splitlines()
    der = base64.b64decode(b"".join(lines[1:-1]))
    ways = [
        b"",
        b"text",
        text[:-10],
        text.replace(b"RSA ", b""),
        text.replace(b"=", b""),
        text.replace(b"A", b"*"),
    ]
    chance = random.Random(6)
    for at in [*range(8), *(chance.randrange(len(der)) for _ in range(50))]:
        changed = der[:at] + bytes([der[at] ^ 0x80]) + der[at + 1 :]
        shorter = der[:at] + der[at + 1 :]
        ways += [in_pem(data, lines) for data in (shorter, der[:at], der + bytes(at + 1))]
        if at < 4:
            ways.append(in_pem(changed, lines))
    too_long = rsa.RSAPublicNumbers(3, (1 << 8192) + 1).public_key()
    ways.append(too_long.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    elliptic = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    ways.append(elliptic.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert ask(driver, [key_request(way) for way in ways]) == b"\n" * len(ways)


def in_pem(der: bytes, lines: list[bytes]) -> bytes:
    return b"\n".join([lines[0], base64.b64encode(der), lines[-1]])
