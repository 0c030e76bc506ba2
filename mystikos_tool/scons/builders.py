"""The builders: which nodes each stage takes and makes.

Every node that a stage makes carries the enclave's other nodes, so that the next stage needs to
be given nothing but that node.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SCons.Builder
import SCons.Errors
import SCons.Node.FS
from SCons.Util import is_List, is_String

from mystikos_tool import config, cpio, files, signing, stages
from mystikos_tool.measurement import Measurement
from mystikos_tool.runtime import Runtime
from mystikos_tool.scons import variables
from mystikos_tool.scons.actions import StageAction, shown_size
from mystikos_tool.scons.loader import runtime_nodes
from mystikos_tool.scons.nodes import appdir_node, digested
from mystikos_tool.scons.running import start_action

_EPOCH = "SOURCE_DATE_EPOCH"
_TRUST = "_MYST_TRUST"
_ROOTFS_SUFFIX = ".cpio"
_MEASUREMENT_SUFFIX = ".measurement.json"
_IMAGE_SUFFIX = ".mystenc.so"


@dataclass(frozen=True)
class _Enclave:
    """The nodes that an enclave is made of; ``rootfs`` is None where the root is an ext2 disk."""

    rootfs: Any
    config: Any
    runtime: tuple[Any, Any, Any, Any]
    pubkeys: tuple[Any, ...]
    roothashes: tuple[Any, ...]

    def nodes(self) -> list[Any]:
        """All of them but the runtime's."""
        return [*([self.rootfs] if self.rootfs else []), self.config, *self.pubkeys, *self.roothashes]

    def inputs(self) -> stages.Inputs:
        """Return the inputs that the core's stages take."""
        return stages.Inputs(
            runtime=Runtime(*map(_path, self.runtime)),
            config=config.load(_path(self.config)),
            rootfs=_path(self.rootfs) if self.rootfs else None,
            pubkeys=[_path(node) for node in self.pubkeys],
            roothashes=[_path(node) for node in self.roothashes],
        )


def _path(node: Any) -> Path:
    """Return a node's path, relative to the top of the build where it lies below it."""
    return Path(str(node))


def _pack(target: list[Any], source: list[Any], env: Any) -> str:
    tree = source[0].tree()
    cpio.write(tree, _path(target[0]))
    for path in tree.left_out:
        _warn(f"{source[0]}/{path}: is a device or FIFO and was left out of the root file system")
    for path in source[0].stray:
        _warn(f"{source[0]}/{path}: has no source and no builder and was left out; describe it or remove it")
    return f"packed {tree.files:,} files, {shown_size(tree.size)} → {target[0]}"


def _measure(target: list[Any], source: list[Any], env: Any) -> str:
    inputs = target[0].attributes.myst.inputs()
    for warning in inputs.config.warnings:
        _warn(warning)
    measured = stages.measure(inputs)
    files.write(_path(target[0]), measured.to_json())
    return f"measured MRENCLAVE {measured.mrenclave.hex()} → {target[0]}"


def _sign(target: list[Any], source: list[Any], env: Any) -> str:
    measurement, key = source[0], source[1]
    measured = Measurement.from_json(files.read_input(_path(measurement), "measurement"), str(measurement))
    inputs = target[0].attributes.myst.inputs()
    signer = signing.load_key(_path(key))
    day = stages.signing_day(env.subst(f"${_EPOCH}"))
    files.write(_path(target[0]), stages.sign(measured, inputs.runtime, inputs.config, signer, day))
    return f"signed with {key} → {target[0]}"


def _assemble(target: list[Any], source: list[Any], env: Any) -> str:
    size = stages.assemble(target[0].attributes.myst.inputs(), _path(source[0]), _path(target[0]))
    return f"packaged {shown_size(size)} → {target[0]}"


def _generate_key(target: list[Any], source: list[Any], env: Any) -> str:
    path = _path(target[0])
    if path.exists():
        signing.load_key(path)
        return f"kept the key → {path}"
    signing.generate_key(path)
    return f"made a development key → {path}"


def _warn(text: str) -> None:
    sys.stderr.write(f"mystikos: warning: {text}\n")


def _builder(
    name: str, stage: Callable[..., str], comstr: str, *varlist: str, suffix: str = ""
) -> SCons.Builder.BuilderBase:
    return SCons.Builder.Builder(
        action=StageAction(name, stage, comstr, varlist),
        suffix=suffix,
        target_factory=SCons.Node.FS.get_default_fs().File,
        source_factory=SCons.Node.FS.get_default_fs().Entry,
    )


