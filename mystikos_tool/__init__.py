"""Build Mystikos enclave packages: an application directory becomes one signed ELF file.

What the SCons builders do, without SCons: `package` runs every stage, `pack`, `measure` and `sign`
one each; `statement` and `attach` let somebody elsewhere sign; `verify` and `inspect` look into a
package that is there, `diff` into two.

    >>> import mystikos_tool
    >>> measurement = mystikos_tool.package(
    ...     "hello", "appdir", config="config.json", key="private.pem"
    ... )
    >>> identity = mystikos_tool.verify("hello")
    >>> identity.mrenclave == measurement.mrenclave
    True
    >>> (identity.product_id, identity.security_version, identity.debug)
    (7, 2, False)
    >>> mystikos_tool.inspect("hello").zero_base
    False

A mistake in what was given raises `UserError`, which says where it is, what is wrong there, and
what to do about it; everything else that is raised is a bug.

    >>> try:
    ...     mystikos_tool.verify("config.json")
    ... except mystikos_tool.UserError as mistake:
    ...     print(mistake)
    config.json: is a configuration, no package; ...

Stable are the names in ``__all__``: what they take, return and raise. Everything else here, the
modules below included, may change with any version.
"""

from __future__ import annotations

__version__ = "0.1.0"

__all__ = [
    "Check",
    "CheckedQuote",
    "Config",
    "Difference",
    "Disk",
    "DiskVerification",
    "Finding",
    "Identity",
    "Inspection",
    "Measurement",
    "Policy",
    "Signer",
    "Statement",
    "UserError",
    "Verification",
    "VerificationError",
    "__version__",
    "attach",
    "check",
    "check_quote",
    "closure",
    "diff",
    "disk",
    "image",
    "inspect",
    "lock_images",
    "measure",
    "pack",
    "package",
    "policy",
    "sign",
    "statement",
    "verify",
    "verify_disk",
]

# Type checkers take this name for true. Importing typing for it would be most of this import.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from mystikos_tool.config import Config
    from mystikos_tool.enclave.measurement import Measurement
    from mystikos_tool.errors import UserError
    from mystikos_tool.explain.check import Check
    from mystikos_tool.explain.difference import Difference
    from mystikos_tool.formats.sigstruct import Identity
    from mystikos_tool.library import (
        attach,
        check,
        check_quote,
        closure,
        diff,
        disk,
        image,
        inspect,
        lock_images,
        measure,
        pack,
        package,
        policy,
        sign,
        statement,
        verify,
        verify_disk,
    )
    from mystikos_tool.packaging.disk_verification import DiskVerification
    from mystikos_tool.packaging.inspection import Inspection
    from mystikos_tool.packaging.policy import Policy
    from mystikos_tool.packaging.quoted import CheckedQuote
    from mystikos_tool.packaging.verification import Verification, VerificationError
    from mystikos_tool.root.disk.writer import Disk
    from mystikos_tool.root.suitability import Finding
    from mystikos_tool.signing.signer import Signer
    from mystikos_tool.signing.statement import Statement

_MODULES = {
    "Check": "explain.check",
    "CheckedQuote": "packaging.quoted",
    "Config": "config",
    "Difference": "explain.difference",
    "Disk": "root.disk.writer",
    "DiskVerification": "packaging.disk_verification",
    "Finding": "root.suitability",
    "Identity": "formats.sigstruct",
    "Inspection": "packaging.inspection",
    "Measurement": "enclave.measurement",
    "Policy": "packaging.policy",
    "Signer": "signing.signer",
    "Statement": "signing.statement",
    "UserError": "errors",
    "Verification": "packaging.verification",
    "VerificationError": "packaging.verification",
    **{name: "library" for name in __all__ if name.islower() and not name.startswith("_")},  # the functions
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: a build with nothing to do uses none."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """Return every name, loaded or not."""
    return sorted({*globals(), *__all__})
