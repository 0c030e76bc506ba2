"""The tool's construction variables: one table of names, defaults, checks and help."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import compress, count
from operator import is_not
from typing import Any, NamedTuple

import SCons.Errors
import SCons.Node.FS
from SCons.Script import ARGUMENTS
from SCons.Util import is_String

from mystikos_tool.scons import arguments
from mystikos_tool.scons.input_node import paths_of
from mystikos_tool.scons.stages import CONFIG, CONFIG_SET

PREFIX = "MYST_"
REMOTE_CACHE = "MYST_REMOTE_CACHE"
REMOTE_EXECUTOR, TEST_PLATFORM = "MYST_REMOTE_EXECUTOR", "MYST_TEST_PLATFORM"
EMBEDDED = "embedded"
CANONICAL, PRESERVE = "canonical", "preserve"
POLICIES = ("warn", "error", "allow")
_SEVERITIES = ("error", "warning", "note", "none")
SYSROOT, EXTRAS = "MYST_SYSROOT", "MYST_CLOSURE_EXTRAS"
IMAGE_LOCK = "MYST_IMAGE_LOCK"
OVERLAY, STRIP = "MYST_ROOTFS_OVERLAY", "MYST_ROOTFS_STRIP"
# What a root may be; a disk is a stage too.
ARCHIVE, DISK = "archive", "disk"
ROOT = "root"
EPOCH = "SOURCE_DATE_EPOCH"
POLICY_FORMAT, ANY_VERSION = "MYST_POLICY_FORMAT", "MYST_POLICY_ANY_VERSION"
PROVENANCE_KEY = "MYST_PROVENANCE_KEY"
# What the names of policies end in, by their forms.
POLICY_SUFFIXES = {
    "json": ".policy.json",
    "env": ".policy.env",
    "c": ".policy.h",
    "maa": ".policy.maa",
    "oe": ".policy.oe.json",
    "gramine": ".policy.gramine.env",
    "ego": ".policy.ego.json",
}
_ORIGIN = "_MYST_ORIGIN"
_SECRETS = "MYST_ROOTFS_SECRETS"

SOURCE, PACKED, ROOTFS, MEASURE = "source", "packed", "rootfs", "measure"
SIGN, PACKAGE = "sign", "package"
REPORT, POLICY, SBOM, PROVENANCE = "report", "policy", "sbom", "provenance"
DIGEST, ATTACH, IDENTITY, CLOSURE = "digest", "attach", "identity", "closure"
CONFIGURE, CHECK, START = "configure", "check", "start"
AUTO, ITSELF, EXEC_LINUX = "auto", "package", "exec-linux"
IMAGE = "image"
RUNTIME, KEY, RUN, TEST = "runtime", "key", "run", "test"
PUBLIC_KEY = "publickey"
_DONE = {
    SOURCE: "pack a root",
    PACKED: "pack a root",
    ROOTFS: "pack a root",
    DISK: "make a disk",
    CLOSURE: "look for programs",
    CONFIGURE: "measure",
    IMAGE: "take an image",
    MEASURE: "measure",
    SIGN: "sign",
    DIGEST: "state a digest",
    ATTACH: "attach a signature",
    PACKAGE: "package",
    IDENTITY: "write MRENCLAVE",
    CHECK: "check a root",
    REPORT: "show a package",
    POLICY: "write a policy",
    SBOM: "write a bill of materials",
    PROVENANCE: "state a provenance",
    RUNTIME: "take a runtime",
    KEY: "make a key",
    PUBLIC_KEY: "sign a disk",
    RUN: "start a package",
    TEST: "test",
    START: "start a package",
}


class _Origin:
    """The environment that the tool was loaded into, and the directory whose SConscript made it.

    SCons copies what a clone gets; this is the same object in all of them.
    """

    def __init__(self, env: Any, directory: Any) -> None:
        self.env = env
        self.directory = directory


class Variable(NamedTuple):
    """A construction variable; ``check`` returns what it accepts when a value is wrong.

    ``stage`` is the one that the variable matters for, "" where it is the whole environment's.
    """

    name: str
    default: Any
    check: Callable[[Any], str | None]
    help: str
    stage: str = ""


def items(value: Any) -> list[Any]:
    """Return what a variable has that takes several; a string, as from a command line, has commas."""
    if is_String(value):
        return [item for item in (part.strip() for part in str(value).split(",")) if item]
    return arguments.flat(value)


def epoch(env: Any) -> Any:
    """Return the SOURCE_DATE_EPOCH that counts: the variable, that of actions, that of scons; "" without."""
    places = (env, env.get("ENV", {}), os.environ)
    return next((place[EPOCH] for place in places if place.get(EPOCH) is not None), "")


def _file(value: Any) -> str | None:
    given = arguments.flat(value)
    is_none = value is None or not (given or value)
    is_one = len(given) == 1 and _is_name(given[0], SCons.Node.FS.Base)
    return None if is_none or is_one else "a file name or a file node"


def _config(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return _file(value) and "a file name, a file node or a dictionary"
    from mystikos_tool.scons import config_input

    return config_input.fault(value)


def _settings(value: Any) -> str | None:
    from mystikos_tool.errors import UserError
    from mystikos_tool.scons import config_input

    try:
        return config_input.fault(settings(value))
    except (UserError, TypeError):
        return 'a dictionary of keys and values, as in {"SecurityVersion": 3}'


def settings(value: Any) -> Mapping[str, Any]:
    """Return MYST_CONFIG_SET as a dictionary, also where it is "KEY=VALUE,..." as on the command line.

    Raises UserError or TypeError for anything else.
    """
    if isinstance(value, Mapping):
        return value
    from mystikos_tool import config

    return dict(config.setting(os.fsdecode(item)) for item in items(value))


def _files(value: Any) -> str | None:
    wrong = [item for item in items(value) if not _is_name(item, SCons.Node.FS.Base)]
    return "a list of file names or file nodes" if wrong else None


def _directory(value: Any) -> str | None:
    is_directory = _is_name(value, SCons.Node.FS.Dir | SCons.Node.FS.Entry)
    return None if is_directory and value else "a directory's name or node"


def _is_name(value: Any, node: Any) -> bool:
    name = arguments.text(value)
    return isinstance(value, node) if name is None else arguments.is_usable(name)


def _command(value: Any) -> str | None:
    accepted = "a compiler and its options, as in a shell"
    if not is_String(value):
        return accepted
    try:
        return None if value == "" or shlex.split(value) else accepted
    except ValueError:  # a quotation without end
        return accepted


def _text(value: Any) -> str | None:
    return None if is_String(value) and arguments.is_usable(value) else "a string"


def _is_one_of(value: Any, *words: str) -> bool:
    """Tell whether a value is one of some words; what SCons has cannot always be compared with them."""
    return is_String(value) and value in words


def _texts(value: Any) -> str | None:
    texts = map(arguments.text, items(value))
    wrong = [given for given in texts if given is None or not arguments.is_usable(given)]
    return "a list of patterns" if wrong else None


def _modes(value: Any) -> str | None:
    if _is_one_of(value, CANONICAL, PRESERVE):
        return None
    by_path = ", or modes by path as MYST_ROOTFS_CHMOD" if isinstance(value, dict) else ""
    return f'"{CANONICAL}" or "{PRESERVE}"{by_path}'


def _policy(value: Any) -> str | None:
    return None if _is_one_of(value, *POLICIES) else " or ".join(f'"{policy}"' for policy in POLICIES)


def _start(value: Any) -> str | None:
    accepted = (AUTO, ITSELF, EXEC_LINUX)
    return None if _is_one_of(value, *accepted) else " or ".join(f'"{way}"' for way in accepted)


def _severity(value: Any) -> str | None:
    return (
        None if _is_one_of(value, *_SEVERITIES) else " or ".join(f'"{severity}"' for severity in _SEVERITIES)
    )


# What SCons' own BoolVariable takes from the command line.
_TRUE = ("y", "yes", "true", "t", "1", "on", "all")
_FALSE = ("n", "no", "false", "f", "0", "off", "none", "")


def _flag(value: Any) -> str | None:
    is_word = is_String(value) and value.lower() in (*_TRUE, *_FALSE)
    return None if is_word or type(value) in (bool, int) or value is None else "True or False"


def is_on(env: Any, variable: str) -> bool:
    """Return the value of a variable that is true or false, also as it is given on the command line."""
    value = env[variable]
    return value.lower() in _TRUE if is_String(value) else bool(value)


def _strip(value: Any) -> str | None:
    return _flag(value) and _texts(value) and "True, False or a list of patterns"


def patterns_to_strip(env: Any) -> tuple[str, ...]:
    """Return the patterns of MYST_ROOTFS_STRIP, which is one for all files or a list."""
    value = env[STRIP]
    if not _flag(value):
        return ("*",) if is_on(env, STRIP) else ()
    return tuple(env.subst(arguments.text(pattern)) for pattern in items(value))


def _sysroot(value: Any) -> str | None:
    return None if _is_one_of(value, "") else _directory(value)


def _extras(value: Any) -> str | None:
    from mystikos_tool.root.closure import EXTRAS as KNOWN

    return None if all(_is_one_of(item, *KNOWN) for item in items(value)) else f"a list of {', '.join(KNOWN)}"


def _chmod(value: Any) -> str | None:
    from mystikos_tool.errors import UserError

    try:
        permissions(value, str)
    except (UserError, TypeError):
        return 'a dictionary of paths and modes, as in {"etc/shop.key": 0o600}'
    return None


def permissions(value: Any, subst: Callable[[str], str]) -> tuple[tuple[str, int], ...]:
    """Return the patterns and modes of MYST_ROOTFS_CHMOD, or of "PATTERN=MODE,..." as on the command line.

    Raises UserError or TypeError for anything else.
    """
    from mystikos_tool.root import permissions as of_root

    if isinstance(value, Mapping):
        pairs = [(os.fsdecode(pattern), mode) for pattern, mode in value.items()]
    else:
        pairs = [of_root.pair(os.fsdecode(word)) for word in items(value)]
    return of_root.permissions((subst(pattern), mode) for pattern, mode in pairs)


def _platform(value: Any) -> str | None:
    accepted = 'a dictionary of properties, as in {"sgx": "2"}'
    try:
        given = platform(value)
    except TypeError:
        return accepted
    return None if all(map(arguments.is_usable, [*given, *given.values()])) and "" not in given else accepted


def platform(value: Any) -> Mapping[str, str]:
    """Return MYST_TEST_PLATFORM as a dictionary, also where it is "NAME=VALUE,..." as on the command line.

    Raises TypeError for anything else.
    """
    if isinstance(value, Mapping):
        if not all(is_String(item) or type(item) is int for item in [*value, *value.values()]):
            raise TypeError
        return {str(name): str(text) for name, text in value.items()}
    pairs = [str(item).partition("=") for item in items(value)]
    if not all(separator for _, separator, _ in pairs):
        raise TypeError
    return {name: text for name, _, text in pairs}


def _policy_format(value: Any) -> str | None:
    return None if _is_one_of(value, *POLICY_SUFFIXES) else "one of " + ", ".join(POLICY_SUFFIXES)


def _root(value: Any) -> str | None:
    return None if _is_one_of(value, ARCHIVE, DISK) else f'"{ARCHIVE}" or "{DISK}"'


def _size(value: Any) -> str | None:
    is_none = value is None or _is_one_of(value, "")
    return None if is_none or size(value) is not None else 'a number of bytes, or one with k, m or g as "64m"'


def size(value: Any) -> int | None:
    """Return a size in bytes, None for what is none."""
    from mystikos_tool.config import schema

    return schema.size(value)


def _owners(value: Any) -> str | None:
    return None if _is_one_of(value, ROOT, PRESERVE) else f'"{ROOT}" or "{PRESERVE}"'


def _time(value: Any) -> str | None:
    is_number = type(value) is int or (is_String(value) and value.isdecimal())
    return None if value is None or _is_one_of(value, "") or is_number else "a number of seconds since 1970"


def _comstr(value: Any) -> str | None:
    return None if value is None or is_String(value) else "a string"


VARIABLES = (
    Variable(CONFIG, None, _config, "the configuration: a file (JSON) or a dictionary", CONFIGURE),
    Variable(CONFIG_SET, {}, _settings, "keys of the configuration in place of those of its file", CONFIGURE),
    Variable(
        "MYST_KEY",
        None,
        _file,
        "the signing key, RSA-3072, exponent 3: a PEM file, file:…, exec:… or pkcs11:…",
        SIGN,
    ),
    Variable(
        "MYST_RUNTIME",
        EMBEDDED,
        _directory,
        f'"{EMBEDDED}" or the directory of an installed Mystikos',
        RUNTIME,
    ),
    Variable(
        "MYST_RUNTIME_DIR",
        "#build/mystikos-runtime",
        _directory,
        "where the embedded runtime is built",
        RUNTIME,
    ),
    Variable(
        "MYST_RUNTIME_CC",
        "",
        _command,
        "another compiler than the pinned one for the embedded runtime",
        RUNTIME,
    ),
    Variable("MYST_ROOT", ARCHIVE, _root, f'"{DISK}" for a root on a disk, which is in no package', MEASURE),
    Variable(
        "MYST_PUBKEYS",
        [],
        _files,
        "public keys (PEM) whose disks the enclave trusts, or disks of MystDisk",
        MEASURE,
    ),
    Variable("MYST_ROOTHASHES", [], _files, "root hashes that the enclave trusts, or disks", MEASURE),
    Variable(
        "MYST_DISK_KEY",
        None,
        _file,
        "the key that signs a disk, RSA up to 8192 bits, as MYST_KEY names one",
        DISK,
    ),
    Variable("MYST_DISK_SIZE", None, _size, "size of a disk's data area, a multiple of 4096", DISK),
    Variable("MYST_DISK_ROOM", None, _size, "space for programs to write, without a size [8m]", DISK),
    Variable("MYST_DISK_ENCRYPT", None, _file, "file with the 64 bytes of a master key", DISK),
    Variable("MYST_DISK_DATA", False, _flag, "whether a disk is for programs to mount, and no root", DISK),
    Variable(
        "MYST_DISK_OWNERS",
        ROOT,
        _owners,
        f"whose files on a disk are: root's, or as they are ({PRESERVE})",
        DISK,
    ),
    Variable("MYST_DISK_TIME", None, _time, "time of every file on a disk, in seconds since 1970", DISK),
    Variable(
        "MYST_ROOTFS_MODES",
        CANONICAL,
        _modes,
        "whether file modes are made canonical or taken as they are",
        SOURCE,
    ),
    Variable("MYST_ROOTFS_CHMOD", {}, _chmod, "modes by path in the root or pattern", SOURCE),
    Variable(
        "MYST_ROOTFS_EXCLUDE", [], _texts, "patterns of names and paths that stay out of a root", SOURCE
    ),
    Variable(SYSROOT, "", _sysroot, "where MystClosure finds programs; by default, this machine", CLOSURE),
    Variable(EXTRAS, [], _extras, "what programs open by name: nss, certificates and others", CLOSURE),
    Variable(
        IMAGE_LOCK,
        "#mystikos-images.lock.json",
        _file,
        "file with the digests of the images that tags stand for",
        IMAGE,
    ),
    Variable(OVERLAY, False, _flag, "whether later sources of a root win over earlier ones", PACKED),
    Variable(
        STRIP,
        False,
        _strip,
        "whether programs and libraries lose their debug information, or patterns of those that do",
        PACKED,
    ),
    Variable(
        "MYST_ROOTFS_LEFTOVERS",
        "warn",
        _policy,
        ".git, *~ and the like in a root: warn, error or allow",
        PACKED,
    ),
    Variable(_SECRETS, "warn", _policy, "private keys in a root: warn, error or allow", MEASURE),
    Variable(
        "MYST_CHECK_FAILS",
        "error",
        _severity,
        "from which severity on a finding fails MystCheck: error, warning, note or none",
        CHECK,
    ),
    Variable(
        "MYST_START",
        AUTO,
        _start,
        f'how packages are started: "{ITSELF}", "{EXEC_LINUX}" of the installed Mystikos, or "{AUTO}":'
        " the latter where there is no SGX",
        START,
    ),
    Variable(
        POLICY_FORMAT, "json", _policy_format, "for whom a policy is: " + ", ".join(POLICY_SUFFIXES), POLICY
    ),
    Variable(
        ANY_VERSION,
        False,
        _flag,
        "whether a policy accepts the signer's later versions, and leaves MRENCLAVE out",
        POLICY,
    ),
    Variable(
        PROVENANCE_KEY, None, _file, "the key that signs a provenance, as MYST_KEY names one", PROVENANCE
    ),
    Variable("MYST_TEST_JUNIT", "", _file, "file for a report of the tests, in the XML of JUnit", TEST),
    Variable(REMOTE_EXECUTOR, "", _text, "URL of a farm that tests run on, in place of this machine", TEST),
    Variable(
        TEST_PLATFORM, {}, _platform, "properties of the machines of a farm that tests need, by name", TEST
    ),
    Variable(REMOTE_CACHE, "", _text, "URL of a cache on a server, for all targets"),
    *(
        Variable(
            f"MYST{stage.upper()}COMSTR",
            None,
            _comstr,
            f"printed instead of the line that tells of {action}",
            stage,
        )
        for stage, action in (
            (ROOTFS, "packing a root"),
            (DISK, "making a disk"),
            (PUBLIC_KEY, "writing the public half of a disk's key"),
            (MEASURE, "measuring"),
            (SIGN, "signing"),
            (DIGEST, "stating what is to be signed"),
            (ATTACH, "attaching a signature"),
            (PACKAGE, "packaging"),
            (IDENTITY, "writing MRENCLAVE or MRSIGNER"),
            (CHECK, "checking a root"),
            (REPORT, "showing a package"),
            (POLICY, "writing a policy"),
            (SBOM, "writing a bill of materials"),
            (PROVENANCE, "stating a provenance"),
            (RUNTIME, "compiling the runtime"),
            (KEY, "making a key"),
            (RUN, "starting a package"),
            (TEST, "running a test"),
        )
    ),
)

_NAMES = {variable.name: variable for variable in VARIABLES}
_DEFAULTS = tuple(variable.default for variable in VARIABLES)
_BARE = {name.replace("_", "") for name in _NAMES}


def defaults() -> dict[str, Any]:
    """Return every variable's default."""
    return {variable.name: variable.default for variable in VARIABLES}


