"""Read the user's files whole and write targets so that no half-written one is ever seen."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from pathlib import Path
from threading import Thread
from typing import BinaryIO

from mystikos_tool.errors import UserError, reason_of
from mystikos_tool.io import abandoned, fingerprint, lookup

_LARGE = 1 << 24
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
_BUFFER = 1 << 18
_OURS = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # to open what may be another's
_MAX_STEM = 200  # leaves room, within the 255 bytes of a name, for what is added to it
_MAX_LINKS = 40  # as Linux
_STATUS_START = 256  # bytes of /proc/self/status, behind whose first line, a name, the umask comes
_ELSEWHERE = "choose another place for the output"
_OUT_OF_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def read_input(path: Path, what: str, limit: int = 1 << 20) -> bytes:
    """The content of a small file; ``what`` names its role in messages, ``limit`` is in bytes.

    Raises UserError when it is missing, a directory, unreadable or larger than ``limit``.
    """
    try:
        with path.open("rb") as file:
            size = min(os.fstat(file.fileno()).st_size, limit)
            data = file.read(size + 1)
            if len(data) > size:  # the file grows, or is none with a size
                data += file.read(limit + 1 - len(data))
    except FileNotFoundError:
        raise UserError(str(path), f"there is no such {what}", "give an existing file") from None
    except IsADirectoryError:
        raise UserError(str(path), f"is a directory, not a {what}", "give a file") from None
    except PermissionError:
        remedy = f"allow it, as in: chmod u+r {path}"
        raise UserError(str(path), f"may not be read as {what}", remedy) from None
    except (OSError, ValueError) as error:
        raise UserError(str(path), f"cannot be read as {what}: {reason_of(error)}", "give a file") from None
    if len(data) > limit:
        problem = f"is larger than {limit:,} bytes, too large for a {what}"
        raise UserError(str(path), problem, "give another file")
    return data


def is_out_of_space(error: OSError) -> bool:
    """Tell whether more space, or leave to use more of it, would have helped."""
    return error.errno in _OUT_OF_SPACE


def check_target(
    target: Path, inputs: Iterable[Path] = (), packed: Path | None = None, *, parents: bool = False
) -> None:
    """Raise UserError for a target that is one of the inputs, or lies in the directory that is packed.

    It is also raised for a name that no file can have, for a directory that may not be searched, and without
    ``parents`` for one that is not there.
    """
    try:
        target.lstat()
    except FileNotFoundError as error:
        if not parents and not lookup.is_dir(target.parent):
            raise _without_directory(target, error) from None
    except OSError as error:
        raise _not_written(target, error, _ELSEWHERE) from None
    for path in inputs:
        if lookup.exists(target) and lookup.exists(path) and target.samefile(path):
            raise UserError(str(target), "is one of the inputs", _ELSEWHERE)
    # Not Path.resolve, which has an error of its own for links that lead in circles.
    if packed and Path(os.path.realpath(target)).is_relative_to(os.path.realpath(packed)):
        raise UserError(str(target), f"lies in {packed}, which is packed", "write it somewhere else")


@contextmanager
def writing(target: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Yield a binary file, readable and writable, that takes the place of ``target`` at the end.

    It is written beside ``target`` and renamed; when the body raises, it is removed and an
    earlier target stays as it was. What a process leaves that is killed meanwhile, the next one
    to write ``target`` takes over. The result has the permissions ``mode`` as far as the umask
    lets it. A symbolic link keeps its place: the file that it points to is replaced.

    Raises UserError when the directory is missing or may not be written, when ``target`` is
    something other than a regular file or is reached by another user's symbolic link, or when the
    disk is full.
    """
    final = _followed(target)
    _check_replaceable(final, target)
    try:
        descriptor, temporary, is_new = _open_temporary(final, mode)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not lookup.is_dir(final.parent):
            raise _without_directory(target, error) from None
        raise _not_written(target, error, _ELSEWHERE) from None
    try:
        # Its lock, which goes when it is closed, keeps others from its name until that is gone.
        with os.fdopen(descriptor, "w+b", _BUFFER) as file:
            try:
                yield file
                file.flush()
                if not is_new:  # else the kernel has applied the umask
                    os.fchmod(file.fileno(), permissions(mode))
                _replace(final, temporary)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
    except OSError as error:
        if is_out_of_space(error):
            raise _not_written(target, error, "free some space") from None
        raise


