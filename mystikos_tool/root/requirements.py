"""What a configuration and a runtime ask of the root: what would not start is refused here."""

from __future__ import annotations

import posixpath
import stat
from collections.abc import Iterator

from mystikos_tool.config import Config, jsonc
from mystikos_tool.errors import UserError
from mystikos_tool.root.index import Index, Member
from mystikos_tool.root.mounts import check_mounts, mount_over
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
        return []
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
    where, stack = config.where("MainStackSize"), config.main_stack_size
    if stack < _MIN_STACK:
        raise UserError(where, f"is less than {_MIN_STACK:,} bytes, and no program starts", "give more")
    if stack >= config.memory_size:
        problem = f"has {stack:,} bytes and is not smaller than MemorySize, of {config.memory_size:,}"
        raise UserError(where, problem, "give more memory, or a smaller stack")
    sizes = []
    for key, texts in (
        ("ApplicationParameters", (config.application_path, *config.application_parameters)),
        ("EnvironmentVariables", config.environment_variables),
    ):
        sizes += (found := [len(text.encode()) + _PER_TEXT for text in texts])
        if max(found, default=0) > _MAX_TEXT:
            problem = "has a text of 128 KiB or more, and Linux starts no program with it"
            raise UserError(config.where(key), problem, "shorten it")
    if (size := sum(sizes)) >= stack:
        problem = f"has {stack:,} bytes, and arguments and environment take {size:,}"
        raise UserError(where, problem, "give more, or shorten them")


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
    for path in ("/etc/hosts", "/etc/resolv.conf"):
        if index.entry(path) and not index.find(path):
            problem = f"{path} is a symbolic link that leads nowhere, with which Mystikos stops"
            raise UserError(index.where, problem, "leave it out; the host's file takes its place")
    yield from ()


def _appenv(index: Index, config: Config, *, embedded: bool, is_disk: bool) -> Iterator[UserError]:
    """Refuse a file of variables that would be read at the start and refused then."""
    member = index.find(_APPENV)
    if member is None or posixpath.normpath(config.current_working_directory).strip("/"):
        return
    where = f"{index.where}, {_APPENV}"
    remedy = 'write {"Env": ["NAME=VALUE"]}, or leave it out'
    if not stat.S_ISREG(member.mode):
        raise UserError(where, "is no file", remedy)
    if member.size > _MAX_APPENV:
        raise UserError(where, f"is larger than {_MAX_APPENV:,} bytes", remedy)
    root = jsonc.read(index.data(member), where).root.value
    members = {one.key: one.node.value for one in root} if isinstance(root, tuple) else {}
    variables = members.get("Env")
    if not isinstance(variables, list) or not variables:
        raise UserError(where, "has no list Env with a variable in it", remedy)
    for node in variables:
        if not isinstance(node.value, str) or "=" not in node.value:
            raise UserError(where, "has an element in Env that is not NAME=VALUE", remedy)
    yield from ()


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
    if mount := mount_over(config.mounts, path):
        problem = f"{path} lies in the mount {mount}, so that nothing is known of it yet"
        yield UserError(where, problem, "see that the source has it, executable")
        return
    member = index.find(path)
    if member is None:
        raise _not_found(where, path, index)
    if not stat.S_ISREG(member.mode):
        raise UserError(where, f"{path} is no file in {index.where}", "name the program to start")
    if not is_executable(member, embedded=embedded):
        raise UserError(where, f"{path} is not executable in {index.where}", "chmod +x it in the appdir")
    if embedded and not is_disk:
        _check_reachable(index, path, where)
    for fault in faults(index, member, config, embedded=embedded):
        if fault.certain:
            raise UserError(where, f"{path} does not start: {fault.problem}", fault.remedy)
        yield UserError(where, f"{path} may not start: {fault.problem}", fault.remedy)
    if embedded:
        yield from _only_here(index, member, config)


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