def remember_origin(env: Any) -> None:
    """Remember where an environment is made, for itself and its clones."""
    if _ORIGIN not in env:
        env[_ORIGIN] = _Origin(env, env.fs.getcwd())


def directory_of(env: Any, variable: str, name: str) -> Any:
    """Return the directory that a relative name in a variable is relative to.

    From the command line that is the top. What a call is given belongs to the SConscript of the call,
    and so does MYST_CONFIG, of which each has its own. Anything else, above all the key, means the
    same in every SConscript that uses the environment, or a clone of it that has the same value; only
    where nothing of that name is there, it is looked for beside the SConscript of the call.
    """
    value, origin = env.get(variable), env.get(_ORIGIN)
    is_given = variable in vars(env).get("overrides", ())
    if not is_given and value is not None and value == ARGUMENTS.get(variable):
        return env.fs.Top
    if is_given or variable == CONFIG or origin is None or origin.env.get(variable) != value:
        return env.fs.getcwd()
    own = env.fs.getcwd()
    is_beside = own is not origin.directory and _has(own, name) and not _has(origin.directory, name)
    return own if is_beside else origin.directory


def is_there(env: Any, variable: str, name: str) -> bool:
    """Tell whether a file or directory of a name in a variable is there, or something makes one."""
    return _has(directory_of(env, variable, name), name)


