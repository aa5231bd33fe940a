"""The one exception that is meant for people, and the line said where the disk is at fault."""

from __future__ import annotations

import errno

NOT_WRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class InputError(Exception):
    """A mistake in input or parameters: one line with what was found, where, what was expected and what to do."""


def os_error(error: OSError) -> str | None:
    """Return the line for a person where the disk or a file is at fault; None where it is something else."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in NOT_WRITABLE:
        return f"cannot write{where}: {error.strerror}; nothing was left half-written, mend it and run again"
    if error.errno in NOT_THERE and error.filename:
        return f"{error.filename} is not as the stages before it leave it ({error.strerror}): run `dvc repro`"
    return None
