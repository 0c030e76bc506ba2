"""Keys in PKCS #11 tokens, named by URI; `pkcs11_uri` reads that, `pkcs11_worker` talks to the module.

The token is given a DigestInfo to pad and sign (CKM_RSA_PKCS), and gives the numbers of the key's
public half. It is asked in a process of its own with a time limit, one at a time: a PIN that was
refused is not tried again in this run, for a token locks itself after a few.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1
from mystikos_tool.io import commands
from mystikos_tool.signing import pkcs11_uri, rsa_public, secret
from mystikos_tool.signing.named_key import NamedKey, seconds_of
from mystikos_tool.signing.pkcs11_uri import Uri
from mystikos_tool.signing.rsa_public import KnowsPublicKey, RsaPublicKey

_WORKER = Path(__file__).with_name("pkcs11_worker.py")
_PIN = "the PIN"
_NAME_PIN = f"add pin-source=SOURCE to the URI's query, a SOURCE being {secret.WAYS}"
_ANSWER_LIMIT = 1 << 20

_LOGIN_ELSEWHERE = "look whether another program has the token"
_FAULTS = {
    "no library": (
        "needs the library python-pkcs11",
        "install it: pip install 'mystikos-tool[pkcs11]'",
    ),
    "no module": (
        "its module cannot be loaded: {detail}",
        "correct module-path, and see whether the module needs a setting of its own",
    ),
    "no token": ("there is no such token: {detail}", "insert it, or correct the URI"),
    "several tokens": ("names no single token: {detail}", "add serial= or slot-id= to the URI"),
    "several keys": ("names no single key: {detail}", "add id= or object= to the URI"),
    "no RSA key": ("is no RSA key but {detail}", "name a key of RSA"),
    "no key": ("there is no such private key in the token", "correct object= or id= in the URI"),
    "no modulus": ("the token does not tell the key's modulus", "name a key that can be used"),
    "no pin": ("needs a PIN", _NAME_PIN),
    "PinIncorrect": ("the PIN is wrong", "correct its source before the token locks itself"),
    "PinInvalid": ("the PIN is wrong", "correct its source before the token locks itself"),
    "PinLenRange": ("the PIN is wrong: no PIN of the token has its length", "correct its source"),
    "PinLocked": ("the token has locked its PIN", "unlock it as the token's administrator"),
    "PinExpired": ("the token's PIN has expired", "set a new one"),
    "UserPinNotInitialized": ("the token has no PIN yet", "set one with the token's own tool"),
    "UserAlreadyLoggedIn": ("somebody is logged in to the token", _LOGIN_ELSEWHERE),
    "AnotherUserAlreadyLoggedIn": ("somebody else is logged in to the token", _LOGIN_ELSEWHERE),
    "MechanismInvalid": ("the token does not sign by CKM_RSA_PKCS", "name a key in another token"),
    "KeyTypeInconsistent": ("the key is of another kind than RSA", "name a key of RSA"),
    "TokenNotPresent": ("the token is not there any more", "insert it again"),
    "DeviceRemoved": ("the token was removed", "insert it again"),
    "DeviceError": ("the device reports an error", "see what its own tool says"),
}

_WRONG_PIN = ("PinIncorrect", "PinInvalid", "PinLenRange")

_asking = Lock()
_refused_pins: set[bytes] = set()


@dataclass(frozen=True)
class Pkcs11Signer(KnowsPublicKey):
    """A key in a token; it signs as `signer.Signer` asks."""

    _token: _Token
    _key: RsaPublicKey = field(repr=False)

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest; raise UserError where the token gives none."""
        found = self._token.ask(login=True, data=pkcs1.digest_info(digest))
        if int(found["modulus"], 16) != self.modulus:
            problem = "the private key is another one than the public key that was found or named"
            raise self._token.refused(problem, "add id= to the URI, or correct public-key=")
        signature = bytes.fromhex(found["signature"])
        if not pkcs1.verifies(signature, digest, self.modulus, self.exponent):
            raise self._token.refused(
                "gave a signature that is not its key's", "see which key the token signs with"
            )
        return signature


