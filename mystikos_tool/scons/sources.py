"""What a call names, as nodes: its target, the sources of a root, the files that variables name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import SCons.Errors
import SCons.Node
import SCons.Node.FS
import SCons.Util
from SCons.Util import is_String

from mystikos_tool.errors import UserError
from mystikos_tool.scons import arguments, config_input, scons_internals, variables
from mystikos_tool.scons.input_file import input_file
from mystikos_tool.scons.input_node import origin_of, paths_of
from mystikos_tool.scons.root_source import SourceOptions, root_source
from mystikos_tool.scons.signing_key import SigningKey
from mystikos_tool.scons.stages import CONFIG, CONFIG_SET, Disk, GivenMembers, Rootfs, stage_of

ROOTFS_SUFFIX = ".cpio"
KEY, DISK_KEY = "MYST_KEY", "MYST_DISK_KEY"
PUBKEYS, ROOTHASHES = "MYST_PUBKEYS", "MYST_ROOTHASHES"

_LONGEST_NAME = 255

_named_files: dict[tuple[str, str, Any], Any] = {}


def suffixed(name: str, suffix: str) -> str:
    """Return a target's name with a suffix where it has none, as SCons' builders do."""
    return str(SCons.Util.adjustixes(name, None, suffix))


def target_node(env: Any, name: str, builder: str) -> Any:
    """Return the node of a target."""
    size = len(os.fsencode(name.rpartition("/")[2]))
    if size > _LONGEST_NAME:
        problem = f"has {size} bytes, and a file's name has at most {_LONGEST_NAME}; shorten it"
        raise SCons.Errors.UserError(f"{builder}: the name of the target {problem}")
    try:
        return scons_internals.file_node(env.fs, name)
    except TypeError as error:
        raise arguments.misplaced(f"{builder}: the target", name, error, "name it otherwise") from None


def only_node(source: list[Any] | None) -> Any:
    """Return the node where the source is just one."""
    is_node = source and len(source) == 1 and isinstance(source[0], SCons.Node.Node)
    return source[0] if source and is_node else None


def one_node(env: Any, source: Any, builder: str) -> Any:
    """Return the one node that a source is."""
    nodes = arguments.nodes(env, f"{builder}: the source", source, "a file")
    if len(nodes) != 1:
        raise SCons.Errors.UserError(f"{builder} takes one source, not {len(nodes)}")
    node = nodes[0].disambiguate()
    if is_dir(node):
        raise SCons.Errors.UserError(f"{builder}: the source {node} is a directory; give a file")
    return node


def root_sources(env: Any, source: list[Any], *, disk: bool = False, owners: bool = False) -> list[Any]:
    """Return the nodes of everything that a root is made of: directories, files and mappings.

    One that is given twice is at the last of its places, for later ones may win. ``disk`` says that
    the root becomes one, and ``owners`` that files on it belong to whom they belong.
    """
    nodes = list(_root_sources(env, source, {"disk": disk, "owners": owners}))
    return list(dict.fromkeys(reversed(nodes)))[::-1]


def _root_sources(env: Any, source: list[Any], disk: Mapping[str, Any]) -> Iterator[Any]:
    options = _options(env, disk)
    for item in source:
        if isinstance(item, arguments.Programs):
            yield _closure(item, disk)
        elif isinstance(item, arguments.Image):
            yield _image(item, disk)
        elif isinstance(item, arguments.OwnVariables):
            yield from _root_sources(item.env, item.source, disk)
        else:
            for node, place in _placed(env, [item]):
                yield root_source(
                    node, options._replace(place=place.place, name=place.name, layer=place.layer)
                )


def _options(env: Any, disk: Mapping[str, Any]) -> SourceOptions:
    """Return what the variables of an environment say of every source."""
    patterns, asked = variables.items(env["MYST_ROOTFS_EXCLUDE"]), env["MYST_ROOTFS_CHMOD"]
    return SourceOptions(
        exclude=tuple(env.subst(arguments.text(pattern)) for pattern in patterns),
        preserve_modes=env["MYST_ROOTFS_MODES"] == variables.PRESERVE,
        chmod=variables.permissions(asked, env.subst) if asked else (),
        **disk,
    )


def reference(env: Any, source: Any) -> str:
    """Return the reference to an image on a registry that a source is, "" where it is something else.

    What is there, or made by a builder, is a layout or an archive.
    """
    given = arguments.text(source)
    if not given or not arguments.is_usable(given):
        return ""
    from mystikos_tool.root.oci import reference as references  # not needed by other builds

    given = arguments.substituted(env, "MystImage: the image", given)
    if given.startswith(("/", ".", "#")) or references.parse(given) is None:
        return ""
    node = env.fs.Entry(given)
    is_there = node.is_derived() or any(map(os.path.exists, paths_of(node)))
    return "" if is_there else given


def _image(image: arguments.Image, disk: Mapping[str, Any]) -> Any:
    """Return the one node of a container image."""
    from mystikos_tool.scons import image_source  # not needed by other builds

    (node,) = image.source
    if image.is_on_registry:
        return image_source.registry_node(node, image.name, _options(image.env, disk))
    return image_source.image_node(resolved(node), image.name, _options(image.env, disk))


def _closure(programs: arguments.Programs, disk: Mapping[str, Any]) -> Any:
    """Return the one node of programs with what they need."""
    from mystikos_tool.scons import closure_source  # not needed by other builds

    env = programs.env
    options = _options(env, disk)
    mapped = [item for item in programs.source if not isinstance(item, str)]
    given = (
        # What is asked for by path in the root is done to all of the closure at once.
        root_source(node, place._replace(exclude=options.exclude, preserve_modes=options.preserve_modes))
        for node, place in _placed(env, mapped)
    )
    asked = closure_source.Asked(
        tuple(item for item in programs.source if isinstance(item, str)),
        tuple(given),
        programs.sysroot,
        tuple(variables.items(env[variables.EXTRAS])),
    )
    return closure_source.closure_source(env, asked, options)


def _placed(env: Any, source: list[Any]) -> Iterator[tuple[Any, SourceOptions]]:
    """Yield the node of every source, its place in the root and its name there.

    A mapping gives a directory the path that it becomes, a file, which an archive is too, the path
    that it gets, or with a slash at its end the directory that it goes into. An archive by itself, or
    at "/", is a layer.
    """
    for item in source:
        if item is None or (isinstance(item, Mapping) and None in item.values()):
            raise SCons.Errors.UserError("a source of the root is None; give directories, files and mappings")
        if isinstance(item, Mapping):
            for path, value in item.items():
                for node in env.arg2nodes(value, env.fs.Entry):
                    directory, _, name = path.lstrip("/").rpartition("/")
                    if not path.strip("/") and _is_archive(resolved(node)):
                        yield node, SourceOptions(layer=True)
                    elif not _is_open(node) and is_dir(resolved(node)):
                        yield node, SourceOptions(path.strip("/"))
                    else:
                        yield node, SourceOptions(directory.strip("/"), name)
        else:
            node = resolved(item)
            yield node, SourceOptions(layer=_is_archive(node))


def _is_archive(node: Any) -> bool:
    """Tell whether a source is an archive: a root that a stage packs, or a file that is named as one."""
    is_packed = isinstance(stage_of(node), Rootfs)
    return is_packed or (not is_dir(node) and bool(node.name.endswith(ROOTFS_SUFFIX)))


def is_dir(node: Any) -> bool:
    """Tell whether a node is known to be a directory."""
    return isinstance(node, SCons.Node.FS.Dir)


def resolved(node: Any) -> Any:
    """Return the directory or file that a name stands for; what is not there yet is a directory."""
    if not _is_directory(node):
        return node.disambiguate()
    node.must_be_same(SCons.Node.FS.Dir)
    return node


def _is_directory(node: Any) -> bool:
    """Tell an appdir from an archive; neither needs to be there before the build."""
    if isinstance(node, SCons.Node.FS.Dir | SCons.Node.FS.File):
        return is_dir(node)
    is_file = node.is_derived() or any(map(os.path.isfile, _places(node)))
    return not (is_file or node.name.endswith(ROOTFS_SUFFIX))


def _is_open(node: Any) -> bool:
    """Tell whether nothing says yet if a node is a file or a directory: a later call may make it."""
    is_known = type(node) is not SCons.Node.FS.Entry or node.is_derived()
    return not (is_known or any(map(os.path.exists, _places(node))))


def _places(node: Any) -> list[str]:
    source = node.srcnode()
    return paths_of(node) if source is node else [*paths_of(node), *paths_of(source)]


def required_file(env: Any, variable: str) -> Any:
    """Return the input node of the file that a construction variable names."""
    value = env.get(variable)
    if not value:
        raise SCons.Errors.UserError(
            f'{variable} is not set; give it as in MystPackage(..., {variable}="FILE")'
        )
    return _file(env, variable, value)


def configuration(env: Any) -> tuple[Any, GivenMembers | None]:
    """Return the input node of the configuration, and what of it is in no file."""
    whole, asked = env.get(CONFIG), env.get(CONFIG_SET)
    members = config_input.substituted(env, CONFIG_SET, variables.settings(asked)) if asked else {}
    if isinstance(whole, Mapping):
        members = {**config_input.substituted(env, CONFIG, whole), **members}
        given = GivenMembers({key: value for key, value in members.items() if value is not None}, CONFIG)
        return config_input.config_input(given), given
    file = required_file(env, CONFIG)
    if not members:
        return file, None
    given = GivenMembers(members, CONFIG_SET)
    return config_input.config_input(given, origin_of(file)), given


def optional_file(env: Any, variable: str) -> tuple[Any, ...]:
    """Return the input node of the file that a construction variable names, or nothing."""
    return (_file(env, variable, env[variable]),) if env.get(variable) else ()


def file_list(env: Any, variable: str) -> tuple[Any, ...]:
    """Return the input nodes of the files that a construction variable names."""
    value = env.get(variable) or []
    return tuple(_file(env, variable, item) for item in variables.items(value))


def public_keys(env: Any) -> tuple[Any, ...]:
    """Return the nodes of the public keys that MYST_PUBKEYS names, of a disk that of its signer."""
    return tuple(_public_key(node) for node in file_list(env, PUBKEYS))


def _public_key(node: Any) -> Any:
    stage = stage_of(node)
    if not isinstance(stage, Disk):
        return node
    if stage.public_key is None:
        problem = f"{PUBKEYS}: {node} is not signed"
        raise SCons.Errors.UserError(f"{problem}; give its MystDisk a MYST_DISK_KEY, or use MYST_ROOTHASHES")
    return stage.public_key


def _file(env: Any, variable: str, value: Any) -> Any:
    (value,) = arguments.flat(value)
    name = arguments.text(value)
    if name is None:
        return _input_file(env, variable, value)
    # A thousand calls name the same file; "$" may stand for another one in each.
    name = arguments.substituted(env, f"{variable}:", name)
    directory = variables.directory_of(env, variable, name)
    key = (variable, name, directory)
    if key not in _named_files:
        _named_files[key] = _input_file(env, variable, key[1], directory)
    return _named_files[key]


def _input_file(env: Any, variable: str, name: Any, directory: Any = None) -> Any:
    try:
        return input_file(env.File(name, directory), variable)
    except TypeError as error:
        raise arguments.misplaced(f"{variable}:", name, error) from None


def disk_key(env: Any) -> SigningKey | None:
    """Return the key that signs a call's disk, None where nobody does."""
    return signing_key(env, DISK_KEY)._replace(for_disks=True) if env.get(DISK_KEY) else None


def signing_key(env: Any, variable: str = KEY) -> SigningKey:
    """Return the key that a variable names; raise SCons' UserError where it names none."""
    value = env.get(variable)
    given = value[0] if isinstance(value, list | tuple) and len(value) == 1 else value
    substituted = str(env.subst(given) if "$" in given else given) if is_String(given) else ""
    if ":" not in substituted:
        return SigningKey(None, (required_file(env, variable),))
    from mystikos_tool.signing import notation

    if notation.is_file(substituted, lambda name: variables.is_there(env, variable, name)):
        return SigningKey(None, (required_file(env, variable),))
    try:
        files = notation.parse(substituted).files
    except UserError as error:
        raise SCons.Errors.UserError(f"{variable}: {error}") from None
    top = SCons.Node.FS.get_default_fs().Top
    return SigningKey(substituted, tuple(input_file(top.File(str(path)), variable) for path in files))
