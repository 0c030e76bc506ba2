"""The forms in which files hold private keys, told by their content.

PEM (RFC 7468), as text, also in UTF-16 and UTF-32, or as JSON, YAML, XML, URLs, program sources, comments
and quotations write it, or encoded once more: in base64, as Kubernetes has secrets, base32 (RFC 4648) or by
uuencode; of OpenSSH and PuTTY; JSON Web Keys (RFC 7517); PKCS#12 (RFC 7292). A key that signs enclaves is
found in DER too (RFC 8017, A.1.2), which PKCS#8 has inside, and in DER that base64 or hexadecimal digits
stand for, in XML Signature's RSAKeyValue, and in what ``openssl rsa -text`` shows. A label without a key
behind it, as programs have that read keys, is none. Compressed files are not looked into.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from itertools import takewhile
from typing import NamedTuple
from urllib.parse import unquote_to_bytes

LONGEST = 1 << 15  # bytes of a key in any form

_Found = Iterator[tuple[int, bytes]]


class Form(NamedTuple):
    """A form of keys.

    Data without ``mark`` have no such key; ``find`` yields of each that they have the offset and what of
    it tells about it. ``modulus`` returns the modulus of such a key, None where it is no RSA key or cannot
    be read.
    """

    mark: bytes
    find: Callable[[bytes], _Found]
    modulus: Callable[[bytes], int | None]


def _matches(pattern: bytes) -> Callable[[bytes], _Found]:
    return lambda data: ((match.start(), match[0]) for match in re.finditer(pattern, data))


# The version 0, a modulus of 3072 bits, the exponent 3, and the beginning of the private exponent.
_DER_MARK = b"\x02\x01\x00\x02\x82\x01\x81\x00"
_DER = rb"(?s)" + re.escape(_DER_MARK) + rb"([\x80-\xff].{383})\x02\x01\x03\x02\x82\x01"


# The same for a key of any size: the version, and the tag and length of the modulus.
_RSA_IN_DER = rb"(?s)\x02\x01[\0\1]\x02(?:\x82(..)|\x81(.))"


def _modulus_in_der(der: bytes) -> int | None:
    match = re.search(_RSA_IN_DER, der)
    size = int.from_bytes(match[1] or match[2], "big") if match else 0
    return int.from_bytes(der[match.end() : match.end() + size], "big") if match else None


# What lies between the lines is base64, with headers of encrypted keys and what quotations add to it.
_PEM = (
    rb"-----BEGIN ((?:[A-Z0-9-]+ ){0,3}PRIVATE KEY)-----"
    rb"((?:[A-Za-z0-9+/=\s:,\"'\\#>|*;&]|-(?!-)){64,})-----END \1-----"
)
_ENCRYPTED = rb"-----BEGIN ENCRYPTED|Proc-Type: *4,ENCRYPTED"
_DEK_INFO = rb"DEK-Info: *[A-Za-z0-9-]+,[0-9A-Fa-f]+"
_UNICODE_ESCAPE = rb"\\u00([0-9A-Fa-f]{2})"
_ENTITY = rb"&#(?:x([0-9A-Fa-f]{1,2})|([0-9]{1,2}));"
_LINE_END = rb"\\+[rn]"
_NO_BASE64 = rb"[^A-Za-z0-9+/=]"
_COMMENT, _LINES_OF_COMMENT = b"//", 3


def _body(pem: bytes) -> bytes:
    """Return the base64 of a PEM block and nothing else."""
    match = re.fullmatch(_PEM, pem)
    text = re.split(_DEK_INFO, match[2])[-1] if match else b""
    text = re.sub(_UNICODE_ESCAPE, lambda escape: bytes.fromhex(escape[1].decode()), text)
    text = re.sub(_ENTITY, lambda entity: bytes([int(entity[1], 16) if entity[1] else int(entity[2])]), text)
    return _base64_in(text)


def _base64_in(text: bytes) -> bytes:
    """Return the digits of base64 in a text and nothing else.

    Slashes are digits, too: two of them begin a comment where several lines begin with two.
    """
    first, *others = text.splitlines() or [b""]
    lines = (line for line in map(bytes.lstrip, others) if line)
    comments = list(takewhile(lambda line: line.startswith(_COMMENT), lines))
    if len(comments) >= _LINES_OF_COMMENT:
        text = b"\n".join([first, *(line.removeprefix(_COMMENT) for line in comments)])
    return re.sub(_NO_BASE64, b"", re.sub(_LINE_END, b"", text))


def encrypted(pem: bytes) -> str:
    """Return what stands for an encrypted key in PEM, the same wherever it is copied; "" for another one."""
    return hashlib.sha256(_body(pem)).hexdigest() if re.search(_ENCRYPTED, pem) else ""


def _modulus_in_pem(pem: bytes) -> int | None:
    data = _decoded(_body(pem))
    return _modulus_of_openssh(data) if data.startswith(_OPENSSH) else _modulus_in_der(data)


def _decoded(text: bytes) -> bytes:
    try:
        return base64.b64decode(text)
    except binascii.Error:
        return b""


# In base64: the beginning of a line of five hyphens and of what follows in PEM.
_PEM_IN_BASE64_MARK = b"LS0tLS1CRUdJTi"
_PEM_IN_BASE64 = _PEM_IN_BASE64_MARK + rb"[A-Za-z0-9+/=\s]{64,32768}"


def _in_base64(data: bytes) -> _Found:
    for match in re.finditer(_PEM_IN_BASE64, data):
        text = re.sub(_NO_BASE64, b"", match[0])
        for pem in re.finditer(_PEM, _decoded(text[: len(text) & -4])):
            yield match.start(), pem[0]


def _wide(text: bytes, width: int) -> bytes:
    """Return text in characters of some bytes, all but one of which are zeros (UTF-16LE, UTF-32LE)."""
    return b"".join(bytes([character]).ljust(width, b"\0") for character in text)


_PEM_IN_UTF_16_MARK, _PEM_IN_UTF_32_MARK = (_wide(b"PRIVATE KEY-----", width) for width in (2, 4))


def _in_wide(width: int) -> Callable[[bytes], _Found]:
    """Return what finds keys in characters of some bytes, all but one of which are zeros."""
    pattern = b"%b(?:%b){64,16384}" % (_wide(b"-----BEGIN", width), rb"[\t\n\r -~]" + rb"\0" * (width - 1))

    def find(data: bytes) -> _Found:
        for match in re.finditer(pattern, data):
            for pem in re.finditer(_PEM, match[0][::width]):
                yield match.start(), pem[0]

    return find


_PEM_IN_URL_MARK = b"KEY-----%0"
_PEM_IN_URL = (
    rb"-----BEGIN(?:%20|\+)(?:[A-Z0-9]+(?:%20|\+)){0,3}PRIVATE(?:%20|\+)KEY-----[A-Za-z0-9%+/=.:,-]{64,32768}"
)


def _in_url(data: bytes) -> _Found:
    """Yield keys whose line ends, and what else a URL has not, are percent-encoded (RFC 3986, 2.1)."""
    for match in re.finditer(_PEM_IN_URL, data):
        label, hyphens, rest = match[0][5:].partition(b"-----")
        for words in (b"END+", b"+PRIVATE", b"PRIVATE+KEY"):  # elsewhere a plus is a digit
            rest = rest.replace(words, words.replace(b"+", b" "))
        text = unquote_to_bytes(b"-----" + label.replace(b"+", b" ") + hyphens + rest)
        for pem in re.finditer(_PEM, text):
            yield match.start(), pem[0]


# In base64: the beginning of a sequence in DER whose length is that of a key.
_DER_IN_BASE64_MARK = b"MIIG"
_DER_IN_BASE64 = _DER_IN_BASE64_MARK + rb"[A-Za-z0-9+/_=\s\"'\\,#>|*;-]{2000,32768}"
_FROM_URLS = bytes.maketrans(b"-_", b"+/")  # RFC 4648, 5


def _der_in_base64(data: bytes) -> _Found:
    for match in re.finditer(_DER_IN_BASE64, data):
        text = _base64_in(match[0].translate(_FROM_URLS)).partition(b"=")[0]
        # The end of the key is not needed.
        yield from _ders(match.start(), binascii.a2b_base64(text[: len(text) & -4]))


def _ders(at: int, data: bytes) -> _Found:
    if match := re.search(_DER, data):
        yield at, match[0]


_PEM_IN_BASE32_MARK = b"FUWS2LJNIJCUOSKO"
_PEM_IN_BASE32 = _PEM_IN_BASE32_MARK + rb"[A-Z2-7\s]{64,32768}"
_BASE32_DIGITS = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", b"0123456789abcdefghijklmnopqrstuv")


def _in_base32(data: bytes) -> _Found:
    for match in re.finditer(_PEM_IN_BASE32, data):
        digits = b"".join(match[0].split()).translate(_BASE32_DIGITS)
        size, rest = divmod(len(digits) * 5, 8)
        for pem in re.finditer(_PEM, (int(digits, 32) >> rest).to_bytes(size, "big")):
            yield match.start(), pem[0]


_PEM_IN_UU_MARK = b'M+2TM+2U"14=)'  # a full line's length, and the beginning of PEM
_PEM_IN_UU = re.escape(_PEM_IN_UU_MARK) + rb"[ -`\r\n]{64,32768}"


def _in_uu(data: bytes) -> _Found:
    for match in re.finditer(_PEM_IN_UU, data):
        for pem in re.finditer(_PEM, b"".join(map(_line_of_uu, match[0].splitlines()))):
            yield match.start(), pem[0]


def _line_of_uu(line: bytes) -> bytes:
    try:
        return binascii.a2b_uu(line)
    except binascii.Error:
        return b""


# In hexadecimal digits, as one number, with colons or spaces, and as a program has arrays and strings.
_HEX_MARKS = (
    *(b"0201000282018100", b"02:01:00:02:82:01:81:00", b"02 01 00 02 82 01 81 00"),
    *(b"0x01, 0x00, 0x02", b"0x01,0x00,0x02", rb"\x01\x00\x02"),
)
_BETWEEN = rb"[\s,:\"']{0,12}(?:0[xX]|\\x)?"
_HEX = _BETWEEN.join(b"%02x" % byte for byte in _DER_MARK) + b"(?:%b[0-9A-Fa-f]{2}){390,8192}" % _BETWEEN
_NO_HEX = rb"0[xX]|[^0-9A-Fa-f]+"


def _in_hex(data: bytes) -> _Found:
    for match in re.finditer(_HEX, data):
        digits = re.sub(_NO_HEX, b"", match[0])
        yield from _ders(match.start(), bytes.fromhex(digits[: len(digits) & -2].decode()))


_XML_MARK = b"<RSAKeyValue>"
_XML = (
    _XML_MARK + rb"\s*<Modulus>([A-Za-z0-9+/=\s]{64,2048})</Modulus>"
    rb"(?:\s*<(\w{1,9})>[A-Za-z0-9+/=\s]{1,2048}</\2>){0,6}\s*<D>"
)


def _modulus_in_xml(block: bytes) -> int | None:
    match = re.match(_XML, block)
    return int.from_bytes(_decoded(match[1]), "big") if match else None


_SHOWN_MARK = b"privateExponent:"
_SHOWN = (
    rb"modulus:\s{1,9}((?:[0-9a-f]{2}[:\s]{1,9}){64,1025})publicExponent: [^\n]{1,40}\s{1,9}" + _SHOWN_MARK
)


def _modulus_as_shown(block: bytes) -> int | None:
    match = re.match(_SHOWN, block)
    return int(re.sub(rb"[:\s]", b"", match[1]), 16) if match else None


# openssh-key-v1 (PROTOCOL.key of OpenSSH) has the public key in front, encrypted or not.
_OPENSSH = b"openssh-key-v1\0"


def _modulus_of_openssh(data: bytes) -> int | None:
    rest = data[len(_OPENSSH) :]
    for _ in ("cipher", "key derivation", "its options"):
        _, rest = _string(rest)
    public, _ = _string(rest[4:])  # behind the number of keys, which is 1
    return _modulus_of_ssh(public)


def _modulus_of_ssh(public: bytes) -> int | None:
    kind, rest = _string(public)
    _, rest = _string(rest)
    modulus, _ = _string(rest)
    return int.from_bytes(modulus, "big") if kind == b"ssh-rsa" else None


def _string(data: bytes) -> tuple[bytes, bytes]:
    """Return a string of SSH (RFC 4251, 5) and what follows it."""
    end = 4 + int.from_bytes(data[:4], "big")
    return data[4:end], data[end:]


_PUTTY_MARK = b"PuTTY-User-Key-File-"
_PUTTY = (
    _PUTTY_MARK + rb"\d: [\w@.-]+\r?\nEncryption: [\w-]+\r?\nComment: [^\r\n]{0,255}\r?\n"
    rb"Public-Lines: \d+\r?\n([A-Za-z0-9+/=\r\n]+)(?:Key-Derivation: [^\r\n]{0,99}\r?\n"
    rb"(?:Argon2-[^\r\n]{0,99}\r?\n){0,5})?Private-Lines: \d"
)


def _modulus_of_putty(block: bytes) -> int | None:
    match = re.match(_PUTTY, block)
    return _modulus_of_ssh(_decoded(match[1])) if match else None


_JWK_MARK = b'"kty"'


def _jwks(data: bytes) -> _Found:
    """Yield the objects around the marks that have a private part; none is looked at twice."""
    end = 0
    while (at := data.find(_JWK_MARK, end)) >= 0:
        start, close = data.rfind(b"{", max(end, at - LONGEST // 4), at), data.find(b"}", at)
        if close < 0:
            return
        end = max(at + 1, close - LONGEST // 2) if close - at > LONGEST // 2 else close + 1
        if start >= 0 and end > close and isinstance(_members(data[start:end]).get("d"), str):
            yield start, data[start:end]


def _members(text: bytes) -> dict[str, object]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _modulus_of_jwk(block: bytes) -> int | None:
    text = _members(block).get("n")
    if not isinstance(text, str):
        return None
    try:
        return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
    except ValueError:
        return None


# The object identifiers of bags with keys, as they are or encrypted: pkcs-12-BagIds 1 and 2.
_KEY_BAG_MARK = b"\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x0c\x0a\x01"
_PKCS12 = (
    rb"(?s)(?P<start>\x30(?:\x80|\x81.|\x82..|\x83...)\x02\x01\x03\x30(?:\x80|\x81.|\x82..|\x83...|[\x00-\x7f])"
    rb"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01)|" + re.escape(_KEY_BAG_MARK) + rb"[\x01\x02]"
)


def _pkcs12(data: bytes) -> _Found:
    """Yield the beginnings that have a key behind them."""
    start: int | None = None
    for match in re.finditer(_PKCS12, data):
        if match["start"]:
            start = match.start()
        elif start is not None and match.start() - start < LONGEST:
            yield start, match[0]
            start = None


def _unknown(block: bytes) -> None:
    """Return nothing: of a key without a password the DER is found, and others cannot be read."""


FORMS = (
    Form(b"PRIVATE KEY-----", _matches(_PEM), _modulus_in_pem),
    Form(_DER_MARK, _matches(_DER), _modulus_in_der),
    Form(_PEM_IN_BASE64_MARK, _in_base64, _modulus_in_pem),
    Form(_PEM_IN_UTF_16_MARK, _in_wide(2), _modulus_in_pem),
    Form(_PEM_IN_UTF_32_MARK, _in_wide(4), _modulus_in_pem),
    Form(_PEM_IN_URL_MARK, _in_url, _modulus_in_pem),
    Form(_DER_IN_BASE64_MARK, _der_in_base64, _modulus_in_der),
    Form(_PEM_IN_BASE32_MARK, _in_base32, _modulus_in_pem),
    Form(_PEM_IN_UU_MARK, _in_uu, _modulus_in_pem),
    *(Form(mark, _in_hex, _modulus_in_der) for mark in _HEX_MARKS),
    Form(_XML_MARK, _matches(_XML), _modulus_in_xml),
    Form(_SHOWN_MARK, _matches(_SHOWN), _modulus_as_shown),
    Form(_PUTTY_MARK, _matches(_PUTTY), _modulus_of_putty),
    Form(_JWK_MARK, _jwks, _modulus_of_jwk),
    Form(_KEY_BAG_MARK, _pkcs12, _unknown),
)
