"""Talks to a PKCS #11 module, in a process of its own: a module may hang or end the process that has it.

It is started as a program, reads one request from standard input and writes one answer to standard
output, both JSON; `pkcs11` describes them. It imports nothing of this package.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


class _Refused(Exception):  # noqa: N818 an answer
    """What keeps the key from being used: a word that `pkcs11` knows, and details that are no secret."""


def answer(request: Mapping[str, Any]) -> Mapping[str, Any]:
    """Look for the key that a request names; sign with it where there is something to sign."""
    try:
        import pkcs11
        from pkcs11 import exceptions
    except ImportError:
        return {"error": "no library"}
    try:
        library = pkcs11.lib(request["module"])
    except (
        Exception
    ) as error:  # the library raises its own RuntimeError and others for a file that is no module
        return {"error": "no module", "detail": str(error) or type(error).__name__}
    try:
        token = _token(library, request["place"], pkcs11)
        public = None if request["login"] else _described(token, request, pkcs11)
        return public or _signed(token, request, pkcs11)
    except _Refused as refused:
        return {"error": refused.args[0], "detail": refused.args[1]}
    except exceptions.PKCS11Error as error:  # its text is often empty: the kind of error tells
        return {"error": type(error).__name__, "detail": str(error)}


def _token(library: Any, place: Mapping[str, str], pkcs11: Any) -> Any:
    if not _matches(place, _library_facts(library)):
        raise _Refused("no token", "the module is of another library than the URI names")
    tokens, labels = [], []
    for slot in library.get_slots(token_present=True):
        try:
            token = slot.get_token()
        except (pkcs11.TokenNotPresent, pkcs11.TokenNotRecognised):
            continue
        if not token.flags & pkcs11.TokenFlag.TOKEN_INITIALIZED:
            continue
        labels.append(token.label)
        if _matches(place, {**_library_facts(library), **_facts(token, slot)}):
            tokens.append(token)
    if not tokens:
        raise _Refused("no token", f"there are {labels}" if labels else "there is none at all")
    if len(tokens) > 1:
        raise _Refused("several tokens", f"{len(tokens)} match")
    return tokens[0]


def _library_facts(library: Any) -> dict[str, str]:
    return {
        "library-manufacturer": library.manufacturer_id,
        "library-description": library.library_description,
        "library-version": ".".join(map(str, library.library_version)),
    }


def _facts(token: Any, slot: Any) -> dict[str, str]:
    serial = token.serial
    return {
        "token": token.label,
        "manufacturer": token.manufacturer_id,
        "serial": serial.decode(errors="replace") if isinstance(serial, bytes) else serial,
        "model": token.model,
        "slot-manufacturer": slot.manufacturer_id,
        "slot-description": slot.slot_description,
        "slot-id": str(slot.slot_id),
    }


def _matches(place: Mapping[str, str], facts: Mapping[str, str]) -> bool:
    return all(facts[name].rstrip(" \0") == value.rstrip() for name, value in place.items() if name in facts)


def _described(token: Any, request: Mapping[str, Any], pkcs11: Any) -> Mapping[str, Any] | None:
    """Describe the key by the public key beside it, which needs no PIN; None where there is none."""
    with token.open() as session:
        keys = _objects(session, request, pkcs11.ObjectClass.PUBLIC_KEY, pkcs11)
        return _numbers(_only(keys, pkcs11), session, request, pkcs11) if keys else None


def _signed(token: Any, request: Mapping[str, Any], pkcs11: Any) -> Mapping[str, Any]:
    """Log in, describe the key, and sign if there is something to sign.

    Without a login a private key looks as if it were not there.
    """
    login: Any = request["pin"]
    if login is None and token.flags & pkcs11.TokenFlag.LOGIN_REQUIRED:
        if not token.flags & pkcs11.TokenFlag.PROTECTED_AUTHENTICATION_PATH:
            raise _Refused("no pin", "")
        login = pkcs11.PROTECTED_AUTH
    with token.open(user_pin=login) as session:
        keys = _objects(session, request, pkcs11.ObjectClass.PRIVATE_KEY, pkcs11)
        if not keys:
            raise _Refused("no key", "")
        key = _only(keys, pkcs11)
        found = dict(_numbers(key, session, request, pkcs11))
        if request["data"] is not None:
            again = request["pin"] if _attribute(key, pkcs11.Attribute.ALWAYS_AUTHENTICATE, pkcs11) else None
            signature = key.sign(
                bytes.fromhex(request["data"]), mechanism=pkcs11.Mechanism.RSA_PKCS, pin=again
            )
            found["signature"] = signature.hex()
        return found


def _objects(session: Any, request: Mapping[str, Any], kind: Any, pkcs11: Any) -> Sequence[Any]:
    wanted: dict[Any, Any] = {pkcs11.Attribute.CLASS: kind}
    if request["label"] is not None:
        wanted[pkcs11.Attribute.LABEL] = request["label"]
    if request["id"] is not None:
        wanted[pkcs11.Attribute.ID] = bytes.fromhex(request["id"])
    return list(session.get_objects(wanted))


def _only(keys: Sequence[Any], pkcs11: Any) -> Any:
    if len(keys) > 1:
        raise _Refused("several keys", f"{len(keys)} match")
    if keys[0].key_type != pkcs11.KeyType.RSA:
        raise _Refused("no RSA key", getattr(keys[0].key_type, "name", "another kind"))
    return keys[0]


def _numbers(key: Any, session: Any, request: Mapping[str, Any], pkcs11: Any) -> Mapping[str, Any]:
    """Return a key's modulus, and its public exponent where the token tells it of either half."""
    modulus = _attribute(key, pkcs11.Attribute.MODULUS, pkcs11)
    exponent = _attribute(key, pkcs11.Attribute.PUBLIC_EXPONENT, pkcs11)
    if modulus is None:
        raise _Refused("no modulus", "")
    if not exponent:
        for half in _objects(session, request, pkcs11.ObjectClass.PUBLIC_KEY, pkcs11):
            if _attribute(half, pkcs11.Attribute.MODULUS, pkcs11) == modulus:
                exponent = _attribute(half, pkcs11.Attribute.PUBLIC_EXPONENT, pkcs11)
    return {"modulus": modulus.hex(), "exponent": exponent.hex() if exponent else None}


def _attribute(key: Any, attribute: Any, pkcs11: Any) -> Any:
    try:
        return key[attribute]
    except (pkcs11.AttributeTypeInvalid, pkcs11.AttributeSensitive, pkcs11.FunctionFailed, KeyError):
        return None


def main() -> None:
    """Answer one request."""
    answers = os.dup(1)
    os.dup2(2, 1)  # a module may print; the answer is ours
    request = json.load(sys.stdin)
    sys.path[:] = request["path"]
    with os.fdopen(answers, "w") as output:
        json.dump(answer(request), output)


if __name__ == "__main__":
    main()