def _has(directory: Any, name: str) -> bool:
    """Tell whether a directory has a file or directory of a name, or something makes one there."""
    node = directory.entries.get(name)
    places = (*paths_of(directory), *paths_of(directory.srcnode()))
    return bool(node and node.is_derived()) or any(os.path.exists(f"{place}/{name}") for place in places)  # noqa: PTH110


def use_remote_cache(env: Any) -> None:
    """Make an environment use the cache that its variable names, if it names one."""
    url = env.get(REMOTE_CACHE)
    if url:
        if accepted := _text(url):
            raise arguments.wrong(REMOTE_CACHE, url, accepted)
        from mystikos_tool.scons import remote_cache  # not needed by other builds

        remote_cache.attach(env, url)


def check_remote_cache(overrides: Iterable[str]) -> None:
    """Raise SCons' UserError where one call is given what is for all targets of an environment."""
    if REMOTE_CACHE in overrides:
        raise SCons.Errors.UserError(
            f"{REMOTE_CACHE} is the environment's: give it to Environment or Clone, not to one call"
        )


# What was checked: a thousand calls share an environment with a hundred names and their values. What was
# accepted last, by variable, cannot become another value in its place.
_checked: set[str] = set()
_accepted: list[Any] = list(_DEFAULTS)


def check_names(names: Mapping[str, Any]) -> None:
    """Raise SCons' UserError for a variable of the tool's that does not exist."""
    if _checked.issuperset(names):
        return
    for name in names.keys() - _checked:
        if name.startswith(("MYST", "myst")) and name not in _NAMES and _is_meant_for_us(name):
            near = difflib.get_close_matches(name.upper(), _NAMES, 1, 0.0)[0]
            raise SCons.Errors.UserError(f"there is no construction variable {name}; did you mean {near}?")
        _checked.add(name)


