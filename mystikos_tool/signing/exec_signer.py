"""Keys behind a command, which gets a digest and writes the signature over it.

    exec:public-key=release.pub.pem [timeout=SECONDS] COMMAND [ARGUMENT…]

The command reads the SHA-256 digest, 32 bytes, from standard input and writes the PKCS#1 v1.5
signature, big-endian and as long as the modulus, to standard output. It is not run by a shell. Its
key is known by the file, and a signature by another one is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mystikos_tool.errors import UserError
from mystikos_tool.formats import pkcs1
from mystikos_tool.io import commands
from mystikos_tool.signing import rsa_public, secret
from mystikos_tool.signing.named_key import NamedKey, seconds_of
from mystikos_tool.signing.rsa_public import KnowsPublicKey, RsaPublicKey

_OPTIONS = ("public-key", "timeout")


@dataclass(frozen=True)
class ExecSigner(KnowsPublicKey):
    """Signs by a command, as `signer.Signer` asks."""

    _key: RsaPublicKey
    _command: tuple[str, ...]
    _seconds: float
    _shown: str

    def __repr__(self) -> str:
        return f"ExecSigner({self._shown!r})"  # arguments may hold secrets

    def sign(self, digest: bytes) -> bytes:
        """Return the signature over a SHA-256 digest; raise UserError where the command gives none."""
        size = (self.modulus.bit_length() + 7) // 8
        try:
            signature = commands.run(self._command, digest, seconds=self._seconds, limit=1 << 16)
        except commands.CommandFault as fault:
            remedy = "see what it does with 32 bytes on standard input"
            raise UserError(self._shown, str(fault), remedy) from None
        if len(signature) != size:
            problem = f"wrote {len(signature):,} bytes, and a signature by its key has {size}"
            raise UserError(self._shown, problem, "let it write the raw signature and nothing else")
        if not pkcs1.verifies(signature, digest, *self._key):
            problem = "wrote what is no PKCS#1 v1.5 signature over the digest by the key that was named"
            raise UserError(self._shown, problem, "let it sign the digest as it is, with that key")
        return signature


def named(text: str, path: Callable[[str], Path] = Path) -> NamedKey:
    """Return the key of what follows ``exec:``; raise UserError for what is none.

    ``path`` returns where the file of the public key lies.
    """
    words = secret.split(text, "exec:…")
    options: dict[str, str] = {}
    while words and words[0].partition("=")[0] in _OPTIONS and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        if name in options:
            raise UserError("exec:…", f"has {name}= twice", "leave one out")
        options[name] = value
    if not words:
        raise UserError("exec:…", "names no command", "write it behind the options")
    shown = f"exec:{words[0]}"
    if not options.get("public-key"):
        problem = "does not say which key it signs with"
        raise UserError(shown, problem, "name its public key: exec:public-key=FILE COMMAND")
    public, seconds = path(options["public-key"]), seconds_of(options.get("timeout"), shown)

    def load() -> ExecSigner:
        return ExecSigner(rsa_public.load(public), tuple(words), seconds, shown)

    return NamedKey(shown, load, (public,))