_ROOTFS = _builder("pack", _pack, "MYSTROOTFSCOMSTR", "MYST_ROOTFS_MODES", suffix=_ROOTFS_SUFFIX)
_MEASURE = _builder("measure", _measure, "MYSTMEASURECOMSTR", _TRUST, suffix=_MEASUREMENT_SUFFIX)
_SIGN = _builder("sign", _sign, "MYSTSIGNCOMSTR", _EPOCH, suffix=_IMAGE_SUFFIX)
_PACKAGE = _builder("package", _assemble, "MYSTPACKAGECOMSTR")
_KEY = _builder("make key", _generate_key, "MYSTKEYCOMSTR")


def myst_rootfs(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Pack an application directory: ``MystRootfs(target, appdir)``."""
    env = _environment(env, overrides)
    return _rootfs(env, _named(env, target, "MystRootfs"), _directory(env, _one(env, source, "MystRootfs")))


def myst_measure(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Measure an enclave: ``MystMeasure(target, rootfs)``; without a source the root is an ext2 disk."""
    env = _environment(env, overrides)
    name = _named(env, target, "MystMeasure")
    return _measurement(env, name, _archive(env, name, source, "MystMeasure"))


def myst_sign(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Sign what MystMeasure measured: ``MystSign(target, measurement)``."""
    env = _environment(env, overrides)
    measurement = _one(env, source, "MystSign")
    if _stage(measurement) != "measurement":
        raise SCons.Errors.UserError(f"MystSign signs what MystMeasure made; {measurement} is something else")
    return _image(env, _named(env, target, "MystSign"), measurement)


def myst_package(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a package: ``MystPackage(target, source)``.

    The source is an application directory, a root file system, a measurement or a signed image;
    the stages before it are added. Without a source the root is an ext2 disk.
    """
    env = _environment(env, overrides)
    name = _named(env, target, "MystPackage")
    nodes = env.arg2nodes(source or [], env.fs.Entry)
    stage = _stage(nodes[0]) if len(nodes) == 1 else None
    if stage == "image":
        return _packaged(env, name, nodes[0])
    if stage == "measurement":
        return _packaged(env, name, _image(env, name, nodes[0])[0])
    measurement = _measurement(env, name, _archive(env, name, source, "MystPackage"))
    return _packaged(env, name, _image(env, name, measurement[0])[0])


def myst_loader(env: Any, **overrides: Any) -> Any:
    """Return the runtime's nodes: loader, enclave image, kernel and C runtime."""
    return runtime_nodes(_environment(env, overrides))


def myst_key(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a development key once; neither a clean nor a rebuild ever removes it."""
    if source:
        raise SCons.Errors.UserError("MystKey takes no source")
    env = _environment(env, overrides)
    nodes = _KEY(env, env.File(_named(env, target, "MystKey")), [])
    env.Precious(nodes)
    env.NoClean(nodes)
    env.NoCache(nodes)
    return nodes


def myst_run(env: Any, alias: str, package: Any, args: Any = (), **overrides: Any) -> Any:
    """Add an alias that starts a package with arguments: ``MystRun("run", package, ["red"])``."""
    env = _environment(env, overrides)
    node = _one(env, package, "MystRun")
    nodes = env.Alias(alias, node, start_action(node, [str(argument) for argument in args]))
    env.AlwaysBuild(nodes)
    return nodes


def _rootfs(env: Any, name: Any, directory: Any) -> Any:
    preserve = env["MYST_ROOTFS_MODES"] == variables.PRESERVE
    return _made(env, _ROOTFS(env, name, [appdir_node(directory, preserve)]), "rootfs", None)


def _measurement(env: Any, name: Any, rootfs: Any) -> Any:
    enclave = _Enclave(
        rootfs=rootfs,
        config=_required_file(env, "MYST_CONFIG"),
        runtime=runtime_nodes(env),
        pubkeys=_file_list(env, "MYST_PUBKEYS"),
        roothashes=_file_list(env, "MYST_ROOTHASHES"),
    )
    env = env.Override({_TRUST: _trust(enclave)})
    nodes = _MEASURE(env, name, [*enclave.nodes(), *enclave.runtime[1:]])
    return _made(env, nodes, "measurement", enclave)


def _image(env: Any, name: Any, measurement: Any) -> Any:
    enclave = measurement.attributes.myst
    key = _required_file(env, "MYST_KEY")
    # The measurement holds the digest of the image and, in it, of the configuration.
    nodes = _SIGN(env, name, [measurement, key])
    return _made(env, nodes, "image", enclave)


def _packaged(env: Any, name: Any, image: Any) -> Any:
    enclave = image.attributes.myst
    loader, _, kernel, crt = enclave.runtime
    # The image holds MRENCLAVE, which is another one when any other part is, but for what no
    # segment of kernel and C runtime loads: that goes into the package and is not measured.
    nodes = _PACKAGE(env, name, [image, loader, crt, kernel])
    return _made(env, nodes, "package", enclave)


def _trust(enclave: _Enclave) -> str:
    """Tell keys from hashes in the signature, where all are sources alike."""
    return f"{bool(enclave.rootfs)} {len(enclave.pubkeys)} {len(enclave.roothashes)}"


def _made(env: Any, nodes: Any, stage: str, enclave: _Enclave | None) -> Any:
    """Mark what a stage makes. A failed build keeps the earlier target, which was made whole."""
    env.Precious(nodes)
    for node in nodes:
        digested(node)
        node.implicit, node.implicit_set = [], set()  # no scanner has anything to find here
        node.attributes.myst_stage = stage
        node.attributes.myst = enclave
    return nodes


def _stage(node: Any) -> str | None:
    return getattr(node.attributes, "myst_stage", None)


def _environment(env: Any, overrides: Mapping[str, Any]) -> Any:
    """Return the environment of one call, its variables checked."""
    epoch = env.get(_EPOCH, os.environ.get(_EPOCH, ""))
    variables.check_names(env.Dictionary())
    variables.check_names(overrides)
    env = env.Override({_EPOCH: epoch, **overrides})
    variables.check_values(env)
    return env


def _named(env: Any, target: Any, builder: str) -> str:
    """Return the name that the targets of all stages begin with; suffixes can be added to it."""
    names = target if is_List(target) else [target]
    if len(names) != 1 or not names[0]:
        raise SCons.Errors.UserError(f"{builder} makes one file: name its target")
    return str(env.subst(names[0]) if is_String(names[0]) else names[0].get_abspath())


def _one(env: Any, source: Any, builder: str) -> Any:
    nodes = env.arg2nodes(source or [], env.fs.Entry)
    if len(nodes) != 1:
        raise SCons.Errors.UserError(f"{builder} takes one source, not {len(nodes)}")
    return nodes[0]


def _archive(env: Any, name: Any, source: Any, builder: str) -> Any:
    """Return the root file system's node: given, packed from an appdir, or None without a source."""
    if not source:
        return None
    node = _one(env, source, builder)
    if _stage(node) not in (None, "rootfs"):
        raise SCons.Errors.UserError(f"{builder} cannot take {node} as a root file system")
    if _is_directory(node):
        return _rootfs(env, name, _directory(env, node))[0]
    return digested(node)


def _is_directory(node: Any) -> bool:
    """Tell an appdir from an archive; neither needs to be there before the build."""
    if isinstance(node, SCons.Node.FS.Dir | SCons.Node.FS.File):
        return isinstance(node, SCons.Node.FS.Dir)
    paths = (Path(node.get_abspath()), Path(node.srcnode().get_abspath()))
    return not (any(path.is_file() for path in paths) or node.name.endswith(_ROOTFS_SUFFIX))


def _directory(env: Any, node: Any) -> Any:
    if isinstance(node, SCons.Node.FS.File):
        raise SCons.Errors.UserError(f"{node} is a file; give the application directory")
    return env.Dir(node)


def _required_file(env: Any, name: str) -> Any:
    value = env.get(name)
    if not value:
        raise SCons.Errors.UserError(f'{name} is not set; give it as in MystPackage(..., {name}="FILE")')
    return _file(env, name, value)


def _file_list(env: Any, name: str) -> tuple[Any, ...]:
    value = env.get(name) or []
    return tuple(_file(env, name, item) for item in (value if is_List(value) else [value]))


def _file(env: Any, name: str, value: Any) -> Any:
    node = value[0] if is_List(value) else value
    try:
        return env.File(env.subst(node) if is_String(node) else node)
    except TypeError:
        raise SCons.Errors.UserError(f"{name}: {node} is a directory; give a file") from None


BUILDERS: Mapping[str, Callable[..., Any]] = {
    "MystRootfs": myst_rootfs,
    "MystMeasure": myst_measure,
    "MystSign": myst_sign,
    "MystPackage": myst_package,
    "MystLoader": myst_loader,
    "MystKey": myst_key,
    "MystRun": myst_run,
}
