"""What a relying party holds an enclave to, in the forms of those who check it.

json     for check-quote and other programs; policy.schema.json describes it
env      assignments for a shell
c        a header
maa      a policy of Microsoft Azure Attestation, version 1.0 (its documentation: "Examples of an
         attestation policy")
oe       claims of Open Enclave's evidence (openenclave/attestation/verifier.h), as oeverify shows them
gramine  environment of Gramine's RA-TLS library (its documentation: "Attestation and Secret
         Provisioning")
ego      what EGo's era takes, and a package in MarbleRun's manifest (their documentation)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from mystikos_tool.errors import UserError
from mystikos_tool.formats import sigstruct
from mystikos_tool.formats.sigstruct import SIGSTRUCT

# The schema of what to_json returns.
SCHEMA = Path(__file__).with_name("policy.schema.json")

FORMAT = 1
# Of SIGSTRUCT, with their sizes in bytes.
_NUMBERS = {
    "attributes": 8,
    "attributes_mask": 8,
    "xfrm": 8,
    "xfrm_mask": 8,
    "miscselect": 4,
    "miscmask": 4,
}
_SIZES = {"product_id": 2, "security_version": 2, **_NUMBERS}
_OE_DEBUG, _OE_REMOTE = 1, 2


class Policy(NamedTuple):
    """What a report of an enclave has to say.

    ``mrenclave`` is None where any enclave of the signer's product is accepted from
    ``security_version`` on. The numbers are those of SIGSTRUCT.
    """

    mrenclave: bytes | None
    mrsigner: bytes
    product_id: int
    security_version: int
    debug: bool
    attributes: int
    attributes_mask: int
    xfrm: int
    xfrm_mask: int
    miscselect: int
    miscmask: int

    def render(self, form: str) -> str:
        """Return the policy in one of `FORMS`."""
        return _RENDERERS[form](self)

    def to_json(self) -> str:
        """Return one JSON object as :data:`SCHEMA` describes it."""
        return json.dumps(self._document(), indent=1) + "\n"

    def _document(self) -> dict[str, object]:
        return {"format": FORMAT, **self._facts()}

    def _facts(self) -> dict[str, object]:
        return {
            "mrenclave": self.mrenclave.hex() if self.mrenclave else None,
            "mrsigner": self.mrsigner.hex(),
            "product_id": self.product_id,
            "security_version": self.security_version,
            "debug": self.debug,
            **{name: f"{getattr(self, name):#x}" for name in _NUMBERS},
        }

    @classmethod
    def from_json(cls, data: bytes, where: str) -> Policy:
        """Read a policy; raise UserError for what is none."""
        try:
            document = json.loads(data)
            policy = cls(
                mrenclave=bytes.fromhex(document["mrenclave"]) if document["mrenclave"] else None,
                mrsigner=bytes.fromhex(document["mrsigner"]),
                product_id=int(document["product_id"]),
                security_version=int(document["security_version"]),
                debug=bool(document["debug"]),
                **{name: int(document[name], 16) for name in _NUMBERS},
            )
            for name, size in _SIZES.items():
                getattr(policy, name).to_bytes(size, "little")
            # As text: 1, 1.0 and true are equal to each other.
            if json.dumps(document, sort_keys=True) != json.dumps(policy._document(), sort_keys=True):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
            raise UserError(
                where, "is no policy of this version", "make it with 'policy --format json'"
            ) from None
        if len(policy.mrsigner) != 32 or len(policy.mrenclave or bytes(32)) != 32:
            raise UserError(where, "has a digest of another size than 32 bytes", "make the policy again")
        return policy


def of(structure: bytes, *, any_version: bool = False) -> Policy:
    """Return the policy of a signed SIGSTRUCT; ``any_version`` accepts the signer's later enclaves too."""
    identity, fields = sigstruct.identity(structure), SIGSTRUCT.unpack(structure)
    return Policy(
        None if any_version else identity.mrenclave,
        identity.mrsigner,
        identity.product_id,
        identity.security_version,
        identity.debug,
        *(int(fields[name]) for name in _NUMBERS),
    )


