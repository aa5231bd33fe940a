"""A folder on this machine as one stream of members, links followed where it is a person's own."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from stages.fetch.budget import Budget, chunks, reading
from stages.fetch.names import Parts, safe_parts, shown
from stages.shell.errors import InputError

DEEPEST = 100  # folders inside one another
Inode = tuple[int, int]  # what a folder is, by whatever name


class Folder:
    """Reads a folder.

    Parameters
    ----------
    budget
        What it may cost, and how messages call it.
    links
        Whether symbolic links are followed, wherever they lead: then the names are the links' own.
    folders
        Is filled with the paths of all folders in it.
    """

    def __init__(self, budget: Budget, links: bool, folders: set[Parts]) -> None:
        self._budget, self._links, self._folders = budget, links, folders

    def read(
        self, top: Path, inside: Parts = (), around: frozenset[Inode] = frozenset()
    ) -> Iterator[tuple[Parts, Iterator[bytes]]]:
        """Yield path and bytes of every file below `top`, in the order of names.

        `inside` is the path of `top`, and `around` are the folders above it.

        Raises
        ------
        InputError
            For a link that leads nowhere or to a folder around it, for pipes and devices, for a limit passed.
        """
        where = self._budget.where
        if len(inside) > DEEPEST:
            raise InputError(
                f"{where}: more than {DEEPEST} folders inside one another; give the folder with the images"
            )
        with reading(where), os.scandir(top) as found:
            entries = sorted(found, key=lambda entry: entry.name)
            at = top.stat()
            around |= {(at.st_dev, at.st_ino)}
        for entry in entries:
            self._budget.member()
            parts = (*inside, *safe_parts(entry.name, where, archive=False))
            info = self._stat(entry, "/".join(parts))
            if stat.S_ISDIR(info.st_mode):
                if (info.st_dev, info.st_ino) in around:
                    raise InputError(f"{where}: {_link(entry, parts)} leads to a folder around it; remove the link")
                self._folders.add(parts)
                yield from self.read(Path(entry.path), parts, around)
            elif stat.S_ISREG(info.st_mode):
                yield parts, self._file(Path(entry.path), "/".join(parts))
            else:
                raise special(where, "/".join(parts), info.st_mode)

    def _stat(self, entry: os.DirEntry[str], name: str) -> os.stat_result:
        with reading(self._budget.where, shown(name)):
            try:
                return entry.stat(follow_symlinks=self._links)
            except OSError as error:
                if not entry.is_symlink() or error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise
            raise InputError(f"{self._budget.where}: {_link(entry, (name,))} leads nowhere; mend the link or remove it")

    def _file(self, path: Path, name: str) -> Iterator[bytes]:
        with reading(self._budget.where, shown(name)):
            handle = path.open("rb")
        with handle:
            yield from chunks(handle, shown(name), self._budget)


def special(where: str, name: str, kind: int) -> InputError:
    """Return the error for a member that is neither file nor folder; `kind` is its mode."""
    kinds = {stat.S_IFLNK: "a symbolic link", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    what = kinds.get(stat.S_IFMT(kind), "a device")
    return InputError(f"{where}: member {shown(name)} is {what}; expected files and folders only")


def _link(entry: os.DirEntry[str], parts: Parts) -> str:
    return f"link {shown('/'.join(parts))} -> {shown(os.readlink(entry.path))}"  # noqa: PTH115  it may not be a path
