"""The functions of ``import mystikos_tool``: paths and options in, values out.

Each does what the SCons builder does that is called alike, from the same files to the same bytes.
What builders warn of goes to the logger "mystikos_tool", which prints it unless it is told otherwise.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import wraps
from inspect import signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, ParamSpec, TypeAlias, TypeVar, get_args

from mystikos_tool import config as config_reader
from mystikos_tool import pipeline, proof
from mystikos_tool.config import Config
from mystikos_tool.enclave.measurement import Measurement
from mystikos_tool.errors import UserError
from mystikos_tool.explain import check as checks
from mystikos_tool.explain import difference
from mystikos_tool.explain.check import Check
from mystikos_tool.explain.difference import Difference
from mystikos_tool.formats import quote as quotes
from mystikos_tool.formats.luks import Encryption
from mystikos_tool.formats.sigstruct import Identity
from mystikos_tool.io import atomic, lookup
from mystikos_tool.io.atomic import read_input
from mystikos_tool.packaging import disk_verification, inspection, quoted
from mystikos_tool.packaging.disk_verification import DiskVerification
from mystikos_tool.packaging.inspection import Inspection
from mystikos_tool.packaging.policy import Policy
from mystikos_tool.packaging.quoted import CheckedQuote
from mystikos_tool.packaging.verification import Expectations, Verification
from mystikos_tool.root import archive, assembly, output, root
from mystikos_tool.root import closure as closures
from mystikos_tool.root.disk import writer
from mystikos_tool.root.disk.nodes import nodes_of
from mystikos_tool.root.disk.writer import Disk
from mystikos_tool.root.oci import lock as locks
from mystikos_tool.root.oci import opening
from mystikos_tool.root.oci.process import Start
from mystikos_tool.root.oci.source import ImageSource
from mystikos_tool.root.permissions import permissions
from mystikos_tool.root.tree import Tree
from mystikos_tool.runtime import Runtime, embedded_loader
from mystikos_tool.signing import enclave_key, expectation, notation, root_keys
from mystikos_tool.signing.named_key import exposed
from mystikos_tool.signing.signer import Signer
from mystikos_tool.signing.statement import Signed, Statement
from mystikos_tool.signing.trusted import load_root_hash

StrPath: TypeAlias = str | os.PathLike[str]
Secrets: TypeAlias = Literal["warn", "error", "allow"]
Modes: TypeAlias = Literal["canonical", "preserve"]
Owners: TypeAlias = Literal["root", "preserve"]

_log = logging.getLogger("mystikos_tool")

_Takes = ParamSpec("_Takes")
_Returns = TypeVar("_Returns")

# Parameters that take one of few words, that take several of what is named, and that may be "".
_WORDS = {"secrets": get_args(Secrets), "modes": get_args(Modes), "owners": get_args(Owners)}
_SEVERAL = {"pubkeys", "roothashes", "exclude", "overlays", "programs", "extras", "accepted_tcb"}
_IN_ORDER = {"pubkeys", "roothashes", "overlays"}  # which a package's bytes depend on
_OPTIONAL_NAME = "name"
# Parameters whose values something else could be taken for: "no" for True, "1" for a number.
_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("strip", "data", "any_version", "no_debug"), bool),
    **dict.fromkeys(("product_id", "min_security_version", "size", "room", "time"), int),
    "passphrase": bytes,
    "day": date,
    "at": datetime,
}


def _checked(function: Callable[_Takes, _Returns]) -> Callable[_Takes, _Returns]:
    """Let a function raise UserError for arguments that would silently be taken for something else."""
    parameters = signature(function)

    @wraps(function)
    def checked(*args: _Takes.args, **kwargs: _Takes.kwargs) -> _Returns:
        for name, value in parameters.bind(*args, **kwargs).arguments.items():
            _check(name, value)
        return function(*args, **kwargs)

    return checked


def _check(name: str, value: object) -> None:
    if name in _WORDS and value not in _WORDS[name]:
        words = " or ".join(f'"{word}"' for word in _WORDS[name])
        raise UserError(name, f"cannot be {value!r}", f"give {words}")
    if name in _SEVERAL and isinstance(value, (str, bytes, os.PathLike)):
        raise UserError(name, f"is {value!r}, where a list is expected", f"give [{value!r}]")
    if name in _SEVERAL and isinstance(value, Iterator):
        raise UserError(name, "can be read only once", "give a list")
    if name in _IN_ORDER and isinstance(value, (set, frozenset)):
        raise UserError(name, "is a set, whose order changes from run to run", "give a list")
    if name in _TYPES and value is not None and not _is(value, _TYPES[name]):
        problem = f"cannot be a value of {type(value).__name__}"
        raise UserError(name, problem, f"give one of {_TYPES[name].__name__}")
    if value == "" and name != _OPTIONAL_NAME:  # as a path, the current directory
        raise UserError(name, "is empty", "name what belongs there, or leave it out")


def _is(value: object, kind: type) -> bool:
    """Tell whether a value is of a type; True and False are no numbers."""
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


@_checked
def package(
    target: StrPath,
    source: StrPath,
    *,
    config: StrPath | Config | Mapping[str, Any],
    key: StrPath | Signer,
    runtime: StrPath | None = None,
    pubkeys: Sequence[StrPath] = (),
    roothashes: Sequence[StrPath] = (),
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
    chmod: Mapping[str, int | str] = MappingProxyType({}),
    overlays: Sequence[StrPath] = (),
    strip: bool = False,
    day: date | None = None,
    secrets: Secrets = "warn",
) -> Measurement:
    """Run every stage and write a package; return the measurement of its enclave.

    ``source`` is what `measure` takes, ``key`` and ``day`` are what `sign` takes, and so are the
    others. ``secrets`` says what private keys in the root are, but for the signer's, which is an
    error. Raises UserError as these do, and when ``target`` cannot be written; an earlier target
    is then as it was.
    """
    configuration = _config(config)
    signs, signed_on = _signer(key), _day(day)
    _check_target(target, source, config, *_key_files(key), *pubkeys, *roothashes)
    tree = _tree(source, _packing(exclude, modes, chmod, overlays, strip))
    planned = pipeline.Planned(tree, str(source), signs, secrets)
    inputs = _inputs(source, configuration, runtime, pubkeys, roothashes, planned)
    return pipeline.build(
        inputs,
        signs,
        signed_on,
        Path(target),
        tree=tree,
        root=str(source),
        secrets=secrets,
        warn=_log.warning,
    )


@_checked
def pack(
    target: StrPath,
    source: StrPath,
    *,
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
    chmod: Mapping[str, int | str] = MappingProxyType({}),
    overlays: Sequence[StrPath] = (),
    strip: bool = False,
) -> None:
    """Pack an application directory into a CPIO archive, the root file system of an enclave.

    What matches a pattern of ``exclude`` stays out, as MYST_ROOTFS_EXCLUDE says. ``modes`` are
    "canonical", the same under every umask, or "preserve", as they are; ``chmod`` are modes by path or
    pattern, as MYST_ROOTFS_CHMOD says. ``overlays`` are directories and archives that are laid over the
    source, the last one on top. With ``strip``, programs and libraries lose their debug information.
    Raises UserError for what cannot be packed.
    """
    options = _packing(exclude, modes, chmod, overlays, strip)
    _check_target(target, source)
    archive.write(_assembled(Path(source), options), Path(target))


@_checked
def closure(
    target: StrPath,
    programs: Sequence[str],
    *,
    files: Mapping[str, StrPath] = MappingProxyType({}),
    sysroot: StrPath = "/",
    extras: Sequence[str] = (),
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
) -> None:
    """Write programs with all that they need to start: a new application directory, or an archive, *.cpio.

    ``programs`` are paths in ``sysroot``, which they keep in the root, and directories there. ``files``
    are programs and directories from elsewhere by their places in the root. ``extras`` are names of what
    programs open by name: "nss", "locale", "certificates", "timezones", "unwinder". ``exclude`` and
    ``modes`` are as in `pack`. Nothing is run. Raises UserError for a program or library that is missing, of
    another architecture or of a C library other than glibc and musl, and for a directory that is not empty.
    """
    if not programs and not files:
        raise UserError("programs", "names none, and there are no files", "name the programs to start")
    placed = {place: Path(path) for place, path in files.items()}
    tree = closures.of_files(
        programs,
        placed,
        sysroot=Path(sysroot),
        extras=extras,
        exclude=tuple(exclude),
        preserve_modes=modes == "preserve",
    )
    _warn(pipeline.warnings_of(tree, Path(target)))
    output.write(tree, Path(target), closures.sources_of(programs, placed, Path(sysroot)))


@_checked
def image(
    target: StrPath,
    source: StrPath,
    *,
    name: str = "",
    lock: StrPath = locks.FILE,
    exclude: Sequence[str] = (),
) -> dict[str, Any]:
    """Write the root of a container image: a new application directory, or an archive, *.cpio.

    ``source`` is an OCI layout directory, an archive of skopeo or docker save, or an image on a registry by
    its digest or by a tag that the file ``lock`` has; ``name`` says which of several images. ``exclude`` is
    as in `pack`. Returns what the image says of its program as members of a configuration, none where its
    program is not in the root. Raises UserError for an image that cannot be had, is damaged or not for
    linux/amd64, and for a directory that is not empty.
    """
    found = opening.named(os.fspath(source), name, Path(lock))
    tree, warnings = assembly.assembled(
        lambda exclude: ImageSource(found, exclude=exclude), assembly.Options(tuple(exclude))
    )
    _warn([*warnings, *pipeline.warnings_of(tree, Path(target))])
    output.write(tree, Path(target), opening.files_of(os.fspath(source)))
    try:
        return Start(found.where, found.process, tree).defaults({})
    except UserError as error:  # what was made is of use for all that
        _warn([str(error)])
        return {}


@_checked
def lock_images(*references: str, lock: StrPath = locks.FILE) -> dict[str, str]:
    """Ask registries which images tags stand for now, and write that down; return the digests.

    ``references`` are like docker.io/library/nginx:1.27; without any, all that are in the file ``lock`` are
    asked for anew. Raises UserError for what is no tag, and for what a registry does or does not do.
    """
    return {name: str(digest) for name, (_, digest) in locks.renew(Path(lock), references).items()}


@_checked
def measure(
    source: StrPath,
    *,
    config: StrPath | Config | Mapping[str, Any],
    runtime: StrPath | None = None,
    pubkeys: Sequence[StrPath] = (),
    roothashes: Sequence[StrPath] = (),
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
    chmod: Mapping[str, int | str] = MappingProxyType({}),
    overlays: Sequence[StrPath] = (),
    strip: bool = False,
) -> Measurement:
    """Lay an enclave out and measure it; return MRENCLAVE, the unsigned SIGSTRUCT and the layout.

    ``source`` is the root: an application directory (``exclude`` to ``strip`` are as in `pack`), an
    archive, or an ext2 disk. ``config`` is a configuration: a file, or a mapping with its members.
    ``runtime`` is the directory of an installed Mystikos, None the embedded runtime. ``pubkeys`` (PEM)
    and ``roothashes`` (64 hexadecimal digits) are files of what the enclave trusts on disks. Raises
    UserError when one of them cannot be read or when they do not fit together.
    """
    configuration = _config(config)
    tree = _tree(source, _packing(exclude, modes, chmod, overlays, strip))
    planned = pipeline.Planned(tree, str(source))
    inputs = _inputs(source, configuration, runtime, pubkeys, roothashes, planned)
    beside = Path(tempfile.gettempdir(), "rootfs")
    with pipeline.packed(inputs, tree, beside, str(source)) as whole:
        return pipeline.measure(whole, warn=_log.warning)


@_checked
def sign(
    measurement: Measurement,
    *,
    config: StrPath | Config | Mapping[str, Any],
    key: StrPath | Signer,
    runtime: StrPath | None = None,
    day: date | None = None,
) -> bytes:
    """Sign an enclave that was measured; return the signed enclave image, an ELF file.

    ``config`` and ``runtime`` are those that were measured. ``key`` is a file with a private key
    (PEM, RSA of 3072 bits, exponent 3) or a `Signer`. ``day`` is the date for the signature, None
    that of SOURCE_DATE_EPOCH or else today, in UTC. Raises UserError for another configuration or
    runtime, and for a key that SGX does not take or that gives no valid signature.
    """
    configuration, signs, signed_on = _config(config), _signer(key), _day(day)
    return pipeline.sign(measurement, Runtime.chosen(_directory(runtime)), configuration, signs, signed_on)


@_checked
def verify(
    package: StrPath,
    *,
    signer: StrPath | None = None,
    mrenclave: bytes | str | None = None,
    mrsigner: bytes | str | None = None,
    product_id: int | None = None,
    min_security_version: int | None = None,
    no_debug: bool = False,
    loader: StrPath | None = None,
    disk: StrPath | None = None,
) -> Verification:
    """Measure a package anew and check its signature; return what is proved so, its identity above all.

    What is given is expected, and anything else is refused: ``signer``, a PEM file with the signer's
    public key, certificate or private key, another key as ``pkcs11:…``, or MRSIGNER in hexadecimal;
    MRENCLAVE and MRSIGNER as 32 bytes or 64 hexadecimal digits; the lowest security version.
    ``loader`` is the file that the host program has to equal, which nothing measures; without it,
    that of the embedded runtime is recognized.
    ``disk`` is one that the package has to trust, by key or root hash, and that has to be whole.
    A signed directory is taken as its package.

    Raises VerificationError, naming the section, when anything does not fit, and UserError for what
    is neither or cannot be read.
    """
    expected = Expectations(
        mrenclave=None if mrenclave is None else expectation.digest(mrenclave, "mrenclave"),
        mrsigner=expectation.signer(
            signer, None if mrsigner is None else expectation.digest(mrsigner, "mrsigner")
        ),
        product_id=product_id,
        min_security_version=min_security_version,
        no_debug=no_debug,
    )
    given = None if loader is None else Path(loader)
    on_disk = None if disk is None else Path(disk)
    return proof.verify(Path(package), expected, given, embedded=embedded_loader(), disk=on_disk)


@_checked
def verify_disk(
    disk: StrPath, *, signer: StrPath | None = None, roothash: bytes | StrPath | None = None
) -> DiskVerification:
    """Hold every block of a disk against its root hash; return what is proved so.

    ``signer`` is a PEM file with the public key that has to have signed the disk, ``roothash`` the root
    hash that it has to have: 32 bytes, 64 hexadecimal digits, or a file with them. Raises
    VerificationError for another or a damaged disk, naming the file that a wrong block belongs to, and
    UserError for what is no disk.
    """
    expected = None
    if isinstance(roothash, bytes):
        expected = expectation.digest(roothash, "roothash")
    elif roothash is not None:
        is_file = os.path.exists(roothash)  # noqa: PTH110 may be digits
        path = Path(roothash)
        expected = load_root_hash(path) if is_file else expectation.digest(str(roothash), "roothash")
    keys = () if signer is None else (Path(signer),)
    return disk_verification.verify(Path(disk), pubkeys=keys, root_hash=expected)


@_checked
def disk(
    target: StrPath,
    source: StrPath,
    *,
    key: StrPath | Signer | None = None,
    encrypt: StrPath | None = None,
    passphrase: bytes | None = None,
    size: int | None = None,
    room: int | None = None,
    data: bool = False,
    owners: Owners = "root",
    time: int | None = None,
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
    chmod: Mapping[str, int | str] = MappingProxyType({}),
    overlays: Sequence[StrPath] = (),
    strip: bool = False,
    secrets: Secrets = "warn",
) -> Disk:
    """Make an ext2 disk with a hash tree of an application directory; return its root hash and sizes.

    ``key`` signs it: RSA of up to 8192 bits, named as in `sign`. ``encrypt`` is a file with a master key
    of 64 bytes, and ``passphrase`` lets cryptsetup open the disk too. ``size`` is that of the data area
    in bytes, a multiple of 4096; without it the disk has ``room`` (8 MiB) beside what its content needs.
    With ``data`` it has nothing that a kernel needs of a root. ``time`` is that of every file, in
    seconds since 1970. ``exclude`` to ``strip`` are as in `pack`, ``secrets`` as in `package`, but that in
    an encrypted disk nothing is looked for. Raises UserError for what a disk
    cannot hold or the kernel would refuse; an earlier target is then as it was.
    """
    options = _packing(exclude, modes, chmod, overlays, strip)
    if passphrase is not None and encrypt is None:
        raise UserError("passphrase", "is of use with encrypt only", "give a key file or no passphrase")
    if room is not None and size is not None:
        raise UserError("room", "has no effect with a size", "give one of the two")
    if room is not None and room < 0:
        raise UserError("room", f"cannot be {room}", "give a number of bytes")
    _check_target(target, source, encrypt, *_key_files(key))
    signer = None if key is None else _disk_signer(key)
    how = writer.Options(
        size=size,
        room=writer.ROOM if room is None else room,
        time=writer.TIME if time is None else time,
        boots=not data,
        encryption=None if encrypt is None else _encryption(Path(encrypt), passphrase),
        signer=signer,
    )
    tree = _assembled(Path(source), options, archive=False)
    if how.encryption is None:
        _warn(root_keys.told_of_disk(tree.entries, os.fspath(source), signer, secrets))
    return writer.write(nodes_of(tree, preserve_owners=owners == "preserve"), Path(target), how)


@_checked
def inspect(package: StrPath) -> Inspection:
    """Return what a package says about itself, unchecked.

    Raises UserError for what is no package.
    """
    return inspection.inspect(Path(package))


@_checked
def diff(a: StrPath, b: StrPath, *, exclude: Sequence[str] = (), modes: Modes = "canonical") -> Difference:
    """Compare two enclaves, down to the page; return what differs, and what probably made it so.

    Each is a package, a signed directory, a measurement, an archive or an application directory. A
    root alone stands for the enclave that the other one would be with it, two roots are compared as
    such; ``exclude`` and ``modes`` say how a directory is packed. Nothing is proved of either.
    Raises UserError for what cannot be read, and for a measurement beside a root.
    """
    preserve_modes = modes == "preserve"
    return difference.compare(Path(a), Path(b), exclude=tuple(exclude), preserve_modes=preserve_modes)


@_checked
def check(
    root: StrPath,
    *,
    config: StrPath | Config | Mapping[str, Any] | None = None,
    disk: StrPath | None = None,
    exclude: Sequence[str] = (),
    modes: Modes = "canonical",
) -> Check:
    """Look for what of a root cannot work in an enclave, from its files; return what is found.

    ``root`` is an application directory (``exclude`` and ``modes`` are as in `pack`), an archive, a disk, a
    package or a signed directory; ``disk`` is the root of a package that has it on one. ``config`` is as in
    `measure`; without it that of the package counts, and nothing is known of the program to start where there
    is none. Raises UserError for what is nothing of these or cannot be read, and for a package whose root
    is on a disk that is not given.
    """
    return checks.check(
        Path(root),
        None if config is None else _config(config),
        disk=None if disk is None else Path(disk),
        exclude=tuple(exclude),
        preserve_modes=modes == "preserve",
    )


@_checked
def statement(package: StrPath, *, day: date | None = None) -> Statement:
    """State what is to be signed, so that somebody elsewhere gives a package its signature.

    The package, or signed directory, which any key signed, is measured anew. ``day`` is as in `sign`, and is
    what the signature says on whichever day it is attached. Raises UserError as `verify` does.
    """
    return proof.state_package(Path(package), _day(day))


@_checked
def attach(
    target: StrPath,
    package: StrPath,
    statement: StrPath | Statement,
    signature: StrPath,
    public_key: StrPath,
) -> Identity:
    """Write a package with a signature that was made elsewhere; return the identity of its enclave.

    Of a signed directory ``target`` is a directory, too, and may be the same. ``statement`` is what
    `statement` gave for the same enclave, or its JSON file; ``signature`` is a file of 384 bytes, big-endian;
    ``public_key`` is a PEM file with the signer's public key or certificate. Raises UserError, and writes
    nothing, where these do not fit the package and each other.
    """
    _check_target(target, None, statement, signature, public_key)
    return proof.attach_to_package(
        Path(package),
        _statement(statement),
        Signed.read(Path(signature), Path(public_key)),
        Path(target),
    )


@_checked
def policy(package: StrPath, *, any_version: bool = False) -> Policy:
    """Return what a relying party holds the enclave of a package to, once the package is verified.

    A signed directory is taken as its package.
    With ``any_version`` MRENCLAVE is left out: the signer's later versions of the product are accepted
    too. Raises UserError as `verify` does.
    """
    return proof.policy(Path(package), any_version=any_version)


@_checked
def check_quote(
    quote: StrPath,
    *,
    policy: StrPath | Policy | None = None,
    collateral: StrPath | None = None,
    accepted_tcb: Sequence[str] = (),
    at: datetime | None = None,
) -> CheckedQuote:
    """Read an SGX quote (ECDSA, version 3), hold its report to a policy and verify who made it.

    ``policy`` is what `policy` gave, or its JSON file. ``collateral`` is a directory with the root's
    certificate and what Intel says of the platform, against which signatures, certificates and TCB
    are verified as of ``at``, None for now; without it nothing of these is. ``accepted_tcb`` are TCB
    statuses that are accepted beside UpToDate. What is not as expected is in ``problems``.

    Raises VerificationError for signatures, certificates and collateral that do not hold, and
    UserError for files that cannot be read, a quote that is cut or another kind, no policy, and a time
    without its zone.
    """
    if at is not None and at.tzinfo is None:
        raise UserError("at", "has no time zone", "give it one: at.replace(tzinfo=timezone.utc)")
    for name, given in (("accepted_tcb", accepted_tcb), ("at", at)):
        if given and collateral is None:
            raise UserError(name, "is of use with collateral only", "give the collateral")
    parsed = quotes.parse(read_input(Path(quote), "quote"), str(quote))
    if policy is not None and not isinstance(policy, Policy):
        policy = Policy.from_json(read_input(Path(policy), "policy"), str(policy))
    checked = quoted.check(parsed, policy)
    if collateral is None:
        return checked
    from mystikos_tool.packaging import quote_proof  # loads the cryptography library

    proof = quote_proof.prove(parsed, Path(collateral), at or quote_proof.now(), str(quote))
    return checked._replace(proof=proof, accepted_tcb=tuple(accepted_tcb))


def _check_target(target: StrPath, source: StrPath | None, *inputs: object) -> None:
    """Refuse to write over what is read, and into the directory that is packed."""
    files = [Path(given) for given in (source, *inputs) if isinstance(given, (str, os.PathLike))]
    packed = Path(source) if source is not None and lookup.is_dir(Path(source)) else None
    atomic.check_target(Path(target), files, packed)


def _key_files(key: StrPath | Signer | None) -> tuple[Path, ...]:
    return notation.parse(key).files if isinstance(key, (str, os.PathLike)) else ()


def _statement(given: StrPath | Statement) -> Statement:
    if isinstance(given, Statement):
        return given
    return Statement.from_json(read_input(Path(given), "statement"), str(given))


def _inputs(
    source: StrPath,
    config: Config,
    runtime: StrPath | None,
    pubkeys: Sequence[StrPath],
    roothashes: Sequence[StrPath],
    planned: pipeline.Planned,
) -> pipeline.Inputs:
    return pipeline.inputs_of(
        config,
        root.of(Path(source)),
        [Path(path) for path in pubkeys],
        [Path(path) for path in roothashes],
        _directory(runtime),
        planned,
    )


def _packing(
    exclude: Sequence[str],
    modes: Modes,
    chmod: Mapping[str, int | str],
    overlays: Sequence[StrPath],
    strip: bool,
) -> assembly.Options:
    return assembly.Options(
        exclude=tuple(exclude),
        preserve_modes=modes == "preserve",
        chmod=permissions(chmod.items()),
        overlays=tuple(Path(path) for path in overlays),
        strip=strip,
    )


def _tree(source: StrPath, options: assembly.Options) -> Tree | None:
    """Return what is to be packed; None where that was done before."""
    directory = Path(source)
    if lookup.is_dir(directory):
        return _assembled(directory, options)
    if options != assembly.Options():
        problem = "is no directory, and exclude, modes and the like are for what is packed"
        raise UserError(str(directory), problem, "give an application directory, or leave them out")
    return None


def _assembled(directory: Path, options: assembly.Options, *, archive: bool = True) -> Tree:
    tree, warnings = assembly.assembled(directory, options)
    _warn([*warnings, *pipeline.warnings_of(tree, directory, archive=archive)])
    return tree


def _config(config: StrPath | Config | Mapping[str, Any]) -> Config:
    if isinstance(config, Config):
        config_reader.check_as_read(config)
        return config
    if isinstance(config, Mapping):
        loaded = config_reader.of(config, "the configuration")
    else:
        loaded = config_reader.load(Path(config))
    _warn(loaded.warnings)
    return loaded


def _directory(given: StrPath | None) -> Path | None:
    return None if given is None else Path(given)


def _signer(key: StrPath | Signer) -> Signer:
    if not isinstance(key, (str, os.PathLike)):
        return key
    named = notation.parse(key)
    _warn(named.warnings())
    return enclave_key.for_enclaves(named)


def _encryption(key: Path, passphrase: bytes | None) -> Encryption:
    made = writer.encryption(key, passphrase)
    _warn(filter(None, [exposed(key)]))
    return made


def _disk_signer(key: StrPath | Signer) -> Signer:
    if not isinstance(key, (str, os.PathLike)):
        return key
    from mystikos_tool.signing import disk_key  # loads the cryptography library

    named = notation.parse(key)
    _warn(named.warnings())
    return disk_key.for_disks(named)


def _day(day: date | None) -> date:
    return day or pipeline.signing_day(os.environ.get("SOURCE_DATE_EPOCH"))


def _warn(messages: Iterable[str]) -> None:
    for message in messages:
        _log.warning(message)