def _is_meant_for_us(name: str) -> bool:
    """Tell whether a name is, but for a slip, one of the tool's: others may begin with the same letters."""
    upper = name.upper()
    return (
        upper.startswith(PREFIX)
        or (name.startswith("MYST") and name.endswith("COMSTR"))
        or upper.replace("_", "") in _BARE
    )


def check_keywords(builder: str, names: Mapping[str, Any], parameters: Sequence[str], env: Any) -> None:
    """Raise SCons' UserError for a keyword argument that is neither a parameter nor a variable.

    Construction variables are written in capitals, but for those that the environment has.
    """
    check_names(names)
    for name in names:
        if name.upper() == name or name in env:
            continue
        near = _near(name, parameters)
        remedy = f"did you mean {near}?" if near else f"it takes {', '.join([*parameters, 'variables'])}"
        raise SCons.Errors.UserError(f"{builder} does not take {name}; {remedy}")


def check_matter(builder: str, overrides: Iterable[str], stages: Collection[str]) -> None:
    """Raise SCons' UserError for an override that matters for none of the stages that a call adds."""
    for name in overrides:
        stage = _NAMES[name].stage if name in _NAMES else ""
        if name == EPOCH:  # it dates what is signed, here or elsewhere
            stage = DIGEST if DIGEST in stages else SIGN
        if name == _SECRETS and DISK in stages:
            continue
        if stage and stage not in stages:
            raise SCons.Errors.UserError(
                f"{name} has no effect: this {builder} does not {_DONE[stage]};"
                " give it to the call that does, or leave it out"
            )


