"""Limits on what unpacking may cost, counted on what really comes out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from stages.fetch.schema import LimitParams
from stages.shell.errors import InputError

CHUNK = 1 << 20  # bytes held in memory at a time


class Readable(Protocol):
    """Anything with `read`."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""
        ...


class Broken(Exception):
    """A source that contradicts its own format."""


class Budget:
    """What is left of `fetch.limits` for one source.

    Parameters
    ----------
    limits
        The limits.
    where
        The source, as messages name it.
    packed
        Bytes of the archive file, or None for a folder, to which the ratio does not apply.
    """

    def __init__(self, limits: LimitParams, where: str, packed: int | None = None) -> None:
        self.limits, self.where = limits, where
        self.members = self.bytes = 0
        self.most = limits.total_bytes
        if packed is not None:
            self.most = min(self.most, int(limits.ratio * packed))

    def member(self) -> None:
        """Count one file or folder."""
        self.members += 1
        if self.members > self.limits.members:
            raise self.refusal(f"more than {self.limits.members:,} members", "members")

    def reserve(self, name: str, size: int) -> None:
        """Check a file's declared size; what comes out is counted again by `spend`."""
        if size > self.limits.file_bytes:
            raise self.refusal(f"{name} has {size:,} bytes, more than {self.limits.file_bytes:,}", "file_bytes")

    def spend(self, name: str, size: int, new: int) -> None:
        """Count `new` bytes of a file of which `size` bytes came out so far."""
        self.reserve(name, size)
        self.bytes += new
        self.unpacked(self.bytes)

    def unpacked(self, size: int) -> None:
        """Check how many bytes came out of the whole archive so far, headers included."""
        if size <= self.most:
            return
        if self.most < self.limits.total_bytes:
            raise self.refusal(f"it unpacks to more than {self.limits.ratio:g} times its size", "ratio")
        raise self.refusal(f"it unpacks to more than {self.limits.total_bytes:,} bytes", "total_bytes")

    def refusal(self, found: str, key: str) -> InputError:
        """Return the error for a limit that was passed."""
        return InputError(
            f"{self.where}: {found}; refused as a possible bomb. If it is right, raise fetch.limits.{key}"
        )


@contextmanager
def reading(where: str, name: str | None = None) -> Iterator[None]:
    """Turn whatever a library raises on a broken or unreadable source into one line. For reads only, no writes."""
    at = f"{where}: {name}" if name else where
    try:
        yield
    except InputError:
        raise
    except EOFError:
        raise InputError(f"{at}: it ends too early; the file is cut short, get it again") from None
    except MemoryError:
        raise InputError(f"{at}: reading it needs more memory than there is") from None
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise InputError(f"{at}: cannot be read ({reason}); mend or get it again") from None
    except Exception as error:  # zipfile and tarfile raise a dozen kinds on broken input, down to struct.error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise InputError(f"{at}: it is damaged ({reason}); get it again") from None


def chunks(handle: Readable, name: str, budget: Budget) -> Iterator[bytes]:
    """Yield a file's bytes, each chunk counted before it is given."""
    size = 0
    while True:
        with reading(budget.where, name):
            data = handle.read(CHUNK)
        if not data:
            return
        size += len(data)
        budget.spend(name, size, len(data))
        yield data