@dataclass(frozen=True)
class _Token:
    """A way to ask the token that a URI names."""

    uri: Uri
    seconds: float
    public: Path | None

    def __repr__(self) -> str:
        return self.uri.shown()

    def key(self) -> RsaPublicKey:
        """Return the public half: from the file that the URI names, or of the token."""
        if self.public:
            return rsa_public.load(self.public)
        found = self.ask(login=False)
        if not found["exponent"]:
            remedy = "add public-key=FILE to the URI's query"
            raise self.refused("the token does not tell the key's public exponent", remedy)
        return RsaPublicKey(int(found["modulus"], 16), int(found["exponent"], 16))

    def ask(self, *, login: bool, data: bytes | None = None) -> dict[str, Any]:
        """Ask the token for the key, and with ``data`` to sign; raise UserError where it refuses.

        Without ``login`` the PIN is used only where the token tells nothing without it.
        """
        with _asking:
            pin = self._pin() if login and self.uri.pin_source else None
            answer = self._ask_once(login, data, pin)
            if answer.get("error") == "no pin":
                answer = self._ask_once(True, data, self._pin())
        if "error" in answer:
            problem, remedy = _FAULTS.get(
                answer["error"], (f"the token refuses: {answer['error']}", "see what its own tool says")
            )
            raise self.refused(problem.format(detail=_detail(answer, self.uri)), remedy)
        return answer

    def _ask_once(self, login: bool, data: bytes | None, pin: str | None) -> dict[str, Any]:
        tried = hashlib.sha256(repr((self.uri.module, self.uri.place, pin)).encode()).digest()
        if tried in _refused_pins:
            raise self.refused(*_FAULTS["PinIncorrect"])
        answer = self._answer(login=login, data=data.hex() if data else None, pin=pin)
        if answer.get("error") in _WRONG_PIN:
            _refused_pins.add(tried)
            secret.forget(_PIN, self.uri.shown())
        return answer

    def _pin(self) -> str:
        pin = secret.read(self.uri.pin_source, _PIN, self.uri.shown(), _NAME_PIN)
        try:
            return pin.decode()
        except UnicodeDecodeError:
            raise self.refused("the PIN is not UTF-8", "correct its source") from None

    def _answer(self, **request: Any) -> dict[str, Any]:
        request |= {
            "module": self.uri.module,
            "place": dict(self.uri.place),
            "label": self.uri.label,
            "id": self.uri.id.hex() if self.uri.id is not None else None,
            "path": [place for place in sys.path if place],
        }
        command = [sys.executable, "-I", str(_WORKER)]
        try:
            output = commands.run(
                command, json.dumps(request).encode(), seconds=self.seconds, limit=_ANSWER_LIMIT
            )
        except commands.CommandFault as fault:
            raise self.refused(
                f"its module, {self.uri.module}, {fault}", "see what its own tool says"
            ) from None
        answer: dict[str, Any] = json.loads(output)
        return answer

    def refused(self, problem: str, remedy: str) -> UserError:
        """Return the error of a key in this token."""
        return UserError(self.uri.shown(), problem, remedy)


def _detail(answer: dict[str, Any], uri: Uri) -> str:
    return str(answer.get("detail", "")).removeprefix(f"OS exception while loading {uri.module}: ")


def named(text: str, path: Callable[[str], Path] = Path) -> NamedKey:
    """Return the key of what follows ``pkcs11:``; raise UserError for what is no URI of one.

    ``path`` returns where the file of a public key lies.
    """
    uri = pkcs11_uri.parse(text)
    public = path(uri.public_key) if uri.public_key else None
    token = _Token(uri, seconds_of(uri.timeout, uri.shown()), public)
    files = (public,) if public else ()
    return NamedKey(uri.shown(), lambda: Pkcs11Signer(token, token.key()), files)
