"""What a configuration asks of the root that it is packaged with."""

from __future__ import annotations

import stat

from mystikos_tool.config import Config
from mystikos_tool.errors import UserError
from mystikos_tool.root.archive import Archive
from mystikos_tool.root.root import DiskRoot, Root


def check(root: Root, config: Config, *, trusts_disks: bool) -> None:
    """Raise UserError where the configuration does not fit the root.

    ``trusts_disks`` says whether the package has a public key or root hash by which a disk is
    checked. An archive has to hold the program, executable, and nothing but a directory where a mount goes;
    the kernel makes one that is not there.
    """
    if isinstance(root, DiskRoot):
        if not (config.debug or trusts_disks):
            raise UserError(
                config.name,
                "an ext2 root would be mounted unchecked in an enclave without Debug",
                "give a public key or a root hash that makes the disk trusted",
            )
        return
    archive = root.index()
    _check_program(archive, config)
    for number, mount in enumerate(config.mounts):
        found = archive.find(mount.target)
        if found is not None and not stat.S_ISDIR(found.mode):
            raise UserError(
                config.where(f"Mount[{number}].Target"),
                f"{mount.target} is no directory in {archive.where}",
                "make it a directory in the appdir",
            )


def _check_program(archive: Archive, config: Config) -> None:
    where, path = config.where("ApplicationPath"), config.application_path
    member = archive.find(path)
    if member is None:
        raise _not_found(where, path, archive)
    if not stat.S_ISREG(member.mode):
        raise UserError(where, f"{path} is no file in {archive.where}", "name the program to start")
    if not member.mode & 0o111:
        raise UserError(where, f"{path} is not executable in {archive.where}", "chmod +x it in the appdir")


def _not_found(where: str, path: str, archive: Archive) -> UserError:
    link = archive.entry(path)
    if link is not None and stat.S_ISLNK(link.mode):
        target = archive.data(link).decode(errors="replace")
        return UserError(
            where,
            f"{path} is a symbolic link to {target}, which is not in {archive.where}",
            "put what it points to into the appdir",
        )
    return UserError(where, f"{path} is not in {archive.where}", _nearest(archive, path))


def _nearest(archive: Archive, path: str) -> str:
    """Point to a program of the same name, or nearly of the same path, if the root has one."""
    import difflib  # needed for this message only

    programs = [
        "/" + member.path.decode(errors="replace")
        for member in archive.members
        if stat.S_ISREG(member.mode) and member.mode & 0o111
    ]
    name = path.rsplit("/", 1)[-1]
    near = [program for program in programs if program.rsplit("/", 1)[-1] == name]
    near += difflib.get_close_matches(path, programs, 1)
    return f"did you mean {near[0]}?" if near else "put the program into the appdir or correct the path"
