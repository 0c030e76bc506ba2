"""The builders: which nodes each stage takes and makes.

Every node that a stage makes carries the enclave's other nodes, so that the next stage needs to
be given nothing but that node.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import SCons.Errors
from SCons.Node import NodeList

from mystikos_tool.scons import arguments, documents, exclusion, intermediates, sources, variables
from mystikos_tool.scons.actions import REVISION, stage_builder
from mystikos_tool.scons.calls import check_no_source, environment, made
from mystikos_tool.scons.input_file import input_file
from mystikos_tool.scons.running import StartAction, root_disks, started_file
from mystikos_tool.scons.runtime import runtime_files, runtime_nodes
from mystikos_tool.scons.signing_key import SigningKey
from mystikos_tool.scons.stages import (
    CONFIG,
    CONFIG_SET,
    ROOT_HASH,
    Checked,
    Digest,
    Disk,
    DiskLayout,
    Enclave,
    Identity,
    Image,
    Measurement,
    Package,
    PublicKey,
    Rootfs,
    Stage,
    Stated,
    mark,
    stage_for,
    stage_of,
)

_MEASUREMENT_SUFFIX = ".measurement.json"
_IMAGE_SUFFIX = ".mystenc.so"
_STATEMENT_SUFFIX = ".statement.json"
_DIGEST_SUFFIX = ".digest"
_CHECK_SUFFIX = ".check.json"
_DISK_SUFFIX = ".disk"
_PUBLIC_KEY_SUFFIX = ".pub"

_ROOTFS = stage_builder("rootfs")
_DISK = stage_builder("disk")
_PUBLIC_KEY = stage_builder("publickey")
_MEASURE = stage_builder("measure")
_SIGN = stage_builder("sign")
_DIGEST = stage_builder("digest")
_ATTACH = stage_builder("attach")
_PACKAGE = stage_builder("package")
_IDENTITY = stage_builder("identity")
_CHECK = stage_builder("check")
_KEY = stage_builder("key")

# What aliases start; SCons would add the action of a call once more.
_starts: set[tuple[int, str, str, str]] = set()


def myst_rootfs(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Pack application directories, files and mappings: ``MystRootfs(target, source)``."""
    env = environment(env, "MystRootfs", overrides)
    variables.check_matter("MystRootfs", overrides, (variables.SOURCE, variables.PACKED, variables.ROOTFS))
    name = arguments.target_name(env, target, "MystRootfs")
    source = arguments.root_sources(env, source, "MystRootfs")
    return NodeList([_rootfs(env, sources.suffixed(name, sources.ROOTFS_SUFFIX), source, "MystRootfs")])


