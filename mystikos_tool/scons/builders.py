"""The builders: which nodes each stage takes and makes.

Every node that a stage makes carries the enclave's other nodes, so that the next stage needs to
be given nothing but that node.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import SCons.Builder
import SCons.Errors
import SCons.Node
import SCons.Node.FS
import SCons.Util
from SCons.Util import is_List, is_String

from mystikos_tool.scons import variables
from mystikos_tool.scons.actions import REVISION, StageAction
from mystikos_tool.scons.enclave import Enclave
from mystikos_tool.scons.loader import runtime_nodes
from mystikos_tool.scons.nodes import SourceOptions, digested, named_by, root_source
from mystikos_tool.scons.running import StartAction

_EPOCH = "SOURCE_DATE_EPOCH"
_TRUST = "_MYST_TRUST"
_ROOTFS_SUFFIX = ".cpio"
_MEASUREMENT_SUFFIX = ".measurement.json"
_IMAGE_SUFFIX = ".mystenc.so"


def _builder(stage: str, comstr: str, *varlist: str, suffix: str = "") -> SCons.Builder.BuilderBase:
    return SCons.Builder.Builder(
        action=StageAction(stage, comstr, varlist),
        suffix=suffix,
        target_factory=SCons.Node.FS.get_default_fs().File,
        source_factory=SCons.Node.FS.get_default_fs().Entry,
    )


_ROOTFS = _builder("pack", "MYSTROOTFSCOMSTR", suffix=_ROOTFS_SUFFIX)
_MEASURE = _builder("measure", "MYSTMEASURECOMSTR", _TRUST, suffix=_MEASUREMENT_SUFFIX)
_SIGN = _builder("sign", "MYSTSIGNCOMSTR", _EPOCH, suffix=_IMAGE_SUFFIX)
_PACKAGE = _builder("package", "MYSTPACKAGECOMSTR")
_KEY = _builder("make_key", "MYSTKEYCOMSTR")


def myst_rootfs(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Pack application directories, files and mappings: ``MystRootfs(target, source)``."""
    env = _environment(env, overrides)
    return _rootfs(env, _named(env, target, "MystRootfs"), _given(env, source), "MystRootfs")


