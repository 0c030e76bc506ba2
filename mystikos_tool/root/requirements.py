"""What a configuration and a runtime ask of the root: what would not start is refused here."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Iterator, Sequence
from functools import partial

from mystikos_tool.config import Config, jsonc
from mystikos_tool.errors import UserError
from mystikos_tool.root.index import Index, Member, VisibleIndex
from mystikos_tool.root.mounts import check_declared, check_mounts, mount_over
from mystikos_tool.root.program import faults, is_executable
from mystikos_tool.root.root import DiskRoot, Root

_APPENV = "/appenv.json"
_MAX_APPENV = 1 << 20
_VARIABLES, _CREDENTIALS = "EnvironmentVariables", "MYST_WANT_TEE_CREDENTIALS"
# Of the embedded kernel: the least bytes of the main stack, and a text's NUL and pointer on it.
_MIN_STACK = 1 << 15
_PER_TEXT = 1 + 8
_MAX_TEXT = (1 << 17) + 8  # with them
# Of the kernel's; and what it makes where it is missing.
_KERNEL_S = ("/dev/", "/proc/")
_MADE_AT_START = ("/tmp", "/etc")  # noqa: S108 in the root, not here


def check(root: Root, config: Config, *, trusts_disks: bool, embedded: bool) -> list[str]:
    """Return what may keep the package from starting; raise UserError for what certainly does.

    ``trusts_disks`` says whether the package has a public key or root hash by which a disk is
    checked, ``embedded`` whether the runtime is the embedded one or an installed Mystikos. The
    root, be it an archive or a disk at hand, has to hold the program, executable, with what it needs to
    start.
    """
    if embedded:
        _check_attestation(config)
        _check_stack(config)
    if isinstance(root, DiskRoot):
        _check_disk(config, trusts_disks=trusts_disks)
    index = root.index()
    if index is None:
        return [str(doubt) for doubt in check_declared(config, embedded=embedded)]
    is_disk = isinstance(root, DiskRoot)
    return [
        str(doubt) for doubts in CHECKS for doubt in doubts(index, config, embedded=embedded, is_disk=is_disk)
    ]


def _check_attestation(config: Config) -> None:
    """Refuse what is released after attestation, which the embedded runtime has none of."""
    asked = [
        key for key, given in (("Secret", config.secrets), (_VARIABLES, _wants_credentials(config))) if given
    ]
    for key in asked:
        what = "secrets" if key == "Secret" else f"{_CREDENTIALS}: credentials"
        problem = f"{what} are released after attestation, and the embedded runtime has none"
        raise UserError(config.where(key), problem, "use an installed Mystikos")


def _wants_credentials(config: Config) -> bool:
    return any(text.startswith(f"{_CREDENTIALS}=") for text in config.environment_variables)


def _check_stack(config: Config) -> None:
    """Refuse a main stack that the embedded runtime starts no program with."""
    where, stack, memory = config.where("MainStackSize"), config.main_stack_size, config.memory_size
    if stack < _MIN_STACK:
        raise UserError(where, f"is less than {_MIN_STACK:,} bytes, and no program starts", "give more")
    if stack >= memory:
        problem = f"has {stack:,} bytes and is not smaller than MemorySize, of {memory:,}"
        if "MainStackSize" not in config.places:
            key = "UserMemSize" if "UserMemSize" in config.places else "MemorySize"
            where, problem = config.where(key), f"has {memory:,} bytes, and the main stack {stack:,}"
        raise UserError(where, problem, "give more memory, or a smaller stack (MainStackSize)")
    _check_texts(config)


def _check_texts(config: Config, added: Sequence[str] = (), where_added: str = "") -> None:
    """Refuse arguments and variables that do not fit on the stack, with those that the root has ``added``."""
    sizes = []
    for where, texts in (
        (config.where("ApplicationParameters"), (config.application_path, *config.application_parameters)),
        (config.where("EnvironmentVariables"), config.environment_variables),
        (where_added, added),
    ):
        sizes += (found := [len(text.encode()) + _PER_TEXT for text in texts])
        if max(found, default=0) > _MAX_TEXT:
            problem = "has a text of 128 KiB or more, and Linux starts no program with it"
            raise UserError(where, problem, "shorten it")
    stack = config.main_stack_size
    if (size := sum(sizes)) >= stack:
        problem = f"has {stack:,} bytes, and arguments and environment take {size:,}"
        raise UserError(config.where("MainStackSize"), problem, "give more, or shorten them")


def _check_disk(config: Config, *, trusts_disks: bool) -> None:
    if not (config.debug or trusts_disks):
        raise UserError(
            config.name,
            "an ext2 root would be mounted unchecked in an enclave without Debug",
            "give a public key or a root hash that makes the disk trusted",
        )


def _system_files(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    """Refuse a root in whose directories of the system the runtime cannot make what belongs there."""
    for path in ("/dev", "/proc") if embedded or is_disk else ():
        entry = index.entry(path)
        if entry and not stat.S_ISDIR(entry.mode):
            raise UserError(index.where, f"{path} is no directory", "make it one, or leave it out")
    for member in () if is_disk else index.members:
        if member.path.startswith(b"proc/") and (embedded or not stat.S_ISDIR(member.mode)):
            path = "/" + member.path.decode(errors="replace")
            problem = f"{path} lies in /proc, where Mystikos cannot unpack it"
            raise UserError(index.where, problem, "leave it out")
    etc, found = index.entry("/etc"), index.find("/etc")
    if embedded and etc and stat.S_ISLNK(etc.mode) and not (found and stat.S_ISDIR(found.mode)):
        problem = "/etc is a symbolic link that leads to no directory of the root"
        raise UserError(index.where, problem, "make it a directory, or leave it out")
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        if obstacle := _cannot_be_replaced(index, path, embedded=embedded):
            raise UserError(index.where, obstacle, "leave it out; the host's file takes its place")
    yield from ()


def _cannot_be_replaced(index: Index, path: str, *, embedded: bool) -> str | None:
    """Say why the host's file cannot be put in the place of one of the root's; None where it can."""
    entry, found = index.entry(path), index.find(path)
    if entry and not found:
        return f"{path} is a symbolic link that leads nowhere, with which Mystikos stops"
    below = os.fsencode(path.strip("/")) + b"/"
    # Mystikos removes what is there: a link, wherever it leads, or an empty directory.
    full = entry and stat.S_ISDIR(entry.mode) and any(one.path.startswith(below) for one in index.members)
    if full or (embedded and found and stat.S_ISDIR(found.mode)):
        return f"{path} is a directory, where a file of the host belongs"
    return None


def _appenv(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    """Refuse a file of variables that would be read at the start and refused then."""
    if posixpath.normpath(config.current_working_directory).strip("/"):
        return
    where = f"{index.where}, {_APPENV}"
    remedy = 'write {"Env": ["NAME=VALUE"]}, or leave it out'
    entry, member = index.entry(_APPENV), index.find(_APPENV)
    if embedded and entry and stat.S_ISLNK(entry.mode):
        raise UserError(where, "is a symbolic link, which the embedded runtime does not follow", remedy)
    if member is None:
        return
    if not stat.S_ISREG(member.mode):
        raise UserError(where, "is no file", remedy)
    if member.size > _MAX_APPENV:
        raise UserError(where, f"is larger than {_MAX_APPENV:,} bytes", remedy)
    root = jsonc.read(index.data(member), where).root.value
    values = _variables_in(root, embedded=embedded)
    if not values:
        raise UserError(where, "has no list Env with a variable in it", remedy)
    texts = [value for value in values if isinstance(value, str) and "=" in value]
    if len(texts) != len(values):
        raise UserError(where, "has an element in Env that is not NAME=VALUE", remedy)
    if embedded and isinstance(root, tuple) and len(root) > 1:
        problem = "has more than one Env in it, and the embedded runtime starts with that alone"
        raise UserError(where, problem, remedy)
    if embedded:
        _check_texts(config, [text for text in texts if _is_new(text, config)], where)
    yield from ()


def _variables_in(root: object, *, embedded: bool) -> list[object]:
    """Return what a document has under Env."""
    members = {one.key: one.node.value for one in root} if isinstance(root, tuple) else {}
    found = members.get("Env")
    if isinstance(found, str) and not embedded:
        return [found]  # Mystikos' reader sees no difference between a text and the element of a list
    return [node.value for node in found] if isinstance(found, list) else []


def _is_new(variable: str, config: Config) -> bool:
    """Tell whether a variable is certainly added: one whose name another one begins with may not be."""
    name = variable.partition("=")[0]
    given = (*config.environment_variables, *config.host_environment_variables, "MYST_TARGET")
    return not any(one.startswith(name) for one in given)


def _working_directory(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    path, where = config.current_working_directory, config.where("CurrentWorkingDirectory")
    normal = posixpath.normpath(path)
    if not path.startswith("/") or f"{normal}/".startswith(_KERNEL_S) or mount_over(config.mounts, path):
        return
    for end in (at for at, char in enumerate(f"{normal}/") if char == "/" and at):
        found = index.find(normal[:end])
        if found and not stat.S_ISDIR(found.mode):
            problem, remedy = f"{normal[:end]} is no directory in {index.where}", "name a directory"
            if embedded or end == len(normal):  # as recorded, Mystikos hangs
                raise UserError(where, f"{problem}, and nothing starts there", remedy)
            yield UserError(where, f"{problem}, and an installed Mystikos may not start there", remedy)
            return
    if normal not in _MADE_AT_START and not index.find(path):
        problem = f"{path} is not in {index.where}, and an empty directory that is read-only stands for it"
        yield UserError(where, problem, "create it in the appdir")


def _program(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    where, path = config.where("ApplicationPath"), config.application_path
    found = index.find(path)
    places = [path, *(["/" + os.fsdecode(found.path)] if found else [])]
    if mount := next(filter(None, (mount_over(config.mounts, place) for place in places)), None):
        problem = f"{path} lies in the mount {mount}, so that nothing is known of it yet"
        yield UserError(where, problem, "see that the source has it, executable")
        return
    seen = VisibleIndex(index, partial(mount_over, config.mounts))
    member = seen.find(path)
    if member is None and found:
        problem = f"{path} is none of {index.where} at the start: the kernel puts its own there"
        raise UserError(where, problem, "put the program into another directory")
    if member is None:
        raise _not_found(where, path, seen)
    if not stat.S_ISREG(member.mode):
        raise UserError(where, f"{path} is no file in {index.where}", "name the program to start")
    if not is_executable(member, embedded=embedded):
        raise UserError(where, f"{path} is not executable in {index.where}", "chmod +x it in the appdir")
    if embedded and not is_disk:
        _check_reachable(index, path, where)
    under = "" if embedded else " under Mystikos"
    for fault in faults(seen, member, config, embedded=embedded):
        if fault.certain:
            raise UserError(where, f"{path} does not start{under}: {fault.problem}", fault.remedy)
        yield UserError(where, f"{path} may not start{under}: {fault.problem}", fault.remedy)
    if embedded:
        yield from _only_here(seen, member, config)


def _check_reachable(index: Index, path: str, where: str) -> None:
    """Refuse a program below a directory that its owner, who starts it, may not look into."""
    parts = path.strip("/").split("/")
    for directory in ("/" + "/".join(parts[:end]) for end in range(1, len(parts))):
        found = index.find(directory)
        if found and not found.mode & stat.S_IXUSR:
            mode = f"{stat.S_IMODE(found.mode):04o}"
            problem = f"{directory} has the mode {mode} in {index.where}, and nothing in it can be started"
            raise UserError(where, problem, "give it the permission x, as 0755 has")


def _only_here(index: Index, member: Member, config: Config) -> Iterator[UserError]:
    """Tell of a program that starts in the embedded runtime and never in an installed Mystikos."""
    certain = [fault for fault in faults(index, member, config, embedded=False) if fault.certain]
    for fault in certain[:1]:
        problem = f"{config.application_path} starts with the embedded runtime only: {fault.problem}"
        yield UserError(config.where("ApplicationPath"), problem, fault.remedy)


def _not_found(where: str, path: str, index: Index) -> UserError:
    link = index.entry(path)
    if link is not None and stat.S_ISLNK(link.mode):
        target = index.data(link).decode(errors="replace")
        return UserError(
            where,
            f"{path} is a symbolic link to {target}, which is not in {index.where}",
            "put what it points to into the appdir",
        )
    return UserError(where, f"{path} is not in {index.where}", _nearest(index, path))


def _nearest(index: Index, path: str) -> str:
    """Point to a program of the same name, or nearly of the same path, if the root has one."""
    import difflib  # needed for this message only

    programs = [
        "/" + member.path.decode(errors="replace")
        for member in index.members
        if stat.S_ISREG(member.mode) and member.mode & 0o111
    ]
    name = path.rsplit("/", 1)[-1]
    near = [program for program in programs if program.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(path, programs, 1)
    return f"did you mean {near[0]}?" if near else "put the program into the appdir or correct the path"


# Each yields what may keep a root from starting, and raises UserError for what certainly does.
CHECKS = (_system_files, _appenv, _program, check_mounts, _working_directory)