def check_runtime(overrides: Mapping[str, Any], env: Any) -> None:
    """Raise SCons' UserError for an override of how to compile the runtime beside an installed one."""
    for name in ("MYST_RUNTIME_CC", "MYST_RUNTIME_DIR"):
        if overrides.get(name) and not names_embedded(env):
            raise SCons.Errors.UserError(
                f"{name} has no effect: MYST_RUNTIME names an installed Mystikos; leave one of the two out"
            )


def names_embedded(env: Any) -> bool:
    """Tell whether MYST_RUNTIME names the embedded runtime, and no directory."""
    name = arguments.text(env["MYST_RUNTIME"])
    return name is not None and (env.subst(name) if "$" in name else name) == EMBEDDED


def _near(name: str, parameters: Sequence[str]) -> str | None:
    upper = name.upper()
    for variable in (upper, f"{PREFIX}{upper}", f"MYST{upper}"):
        if variable in _NAMES:
            return variable
    return next(iter(difflib.get_close_matches(name, parameters, 1)), None)


def check_values(values: Mapping[str, Any]) -> None:
    """Raise SCons' UserError for a value that is not accepted."""
    given = list(map(values.get, _NAMES, _DEFAULTS))
    for number in compress(count(), map(is_not, given, _accepted)):
        _check_value(VARIABLES[number], given[number])
        if type(given[number]) in (str, bool, int):
            _accepted[number] = given[number]
    environment = values.get("ENV", {})
    if not isinstance(environment, Mapping):
        raise arguments.wrong("ENV", environment, 'a dictionary, as in {"PATH": "/bin"}')
    epoch = values.get(EPOCH)
    if epoch is not None and type(epoch) is not int and _text(epoch):
        raise arguments.wrong(EPOCH, epoch, "a number of seconds since 1970")


def _check_value(variable: Variable, value: Any) -> None:
    is_same_type = type(value) is type(variable.default)
    if value is variable.default or (is_same_type and value == variable.default):  # SCons has copied it
        return
    accepted = variable.check(value)
    if accepted:
        raise arguments.wrong(variable.name, value, accepted)