def myst_measure(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Measure an enclave: ``MystMeasure(target, rootfs)``; without a source the root is an ext2 disk."""
    env = _environment(env, overrides)
    name = _named(env, target, "MystMeasure")
    rootfs = _archive(env, name.removesuffix(_MEASUREMENT_SUFFIX), _given(env, source), "MystMeasure")
    return _measurement(env, name, rootfs)


def myst_sign(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Sign what MystMeasure measured: ``MystSign(target, measurement)``."""
    env = _environment(env, overrides)
    measurement = _one(env, source, "MystSign")
    if _stage(measurement) != "measurement":
        raise SCons.Errors.UserError(f"MystSign signs what MystMeasure made; {measurement} is something else")
    return _image(env, _named(env, target, "MystSign"), measurement)


def myst_package(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a package: ``MystPackage(target, source)``.

    The source is what MystRootfs takes, a root file system, a measurement or a signed image; the
    stages before it are added. Without a source the root is an ext2 disk.
    """
    env = _environment(env, overrides)
    name = _file_name(env, target, "MystPackage")
    source = _given(env, source)
    node = _only_node(source)
    if _stage(node) == "image":
        return _packaged(env, name, node)
    if _stage(node) != "measurement":
        rootfs = _archive(env, name, source, "MystPackage")
        node = _measurement(env, name + _MEASUREMENT_SUFFIX, rootfs)[0]
    return _packaged(env, name, _image(env, name + _IMAGE_SUFFIX, node)[0])


def myst_loader(env: Any, **overrides: Any) -> Any:
    """Return the runtime's nodes: loader, enclave image, kernel and C runtime."""
    return runtime_nodes(_environment(env, overrides))


def myst_key(env: Any, target: Any = None, source: Any = None, **overrides: Any) -> Any:
    """Make a development key once; neither a clean nor a rebuild ever removes it."""
    if source:
        raise SCons.Errors.UserError("MystKey takes no source")
    env = _environment(env, overrides)
    nodes = _KEY(env, _file_name(env, target, "MystKey"), [])
    env.Precious(nodes)
    env.NoClean(nodes)
    env.NoCache(nodes)
    return nodes


def myst_run(env: Any, alias: str, package: Any, args: Any = (), **overrides: Any) -> Any:
    """Add an alias that starts a package with arguments: ``MystRun("run", package, ["red"])``."""
    env = _environment(env, overrides)
    node = _one(env, package, "MystRun")
    if is_String(args):
        raise SCons.Errors.UserError(
            f'MystRun takes a list of arguments, as in ["red", "blue"], not {args!r}'
        )
    nodes = env.Alias(alias, node, StartAction(node, [str(argument) for argument in args]))
    env.AlwaysBuild(nodes)
    return nodes


def myst_test(env: Any, name: str, package: Any, *, args: Any = (), **expected: Any) -> Any:
    """Run a package as a test: ``MystTest("hello-red", package, args=["red"], stdout="red\\n")``.

    Takes ``args``, ``environment``, ``stdin``, ``status``, ``stdout``, ``stdout_pattern``,
    ``stderr``, ``stderr_pattern`` and ``timeout``, and overrides of construction variables.
    The alias ``check`` runs all tests and ends with a summary.
    """
    from mystikos_tool.scons import testing  # not needed where there are no tests

    fields = {field.name for field in dataclasses.fields(testing.Expectation)}
    overrides = {key: value for key, value in expected.items() if key not in fields}
    unknown = sorted(key for key in overrides if not key.startswith(("MYST", "ENV")))
    if unknown:
        raise SCons.Errors.UserError(
            f"MystTest does not know {unknown[0]}; it takes {', '.join(sorted(fields))}"
        )
    env = _environment(env, overrides)
    arguments = tuple(
        str(argument) for argument in (args if is_List(args) else [args] if is_String(args) else args)
    )
    given = {key: value for key, value in expected.items() if key in fields}
    expectation = testing.Expectation(args=arguments, **given)
    return testing.described(env, name, _one(env, package, "MystTest"), expectation)


def _rootfs(env: Any, name: Any, source: list[Any] | None, builder: str) -> Any:
    sources = _root_sources(env, source)
    if not sources:
        raise SCons.Errors.UserError(f"{builder} needs a source; give the application directory")
    nodes = _made(_ROOTFS(env, name, sources), "rootfs", None)
    nodes[0].attributes.myst_made_of = (f"rootfs {REVISION}", *sources)
    return nodes


def _root_sources(env: Any, source: list[Any] | None) -> list[Any]:
    """Return the nodes of everything that a root is made of: directories, files and mappings."""
    preserve = env["MYST_ROOTFS_MODES"] == variables.PRESERVE
    patterns = env["MYST_ROOTFS_EXCLUDE"]
    exclude = tuple(env.subst(pattern) for pattern in (patterns if is_List(patterns) else [patterns]))
    return [
        root_source(node, SourceOptions(place, name, exclude, preserve))
        for place, name, node in _placed(env, source)
    ]


def _placed(env: Any, source: list[Any] | None) -> Iterator[tuple[str, str, Any]]:
    """Yield the place in the root, the name there and the node of every source.

    A mapping gives a directory the path that it becomes, a file the path that it gets.
    """
    for item in source or []:
        if item is None or (isinstance(item, Mapping) and None in item.values()):
            raise SCons.Errors.UserError("a source of the root is None; give directories, files and mappings")
        if isinstance(item, Mapping):
            for path, value in item.items():
                for node in map(_resolved, env.arg2nodes(value, env.fs.Entry)):
                    place, _, name = path.strip("/").rpartition("/")
                    is_directory = isinstance(node, SCons.Node.FS.Dir)
                    yield (path.strip("/"), "", node) if is_directory else (place, name, node)
        else:
            yield "", "", _resolved(item)


def _resolved(node: Any) -> Any:
    """Return the directory or file that a name stands for; what is not there yet is a directory."""
    if not _is_directory(node):
        return node.disambiguate()
    node.must_be_same(SCons.Node.FS.Dir)
    return node


def _given(env: Any, source: Any) -> list[Any] | None:
    """Return what a source consists of, names as nodes; None where there is no source."""
    if source is None:
        return None
    items: list[Any] = []
    for item in SCons.Util.flatten(source):
        items += [item] if item is None or isinstance(item, Mapping) else env.arg2nodes(item, env.fs.Entry)
    return items


def _only_node(source: list[Any] | None) -> Any:
    """Return the node where the source is just one."""
    return source[0] if source and len(source) == 1 and not isinstance(source[0], Mapping) else None


def _measurement(env: Any, name: Any, rootfs: Any) -> Any:
    enclave = Enclave(
        rootfs=rootfs,
        config=_required_file(env, "MYST_CONFIG"),
        runtime=runtime_nodes(env),
        pubkeys=_file_list(env, "MYST_PUBKEYS"),
        roothashes=_file_list(env, "MYST_ROOTHASHES"),
    )
    env = env.Override({_TRUST: _trust(enclave)})
    nodes = _made(_MEASURE(env, name, [*enclave.nodes(), *enclave.runtime[1:]]), "measurement", enclave)
    nodes[0].attributes.myst_package = None
    return nodes


def _image(env: Any, name: Any, measurement: Any) -> Any:
    enclave = measurement.attributes.myst
    key = _required_file(env, "MYST_KEY")
    # The measurement holds the digest of the image and, in it, of the configuration.
    nodes = _SIGN(env, name, [measurement, key])
    return _made(nodes, "image", enclave)


def _packaged(env: Any, name: Any, image: Any) -> Any:
    enclave = image.attributes.myst
    loader, _, kernel, crt = enclave.runtime
    # The image holds MRENCLAVE, which is another one when any other part is, but for what no
    # segment of kernel and C runtime loads: that goes into the package and is not measured.
    nodes = _PACKAGE(env, name, [image, loader, crt, kernel])
    nodes = _made(nodes, "package", enclave)
    nodes[0].attributes.myst_made_of = (f"package {REVISION}", image, loader, crt, kernel)
    nodes[0].attributes.myst_draft = None
    measurement = image.sources[0]
    measurement.attributes.myst_package = nodes[0]
    return nodes


def _trust(enclave: Enclave) -> str:
    """Tell keys from hashes in the signature, where all are sources alike."""
    return f"{bool(enclave.rootfs)} {len(enclave.pubkeys)} {len(enclave.roothashes)}"


def _made(nodes: Any, stage: str, enclave: Enclave | None) -> Any:
    """Mark what a stage makes. A failed build keeps the earlier target, which was made whole."""
    for node in nodes:
        node.set_precious()
        digested(node)
        node.implicit, node.implicit_set = [], set()  # no scanner has anything to find here
        node.attributes.myst_stage = stage
        node.attributes.myst = enclave
    return nodes


def _stage(node: Any) -> str | None:
    return getattr(node.attributes, "myst_stage", None) if node else None


def _environment(env: Any, overrides: Mapping[str, Any]) -> Any:
    """Return the environment of one call, its variables checked."""
    epoch = env.get(_EPOCH, os.environ.get(_EPOCH, ""))
    variables.check_names(env.Dictionary())
    variables.check_names(overrides)
    if variables.REMOTE_CACHE in overrides:
        raise SCons.Errors.UserError(
            f"{variables.REMOTE_CACHE} is the environment's: give it to Environment or Clone, not to one call"
        )
    variables.use_remote_cache(env)
    env = env.Override({_EPOCH: epoch, **overrides})
    variables.check_values(env)
    return env


def _named(env: Any, target: Any, builder: str) -> str:
    """Return the name that the targets of all stages begin with; suffixes can be added to it."""
    names = target if is_List(target) else [target]
    if len(names) != 1 or not names[0]:
        raise SCons.Errors.UserError(f"{builder} makes one file: name its target")
    return str(env.subst(names[0]) if is_String(names[0]) else names[0].get_abspath())


def _file_name(env: Any, target: Any, builder: str) -> str:
    """Return the name of a target that gets no suffix, and so may be that of a directory by mistake."""
    name = _named(env, target, builder)
    try:
        env.File(name)
    except TypeError:
        raise SCons.Errors.UserError(
            f"{builder}: the target {name} is a directory; name it otherwise"
        ) from None
    return name


def _one(env: Any, source: Any, builder: str) -> Any:
    nodes = env.arg2nodes(source or [], env.fs.Entry)
    if len(nodes) != 1:
        raise SCons.Errors.UserError(f"{builder} takes one source, not {len(nodes)}")
    return nodes[0]


def _archive(env: Any, name: Any, source: list[Any] | None, builder: str) -> Any:
    """Return the root file system's node: given, packed from its sources, or None without any."""
    if source is None:
        return None
    node = _only_node(source)
    if node and _stage(node) not in (None, "rootfs"):
        raise SCons.Errors.UserError(f"{builder} cannot take {node} as a root file system")
    if node and not _is_directory(node):
        return digested(node)
    return _rootfs(env, name + _ROOTFS_SUFFIX, source, builder)[0]


def _is_directory(node: Any) -> bool:
    """Tell an appdir from an archive; neither needs to be there before the build."""
    if isinstance(node, SCons.Node.FS.Dir | SCons.Node.FS.File):
        return isinstance(node, SCons.Node.FS.Dir)
    paths = {node.get_abspath(), node.srcnode().get_abspath()}
    is_file = node.is_derived() or any(map(os.path.isfile, paths))
    return not (is_file or node.name.endswith(_ROOTFS_SUFFIX))


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
        return named_by(name, env.File(env.subst(node) if is_String(node) else node))
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
    "MystTest": myst_test,
}