def myst_disk(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make an ext2 disk with a hash tree, of what MystRootfs takes: ``MystDisk(target, source)``."""
    env = environment(env, "MystDisk", overrides)
    stages = (variables.SOURCE, variables.PACKED, variables.DISK, variables.PUBLIC_KEY)
    variables.check_matter("MystDisk", overrides, stages)
    name = sources.suffixed(arguments.target_name(env, target, "MystDisk"), _DISK_SUFFIX)
    source = arguments.root_sources(env, source, "MystDisk")
    return NodeList([_disk(env, name, source)])


def myst_source(env: Any, source: Any = None, **overrides: Any) -> Any:
    """Give sources of a root variables of their own: ``MystSource(source, MYST_ROOTFS_MODES=…)``."""
    env = environment(env, "MystSource", overrides, parameters=("source",))
    variables.check_matter("MystSource", overrides, (variables.SOURCE,))
    given = arguments.root_sources(env, source, "MystSource")
    if not given:
        raise SCons.Errors.UserError("MystSource needs a source; give directories, files and mappings")
    return arguments.OwnVariables(given, env)


def myst_closure(env: Any, *programs: Any, **overrides: Any) -> Any:
    """Take programs with all that they need to start: ``MystClosure("/usr/bin/python3", …)``."""
    env = environment(env, "MystClosure", overrides, parameters=("programs",))
    variables.check_matter("MystClosure", overrides, (variables.SOURCE, variables.CLOSURE))
    given = arguments.programs(env, programs, "MystClosure")
    if not any(one is None or one for one in given):
        raise SCons.Errors.UserError("MystClosure needs a program; give paths, files and mappings")
    sysroot = env.Dir(env[variables.SYSROOT]) if env[variables.SYSROOT] else None
    return arguments.Programs(given, env, sysroot)


def myst_image(env: Any, source: Any = None, *, name: str = "", **overrides: Any) -> Any:
    """Take the root of a container image: ``MystImage("layout")``, an archive, ``HOST/NAME@sha256:…``."""
    env = environment(env, "MystImage", overrides, parameters=("source", "name"))
    variables.check_matter("MystImage", overrides, (variables.SOURCE, variables.IMAGE))
    name = "" if arguments.is_empty(name) else arguments.name(env, "MystImage: the name", name)
    if reference := sources.reference(env, source):
        if name:
            raise SCons.Errors.UserError(f"MystImage: {reference} is one image, and has no name {name}")
        return arguments.Image([env.File(env[variables.IMAGE_LOCK])], env, reference, True)
    nodes = arguments.nodes(env, "MystImage: the image", source, "a directory or a file")
    if len(nodes) != 1:
        raise SCons.Errors.UserError(f"MystImage takes one image, not {len(nodes)}")
    return arguments.Image(nodes, env, name, False)


def myst_measure(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Measure an enclave: ``MystMeasure(target, rootfs)``; the root may be a disk of MystDisk.

    With MYST_ROOT="disk" the source is a disk or none.
    """
    env = environment(env, "MystMeasure", overrides)
    name = sources.suffixed(arguments.target_name(env, target, "MystMeasure"), _MEASUREMENT_SUFFIX)
    archive = name.removesuffix(_MEASUREMENT_SUFFIX) + sources.ROOTFS_SUFFIX
    source = arguments.root_sources(env, source, "MystMeasure")
    if overrides:
        added = _stages_before_signing(env, sources.only_node(source))
        variables.check_matter("MystMeasure", overrides, added)
    node = sources.target_node(env, name, "MystMeasure")
    root = _root(env, archive, source, "MystMeasure", node)
    return NodeList([_measurement(env, name, root)])


def myst_sign(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Sign what MystMeasure measured: ``MystSign(target, measurement)``."""
    env = environment(env, "MystSign", overrides)
    variables.check_matter("MystSign", overrides, (variables.SIGN,))
    measurement = sources.one_node(env, source, "MystSign")
    if not isinstance(stage_of(measurement), Measurement):
        raise SCons.Errors.UserError(f"MystSign signs what MystMeasure made; {measurement} is something else")
    name = sources.suffixed(arguments.target_name(env, target, "MystSign"), _IMAGE_SUFFIX)
    return NodeList([_image(env, name, measurement)])


def myst_digest(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """State what is to be signed elsewhere: ``MystDigest(target, measurement)``.

    Makes a statement, target.statement.json, and the digest to be signed, target.digest.
    """
    env = environment(env, "MystDigest", overrides)
    variables.check_matter("MystDigest", overrides, (variables.DIGEST,))
    measurement = sources.one_node(env, source, "MystDigest")
    if not isinstance(stage_of(measurement), Measurement):
        problem = f"MystDigest states what MystMeasure made; {measurement} is something else"
        raise SCons.Errors.UserError(problem)
    name = arguments.target_name(env, target, "MystDigest")
    statement = _statement(env, name + _STATEMENT_SUFFIX, measurement)
    env.NoClean(statement)  # a signature may belong to it
    digest = sources.target_node(env, name + _DIGEST_SUFFIX, "MystDigest")
    return NodeList([statement, made(_DIGEST, env, digest, [statement], Digest(statement=statement))])


def myst_attach(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Attach a signature made elsewhere: ``MystAttach(target, [digest, "signature", "certificate"])``.

    The source is what MystDigest made, the signature, and the signer's public key or certificate.
    """
    env = environment(env, "MystAttach", overrides)
    variables.check_matter("MystAttach", overrides, (variables.ATTACH,))
    nodes = arguments.nodes(env, "MystAttach: a source", source, "what MystDigest made, and two files")
    statements = {_statement_of(node) for node in nodes} - {None}
    given = [node for node in nodes if _statement_of(node) is None]
    if len(statements) != 1 or len(given) != 2:
        takes = "what MystDigest made, a signature, and a public key or certificate"
        raise SCons.Errors.UserError(f"MystAttach takes {takes}, in this order")
    (statement,) = statements
    stage = stage_for(statement, Stated)
    image = Image(enclave=stage.enclave, measurement=stage.measurement)
    wanted = "sign the digest that MystDigest wrote and put the signature there, or correct the name"
    files = [input_file(node, "MystAttach", wanted) for node in given]
    name = sources.suffixed(arguments.target_name(env, target, "MystAttach"), _IMAGE_SUFFIX)
    node = sources.target_node(env, name, "MystAttach")
    # The digest is written first: where the signature does not fit, there is something to sign anew.
    digests = [node for node in nodes if isinstance(stage_of(node), Digest)]
    parts = [stage.measurement, statement, *files, *digests]
    return NodeList([made(_ATTACH, env, node, parts, image)])


def _statement_of(node: Any) -> Any:
    """Return the node of the statement that a node is or is the digest of; None for another's."""
    stage = stage_of(node)
    if isinstance(stage, Digest):
        return stage.statement
    return node if isinstance(stage, Stated) else None


def myst_package(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a package: ``MystPackage(target, source)``.

    The source is what MystRootfs takes, a root file system, a disk of MystDisk, a measurement or a
    signed image; the stages before it are added. With MYST_ROOT="disk" the source is a disk or none.
    """
    env = environment(env, "MystPackage", overrides)
    name = arguments.target_name(env, target, "MystPackage")
    package = sources.target_node(env, name, "MystPackage")
    source = arguments.root_sources(env, source, "MystPackage")
    node = sources.only_node(source)
    stage = stage_of(node)
    if overrides:
        added = (*_stages_before_packaging(env, node), variables.PACKAGE)
        variables.check_matter("MystPackage", overrides, added)
    if not isinstance(stage, Image):
        if not isinstance(stage, Measurement):
            root = _root(env, name + sources.ROOTFS_SUFFIX, source, "MystPackage", package)
            node = _measurement(env, name + _MEASUREMENT_SUFFIX, root, package)
        node = _image(env, name + _IMAGE_SUFFIX, node, package)
    return NodeList([_packaged(env, package, node)])


def myst_identity(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Write MRENCLAVE and MRSIGNER into files of their own: ``MystIdentity(package)``.

    Without a target they are named after the package. A measurement has no signer, and gives
    MRENCLAVE alone; a disk gives its root hash.
    """
    env = environment(env, "MystIdentity", overrides)
    variables.check_matter("MystIdentity", overrides, (variables.IDENTITY,))
    if source is None:
        target, source = None, target
    node = sources.one_node(env, source, "MystIdentity")
    image = node.sources[0] if isinstance(stage_of(node), Package) else node
    if not isinstance(stage_of(image), Image | Measurement | Disk):
        made = "what MystPackage, MystSign, MystMeasure or MystDisk made"
        raise SCons.Errors.UserError(f"MystIdentity takes {made}; {node} is something else")
    name = _without_suffix(node) if target is None else arguments.target_name(env, target, "MystIdentity")
    if isinstance(stage_of(image), Disk):
        return NodeList([_identity(env, name, ROOT_HASH, image)])
    if isinstance(stage_of(image), Measurement):
        return NodeList([_identity(env, name, "mrenclave", image)])
    measurement = stage_for(image, Image).measurement
    return NodeList([_identity(env, name, "mrenclave", measurement), _identity(env, name, "mrsigner", image)])


def _without_suffix(node: Any) -> str:
    path = str(node.get_abspath())
    return path.removesuffix(_MEASUREMENT_SUFFIX).removesuffix(_IMAGE_SUFFIX)


def _identity(env: Any, name: str, measure: str, made_of: Any) -> Any:
    node = sources.target_node(env, f"{name}.{measure}", "MystIdentity")
    return made(_IDENTITY, env, node, [made_of], Identity(detail=measure, measure=measure))


def myst_check(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Look for what cannot work in an enclave: ``MystCheck("hello", package)``.

    The source is a package, or a root as MystPackage takes one, be it a disk, which MYST_CONFIG is held
    against. Of a package whose root is on a disk, that disk is looked into.
    """
    env = environment(env, "MystCheck", overrides)
    name = sources.suffixed(arguments.target_name(env, target, "MystCheck"), _CHECK_SUFFIX)
    report = sources.target_node(env, name, "MystCheck")
    source = arguments.root_sources(env, source, "MystCheck")
    node, fails = sources.only_node(source), env["MYST_CHECK_FAILS"]
    if isinstance(stage_of(node), Package):
        variables.check_matter("MystCheck", overrides, (variables.CHECK,))
        return NodeList([_checked_package(env, report, node)])
    packs = (variables.SOURCE, variables.PACKED, variables.ROOTFS)
    variables.check_matter("MystCheck", overrides, (*packs, variables.CONFIGURE, variables.CHECK))
    archive = name.removesuffix(_CHECK_SUFFIX) + sources.ROOTFS_SUFFIX
    rootfs, disk = _root(env, archive, source, "MystCheck", report)
    root = rootfs or disk
    if root is None:
        problem = f'MystCheck needs what to look into with MYST_ROOT="{variables.DISK}"; give the disk'
        raise SCons.Errors.UserError(problem)
    config, given = sources.configuration(env) if env[CONFIG] or env[CONFIG_SET] else (None, None)
    stage = Checked(detail=fails, rootfs=rootfs, disk=disk, config=config, given=given, fails=fails)
    stage.added = _added_for(report, root)
    return NodeList([made(_CHECK, env, report, [root, *([config] if config else [])], stage)])


def _checked_package(env: Any, report: Any, package: Any) -> Any:
    fails, disks = env["MYST_CHECK_FAILS"], root_disks(package)
    if not (disks or stage_for(package, Package).enclave.rootfs):
        problem = f"MystCheck: the root of {package} is on a disk that is not at hand"
        raise SCons.Errors.UserError(f"{problem}; give MystPackage the disk, or check the disk itself")
    disk = next(iter(disks), None)
    stage = Checked(detail=fails + " disk" * bool(disks), disk=disk, fails=fails)
    return made(_CHECK, env, report, [package, *disks], stage)


def myst_runtime(env: Any, **overrides: Any) -> Any:
    """Return the runtime's nodes: loader, enclave image, kernel and C runtime."""
    env = environment(env, "MystRuntime", overrides, parameters=())
    variables.check_matter("MystRuntime", overrides, (variables.RUNTIME,))
    return NodeList(runtime_nodes(env))


def myst_key(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a development key once; neither a clean nor a rebuild ever removes it."""
    if source:
        raise SCons.Errors.UserError("MystKey takes no source")
    env = environment(env, "MystKey", overrides, parameters=("target",))
    variables.check_matter("MystKey", overrides, (variables.KEY,))
    node = sources.target_node(env, arguments.target_name(env, target, "MystKey"), "MystKey")
    if node.builder is _KEY:
        return NodeList([node])  # which environment asks for a key makes no difference
    nodes = _KEY(env, [node], [])
    mark(node, Stage())
    env.Precious(nodes)
    env.NoClean(nodes)
    env.NoCache(nodes)
    return nodes


def myst_run(env: Any, alias: str, package: Any, args: Any = (), **overrides: Any) -> Any:
    """Add an alias that starts a package with arguments: ``MystRun("run", package, ["red"])``."""
    caller = id(env)
    env = environment(env, "MystRun", overrides, parameters=("alias", "package", "args"))
    variables.check_matter("MystRun", overrides, (variables.RUN, variables.START))
    node = started_file(sources.one_node(env, package, "MystRun"), "MystRun")
    alias = arguments.name(env, "MystRun: the alias", alias)
    start = StartAction(node, arguments.program_arguments("MystRun", args))
    described = (caller, alias, str(start), repr(overrides))
    nodes = env.Alias(alias, [node, *root_disks(node)], [] if described in _starts else start)
    _starts.add(described)
    env.AlwaysBuild(nodes)
    return nodes


def myst_test(env: Any, name: str, package: Any, *, args: Any = (), **expected: Any) -> Any:
    """Run a package as a test: ``MystTest("hello-red", package, args=["red"], stdout="red\\n")``.

    Takes ``args``, ``environment``, ``stdin``, ``status``, ``stdout``, ``stdout_pattern``,
    ``stderr``, ``stderr_pattern``, ``timeout`` and ``strict``, and overrides of construction variables.
    The alias ``check`` runs all tests and ends with a summary.
    """
    from mystikos_tool.scons import expectations, testing  # not needed where there are no tests

    fields = tuple(field.name for field in dataclasses.fields(expectations.Expectation))
    overrides = {key: value for key, value in expected.items() if key not in fields}
    env = environment(env, "MystTest", overrides, parameters=("name", "package", *fields))
    variables.check_matter("MystTest", overrides, (variables.TEST, variables.START))
    given = {key: value for key, value in expected.items() if key in fields}
    expectation = expectations.expectation(args=arguments.program_arguments("MystTest", args), **given)
    name = arguments.file_name(env, "MystTest: the name", name)
    if env[variables.REMOTE_EXECUTOR]:
        from mystikos_tool.scons import farm

        farm.check(env, expectation)
    node = started_file(sources.one_node(env, package, "MystTest"), "MystTest")
    return testing.described(env, name, node, expectation)


def _stages_before_packaging(env: Any, node: Any) -> tuple[str, ...]:
    """Return the stages that are added between a call's one source, if it is one, and its package."""
    stage = stage_of(node)
    if isinstance(stage, Image):
        return ()
    before = () if isinstance(stage, Measurement) else _stages_before_signing(env, node)
    return (*before, variables.SIGN)


def _stages_before_signing(env: Any, node: Any) -> tuple[str, ...]:
    """Return the stages that are added between a call's one source, if it is one, and its measurement."""
    is_archive = node and not sources.is_dir(sources.resolved(node))
    packs = not is_archive and env["MYST_ROOT"] != variables.DISK
    return (
        *((variables.SOURCE, variables.PACKED, variables.ROOTFS) if packs else ()),
        variables.CONFIGURE,
        variables.MEASURE,
        variables.RUNTIME,
    )


class _Root(NamedTuple):
    """The node of an archive, or that of a disk, None where it is not at hand."""

    rootfs: Any = None
    disk: Any = None


def _root(env: Any, name: str, source: list[Any] | None, builder: str, added_for: Any) -> _Root:
    """Return the root, given or packed from its sources, or a disk."""
    node = sources.only_node(source)
    if env["MYST_ROOT"] == variables.DISK:
        if source and (not node or sources.is_dir(sources.resolved(node))):
            problem = f'{builder} takes a disk or no source with MYST_ROOT="{variables.DISK}"'
            raise SCons.Errors.UserError(f"{problem}; make a disk with MystDisk")
        return _Root(disk=input_file(node) if node else None)
    if isinstance(stage_of(node), Disk):
        return _Root(disk=node)
    if node and not isinstance(stage_of(node), Rootfs | None):
        raise SCons.Errors.UserError(f"{builder} cannot take {node} as a root file system")
    if node and not sources.is_dir(sources.resolved(node)):
        return _Root(input_file(node))
    return _Root(_rootfs(env, name, source, builder, added_for))


def _rootfs(env: Any, name: str, source: list[Any] | None, builder: str, added_for: Any = None) -> Any:
    nodes = sources.root_sources(env, source or [])
    if not nodes:
        disk = "" if builder == "MystRootfs" else f', or MYST_ROOT="{variables.DISK}" for a root on a disk'
        raise SCons.Errors.UserError(f"{builder} needs a source; give the application directory{disk}")
    how = _how_packed(env)
    stage = Rootfs(made_of=(f"rootfs {REVISION}{how['detail']}", *nodes), added_for=added_for, **how)
    stage.detail += _patterns(nodes)
    target = sources.target_node(env, name, builder)
    _take(target, nodes)
    return made(_ROOTFS, env, target, nodes, stage)


def _how_packed(env: Any) -> dict[str, Any]:
    """Return what a stage that packs is asked for, with what stands for it in signatures."""
    overlay, leftovers = variables.is_on(env, variables.OVERLAY), env["MYST_ROOTFS_LEFTOVERS"]
    # As with secrets: an error that was none before has to be found, a warning is no reason to pack again.
    strip = variables.patterns_to_strip(env)
    words = ["overlay"] * overlay + ["leftovers"] * (leftovers == "error") + [f"strip {strip}"] * bool(strip)
    detail = "".join(f" {word}" for word in words)
    return {"detail": detail, "overlay": overlay, "leftovers": leftovers, "strip": strip}


def _patterns(nodes: list[Any]) -> str:
    """Return what stands for the patterns of sources in the signature of the action that packs them.

    Another pattern may match nothing: who believes that a file stays out has to be told at once.
    """
    options = [node.options for node in nodes]
    patterns = sorted({pattern for each in options for pattern in (*each.exclude, *dict(each.chmod))})
    return f" patterns {patterns}" if patterns else ""


def _take(target: Any, nodes: list[Any]) -> None:
    """Say that a target is made of sources of a root."""
    if stage_of(target) is None:  # the same call may come twice
        for node in nodes:
            node.taken_by.append(target)
    exclusion.declare(target, nodes)


def _disk(env: Any, name: str, source: list[Any] | None) -> Any:
    laid_out = _disk_layout(env)
    nodes = sources.root_sources(env, source or [], disk=True, owners=laid_out.owners)
    if not nodes:
        raise SCons.Errors.UserError("MystDisk needs a source; give the application directory")
    how, key = _how_packed(env), sources.disk_key(env)
    secrets = env["MYST_ROOTFS_SECRETS"]
    how["detail"] += f" {tuple(laid_out)}" + _strict(secrets)
    encryption = sources.optional_file(env, "MYST_DISK_ENCRYPT")
    made_of = [*nodes, *encryption, *(key.nodes if key else ())]
    by_identity = [key] if key and not key.nodes else []
    stage = Disk(
        made_of=(f"disk {REVISION}{how['detail']}", *made_of, *by_identity),
        layout=laid_out,
        nodes=tuple(nodes),
        secrets=secrets,
        encryption=next(iter(encryption), None),
        key=key,
        **how,
    )
    stage.detail += _patterns(nodes)
    target = sources.target_node(env, name, "MystDisk")
    if key:
        stage.public_key = _public_key(env, name + _PUBLIC_KEY_SUFFIX, key)
    _take(target, nodes)
    return made(_DISK, env, target, made_of, stage)


def _disk_layout(env: Any) -> DiskLayout:
    size, room = (variables.size(env[f"MYST_DISK_{name}"]) for name in ("SIZE", "ROOM"))
    if size is not None and room is not None:
        problem = "MYST_DISK_ROOM has no effect with MYST_DISK_SIZE"
        raise SCons.Errors.UserError(f"{problem}; give one of the two")
    time = env["MYST_DISK_TIME"]
    return DiskLayout(
        size=size,
        room=room,
        time=int(time) if time not in (None, "") else None,
        boots=not variables.is_on(env, "MYST_DISK_DATA"),
        owners=env["MYST_DISK_OWNERS"] == variables.PRESERVE,
    )


def _public_key(env: Any, name: str, key: SigningKey) -> Any:
    target = sources.target_node(env, name, "MystDisk")
    return made(_PUBLIC_KEY, env, target, list(key.nodes), PublicKey(key=key))


def _measurement(env: Any, name: str, root: _Root, added_for: Any = None) -> Any:
    config, given = sources.configuration(env)
    enclave = Enclave(
        rootfs=root.rootfs,
        disk=root.disk,
        config=config,
        runtime=runtime_files(env),
        pubkeys=sources.public_keys(env),
        roothashes=sources.file_list(env, sources.ROOTHASHES),
        given=given,
    )
    secrets = env["MYST_ROOTFS_SECRETS"]
    stage = Measurement(
        detail=enclave.trust() + _strict(secrets), enclave=enclave, secrets=secrets, added_for=added_for
    )
    node = sources.target_node(env, name, "MystMeasure")
    stage.added = _added_for(node, root.rootfs)
    return made(_MEASURE, env, node, enclave.measured(), stage)


def _strict(secrets: str) -> str:
    """Return what stands for it in a signature: an error that was none before has to be found, no warning."""
    return " secrets" if secrets == "error" else ""


def _epoch(env: Any) -> str:
    epoch = str(variables.epoch(env))
    return str(env.subst(epoch)) if "$" in epoch else epoch


def _statement(env: Any, name: str, measurement: Any) -> Any:
    epoch, enclave = _epoch(env), stage_for(measurement, Measurement).enclave
    stage = Stated(detail=epoch, enclave=enclave, measurement=measurement, epoch=epoch)
    return made(_DIGEST, env, sources.target_node(env, name, "MystDigest"), [measurement], stage)


def _image(env: Any, name: str, measurement: Any, added_for: Any = None) -> Any:
    epoch, key = _epoch(env), sources.signing_key(env)
    stage = Image(
        detail=epoch,
        enclave=stage_for(measurement, Measurement).enclave,
        measurement=measurement,
        epoch=epoch,
        key=key,
        added_for=added_for,
    )
    # The measurement holds the digest of the image and, in it, of the configuration.
    parts = [measurement, *key.nodes]
    return made(_SIGN, env, sources.target_node(env, name, "MystSign"), parts, stage)


def _packaged(env: Any, node: Any, image: Any) -> Any:
    signed = stage_for(image, Image)
    check_no_source(node, (*signed.enclave.measured(), *(signed.key.nodes if signed.key else ())))
    loader, _, kernel, crt = signed.enclave.runtime
    # The image holds MRENCLAVE, which is another one when any other part is, but for what no
    # segment of kernel and C runtime loads: that goes into the package and is not measured.
    parts = [image, loader, crt, kernel]
    added = _added_for(node, image, signed.measurement, signed.enclave.rootfs)
    stage = Package(made_of=(f"package {REVISION}", *parts), enclave=signed.enclave, added=added)
    stage_for(signed.measurement, Measurement).package = node
    intermediates.add_package(node)
    return made(_PACKAGE, env, node, parts, stage)


def _added_for(node: Any, *targets: Any) -> list[Any]:
    """Return those targets of stages that a call with another target has added."""
    stages = ((target, stage_of(target)) for target in targets)
    return [target for target, stage in stages if stage and stage.added_for is node]


BUILDERS: Mapping[str, Callable[..., Any]] = {
    "MystRootfs": myst_rootfs,
    "MystDisk": myst_disk,
    "MystSource": myst_source,
    "MystClosure": myst_closure,
    "MystImage": myst_image,
    "MystMeasure": myst_measure,
    "MystSign": myst_sign,
    "MystDigest": myst_digest,
    "MystAttach": myst_attach,
    "MystPackage": myst_package,
    "MystIdentity": myst_identity,
    "MystCheck": myst_check,
    **documents.BUILDERS,
    "MystRuntime": myst_runtime,
    "MystLoader": myst_runtime,
    "MystKey": myst_key,
    "MystRun": myst_run,
    "MystTest": myst_test,
}