@contextmanager
def rewriting(target: Path, mode: int = 0o644, *, unread: bool = False) -> Iterator[FileIO | None]:
    """Yield ``target`` itself, unbuffered, to be changed in place; None where it cannot be had alone.

    Meanwhile it has the name that `writing` gives to its temporary files: whoever looks for it
    finds nothing, or at the end the whole. When the body raises, it is removed. What has another
    link, belongs to another user or is being written by another process is not to be had; with
    ``unread``, nor is what somebody has open, to read or run it.
    """
    final = _followed(target)
    temporary = _temporary_name(final)
    try:
        file = FileIO(final, "r+")
    except OSError:
        yield None
        return
    with file:
        if not abandoned.lock(file.fileno(), final) or not _take_name(final, temporary):
            yield None
            return
        if unread and not _is_open_nowhere_else(file.fileno()):
            temporary.replace(final)
            yield None
            return
        try:
            yield file
            os.fchmod(file.fileno(), permissions(mode))
            temporary.replace(final)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_at(descriptor: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """Write data whole, at an offset of an open file."""
    written = os.pwrite(descriptor, data, offset)
    while written < len(data):
        written += os.pwrite(descriptor, data[written:], offset + written)


def rewrite(
    target: Path,
    known: bytes,
    places: Iterable[tuple[int, bytes]],
    mode: int = 0o644,
    *,
    unread: bool = False,
) -> bool:
    """Write data at their offsets into ``target`` itself; False where it is not to be had (`rewriting`).

    So it is where it is not the file of the fingerprint ``known`` any more. What has its place on the disk
    begins to be brought there: after a power failure the file's times would else be those of a content that
    never came there.
    """
    version = fingerprint.content_version(known)
    with rewriting(target, mode, unread=unread) as file:
        if file is None or fingerprint.version_of(os.fstat(file.fileno())) != version:
            return False
        for offset, data in places:
            write_at(file.fileno(), data, offset)
            os.posix_fadvise(file.fileno(), offset, len(data), os.POSIX_FADV_DONTNEED)
    return True


def _take_name(final: Path, temporary: Path) -> bool:
    """Give a file its temporary name, unless another process has a file of that name locked."""
    with suppress(OSError), ExitStack() as closing:
        with suppress(FileNotFoundError):
            descriptor = os.open(temporary, _OURS)
            closing.callback(os.close, descriptor)
            if not abandoned.lock(descriptor, temporary):
                return False
        final.replace(temporary)
        return True
    return False


def _is_open_nowhere_else(descriptor: int) -> bool:
    """Tell whether nobody else has a file open; False where that is not to be known.

    Only then the kernel gives a lease for writing (fcntl(2)), which is given back at once.
    """
    try:
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)  # by itself it does nothing; SIGIO would kill
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError:
        return False
    return True


def _temporary_name(final: Path) -> Path:
    name = os.fsdecode(os.fsencode(final.name)[:_MAX_STEM])
    return final.with_name(f".{name}{abandoned.SUFFIX}")


def _replace(final: Path, temporary: Path) -> None:
    """Rename a temporary file to ``final``.

    ext4 writes a file to the disk before it lets the file replace another one, which for a large
    file takes longer than making it. Therefore a large file and the earlier one exchange their
    names, and then the earlier one is removed. A thread closes it, since freeing its space takes time.
    """
    earlier = _large_earlier(final)
    if earlier is None or not _exchange(temporary, final):
        temporary.replace(final)
    else:
        temporary.unlink()
    if earlier:
        try:
            Thread(target=earlier.close).start()
        except RuntimeError:  # the interpreter is about to end
            earlier.close()


def _large_earlier(final: Path) -> FileIO | None:
    """Open and lock a large earlier file; None where there is none.

    The lock keeps other processes from writing to it while it has the name of the temporary file.
    """
    with suppress(OSError), ExitStack() as closing:
        if final.stat().st_size >= _LARGE:
            earlier = closing.enter_context(FileIO(final))
            fcntl.flock(earlier, fcntl.LOCK_EX | fcntl.LOCK_NB)
            closing.pop_all()
            return earlier
    return None


def _exchange(first: Path, second: Path) -> bool:
    """Let two files change their names (renameat2(2)); return False where the system cannot."""
    try:
        import ctypes  # takes its time, and small files do without it

        renameat2 = ctypes.CDLL(None).renameat2
    except (ImportError, AttributeError, OSError):
        return False
    places = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second))
    return int(renameat2(*places, _RENAME_EXCHANGE)) == 0