def _env(policy: Policy) -> str:
    facts = policy._facts()
    shown = {
        name: int(value) if isinstance(value, bool) else "" if value is None else value
        for name, value in facts.items()
    }
    return "".join(f"MYST_{name.upper()}={value}\n" for name, value in shown.items())


def _c(policy: Policy) -> str:
    lines = [
        "/* What a report of the enclave has to say. */",
        "#ifndef MYST_POLICY_H",
        "#define MYST_POLICY_H",
        "",
    ]
    for name in ("mrenclave", "mrsigner"):
        digest: bytes | None = getattr(policy, name)
        if digest:
            lines.append(f"#define MYST_{name.upper()} {{ \\")
            rows = [digest[at : at + 8] for at in range(0, 32, 8)]
            lines += ["    " + "".join(f"0x{byte:02x}, " for byte in row) + "\\" for row in rows]
            lines += ["}"]
    lines += [
        f"#define MYST_PRODUCT_ID {policy.product_id}",
        f"#define MYST_SECURITY_VERSION {policy.security_version}",
        f"#define MYST_DEBUG {int(policy.debug)}",
        *(f"#define MYST_{name.upper()} {getattr(policy, name):#x}ull" for name in _NUMBERS),
    ]
    return "\n".join([*lines, "", "#endif", ""])


def _maa(policy: Policy) -> str:
    claims = [
        f'[ type=="x-ms-sgx-is-debuggable", value=={str(policy.debug).lower()} ]',
        f'[ type=="x-ms-sgx-product-id", value=={policy.product_id} ]',
        f'[ type=="x-ms-sgx-svn", value>={policy.security_version} ]',
        f'[ type=="x-ms-sgx-mrsigner", value=="{policy.mrsigner.hex()}" ]',
    ]
    if policy.mrenclave:
        claims.append(f'[ type=="x-ms-sgx-mrenclave", value=="{policy.mrenclave.hex()}" ]')
    rules = " &&\n    ".join(claims)
    return f"version= 1.0;\nauthorizationrules\n{{\n    {rules}\n    => permit();\n}};\n"


def _oe(policy: Policy) -> str:
    claims: dict[str, object] = {"unique_id": policy.mrenclave.hex()} if policy.mrenclave else {}
    claims |= {
        "signer_id": policy.mrsigner.hex(),
        "product_id": policy.product_id.to_bytes(16, "little").hex(),
        "security_version": policy.security_version,
        "attributes": _OE_REMOTE | (_OE_DEBUG if policy.debug else 0),
    }
    return json.dumps(claims, indent=1) + "\n"


def _gramine(policy: Policy) -> str:
    values = {
        "RA_TLS_MRENCLAVE": policy.mrenclave.hex() if policy.mrenclave else "any",
        "RA_TLS_MRSIGNER": policy.mrsigner.hex(),
        "RA_TLS_ISV_PROD_ID": policy.product_id,
        "RA_TLS_ISV_SVN": policy.security_version,
    }
    if policy.debug:
        values["RA_TLS_ALLOW_DEBUG_ENCLAVE_INSECURE"] = 1
    return "".join(f"{name}={value}\n" for name, value in values.items())


def _ego(policy: Policy) -> str:
    properties: dict[str, object] = {"UniqueID": policy.mrenclave.hex()} if policy.mrenclave else {}
    properties |= {
        "SignerID": policy.mrsigner.hex(),
        "ProductID": policy.product_id,
        "SecurityVersion": policy.security_version,
        "Debug": policy.debug,
    }
    return json.dumps(properties, indent=1) + "\n"


_RENDERERS: Mapping[str, Callable[[Policy], str]] = {
    "json": Policy.to_json,
    "env": _env,
    "c": _c,
    "maa": _maa,
    "oe": _oe,
    "gramine": _gramine,
    "ego": _ego,
}
FORMS = tuple(_RENDERERS)