def _open_temporary(final: Path, mode: int) -> tuple[int, Path, bool]:
    """Open an empty file beside ``final`` for this process alone; tell whether it has its permissions.

    Its name follows from the target's, so that nothing lies there for ever. While it is locked by
    another process, or when it cannot be ours, the name is a new one.
    """
    temporary = _temporary_name(final)
    flags = _OURS | os.O_CREAT
    for is_new in (True, False):
        try:
            descriptor = os.open(temporary, flags | (os.O_EXCL if is_new else 0), mode if is_new else 0o600)
        except OSError:
            continue  # it is there; or it is a link or another user's, or nothing can be made here
        if abandoned.lock(descriptor, temporary):
            # What ext4 sees truncated, even from nothing, it writes to the disk when it is closed.
            if os.fstat(descriptor).st_size > 0:
                os.ftruncate(descriptor, 0)
            return descriptor, temporary, is_new
        os.close(descriptor)
    prefix = temporary.name.removesuffix(abandoned.SUFFIX) + "."
    while True:
        descriptor, path = tempfile.mkstemp(prefix=prefix, suffix=abandoned.SUFFIX, dir=final.parent)
        if abandoned.lock(descriptor, Path(path)):
            return descriptor, Path(path), False
        os.close(descriptor)  # someone who sweeps has taken it for nobody's


def write(target: Path, data: bytes, mode: int = 0o644) -> None:
    """Make ``target`` a file of this content; see `writing`."""
    with writing(target, mode) as file:
        file.write(data)


@contextmanager
def scratch(beside: Path) -> Iterator[Path]:
    """Yield an empty directory for large intermediate files, on the disk where ``beside`` will be.

    It lies in the nearest directory above ``beside`` that exists, and is removed at the end. So is
    what a process left there that was killed before. Raises UserError when none can be made there.
    """
    parent = next(path for path in (Path.cwd() / beside).parents if lookup.is_dir(path))
    # One that was killed may have made the directories of a relative path, and had its own above them.
    made = () if beside.is_absolute() else beside.parents
    for above in {parent, *map(Path.cwd().joinpath, made)}:
        abandoned.sweep(above)
    try:
        descriptor, directory = _new_directory(parent)
    except OSError as error:
        raise _not_written(beside, error, _ELSEWHERE) from None
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(descriptor)


def _new_directory(parent: Path) -> tuple[int, Path]:
    """Make a directory that is locked as long as the descriptor is open."""
    while True:
        directory = Path(tempfile.mkdtemp(prefix=abandoned.PREFIX, dir=parent))
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # someone who sweeps has taken it for nobody's
        if abandoned.lock(descriptor, directory):
            return descriptor, directory
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a directory and its parents where they are missing; UserError when that cannot be.

    It is also raised for one that another user's symbolic link leads to.
    """
    try:
        _followed(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(str(path), f"cannot be made a directory: {reason_of(error)}", _ELSEWHERE) from None


def _followed(target: Path) -> Path:
    """Return the path that a target is written to, its symbolic links followed.

    Raises UserError for a link of another user's but root: it would choose which file is replaced.
    """
    done, left, links = "", _parts(f"{Path.cwd()}/{target}" if not target.is_absolute() else str(target)), 0
    while left:
        name = left.pop()
        path = f"{done}/{name}"
        try:
            status = os.lstat(path)
        except OSError:
            status = None  # making the file says why
        if name == "..":
            done = done.rpartition("/")[0]
        elif status is None or not stat.S_ISLNK(status.st_mode):
            done = path
        else:
            if status.st_uid not in (0, os.geteuid()):
                problem = f"is reached by {path}, a symbolic link of another user's (uid {status.st_uid})"
                raise UserError(str(target), problem, "remove the link, or name the place that it leads to")
            links += 1
            if links > _MAX_LINKS:
                problem = "cannot be written: too many levels of symbolic links"
                raise UserError(str(target), problem, "remove one")
            to = str(Path(path).readlink())
            done = "" if to.startswith("/") else done
            left += _parts(to)
    return Path(done or "/")


def _parts(path: str) -> list[str]:
    """Return the names in a path, the last one first."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def permissions(mode: int) -> int:
    """Return the permissions that a new file of a mode gets, as the umask lets it."""
    return mode & ~_umask()


def _umask() -> int:
    """Return the umask. Nothing is set for it, since other threads may make files meanwhile."""
    with suppress(OSError), FileIO("/proc/self/status") as status:
        _, found, rest = status.read(_STATUS_START).partition(b"\nUmask:")
        if found:
            return int(rest.split()[0], 8)
    umask = os.umask(0o077)
    os.umask(umask)
    return umask


def _check_replaceable(final: Path, target: Path) -> None:
    try:
        mode = final.stat().st_mode
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # which the temporary file's name is not
            raise _not_written(target, error, "give a shorter name") from None
        return  # absent, or not to be reached: then making the temporary file says why
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
        raise UserError(str(target), f"is {kind}", "give the name of a file to write")


def _without_directory(target: Path, error: OSError) -> UserError:
    return _not_written(target, error, f"make the directory first: mkdir -p {_followed(target).parent}")


def _not_written(path: Path, error: OSError, remedy: str) -> UserError:
    return UserError(str(path), f"cannot be written: {reason_of(error)}", remedy)
