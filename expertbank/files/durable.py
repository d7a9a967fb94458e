"""Files that are there whole or not at all, whenever the machine stops.

Order of a write: temporary file in the target's folder, write, fsync, rename, fsync the folder.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from expertbank.errors import ExpertBankError, InputError


@contextmanager
def os_errors_translated(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn the system's refusal to write or read ``path`` into an error that says what to do.

    Raises:
        ExpertBankError: the disk refused (full, read-only, failing).
    """
    try:
        yield
    except OSError as error:
        raise ExpertBankError(
            f"cannot {doing} {path}: {error.strerror or error}; free space or check permissions, "
            "then run the command again"
        ) from error


def make_folder(folder: Path) -> None:
    """Create ``folder`` and its parents, each durable in the folder above it.

    Raises:
        InputError: something else is there.
        ExpertBankError: the disk refused.
    """
    if folder.is_dir():
        return
    make_folder(folder.parent)
    with os_errors_translated(folder):
        try:
            folder.mkdir()
        except FileExistsError:
            if not folder.is_dir():  # another process may have made it just now
                raise InputError(
                    f"cannot write {folder}: it is a file, and a folder is needed; name another one"
                ) from None
        sync_folder(folder.parent)


def write_durably(target: Path, data: bytes, mode: int = 0o444) -> None:
    """Put ``data`` at ``target`` so that it is there whole, or not at all, after a crash.

    Raises:
        ExpertBankError: the disk refused; nothing half-written is left behind.
    """
    with os_errors_translated(target):
        write_whole(target, data, mode, sync=True)
        sync_folder(target.parent)


def create_durably(target: Path, data: bytes, mode: int = 0o444) -> None:
    """Put ``data`` at ``target`` as ``write_durably`` does, unless something is there already.

    Of several that do so at once one succeeds, and the others leave what it wrote.

    Raises:
        ExpertBankError: the disk refused.
    """
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    with os_errors_translated(target):
        try:
            write_whole(temporary, data, mode, sync=True)
            with suppress(FileExistsError):
                name_new(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_folder(target.parent)


def name_new(whole: Path, target: Path) -> None:
    """Give a whole file its name, unless somebody took it.

    On a disk that gives a file one name only (SMB, exFAT), a crash in between may leave an empty
    file of that name.

    Raises:
        FileExistsError: the name is taken.
        OSError: the disk refused.
    """
    try:
        os.link(whole, target)
    except FileExistsError:
        raise
    except OSError:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        os.replace(whole, target)


def write_whole(target: Path, data: bytes, mode: int, *, sync: bool = False) -> None:
    """Put ``data`` at ``target`` so that whoever looks finds all of it, or what was there before.

    Without ``sync`` a crash of the machine may leave a damaged file: for what is checked when it
    is read, and can be made again.

    Raises:
        OSError: the disk refused; nothing half-written is left behind.
    """
    temporary = target.parent / f".tmp-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_named(target: Path, data: bytes) -> None:
    """Put ``data`` where a user asked for it: a file has all of it, or what was there before.

    A link stays one. What is no plain file (a pipe, a device) takes the bytes as they come, and so
    does a file in a folder that nothing new can be put in.

    Raises:
        OSError: the disk refused; it names ``target``.
    """
    try:
        place = target.resolve()
        if _takes_bytes_alone(target, place):
            target.write_bytes(data)
        else:
            mode = place.stat().st_mode & 0o777 if place.exists() else 0o666
            write_whole(place, data, mode, sync=True)
    except OSError as error:
        error.filename = str(target)
        raise


def _takes_bytes_alone(target: Path, place: Path) -> bool:
    """Whether no new file can stand where ``target``, which is ``place``, is."""
    if not target.exists():
        return False
    # /dev/stdout and /dev/fd may name a file that somebody has open, who would not see another.
    folder = target.parent.resolve()
    opened = folder == Path("/dev") or Path("/proc") in folder.parents
    return opened or not target.is_file() or not os.access(place.parent, os.W_OK)


def sync_file(path: Path) -> None:
    """Flush a file that another program wrote.

    Raises:
        OSError: the disk failed.
    """
    _sync(path, os.O_RDWR)  # Windows flushes only what may be written to


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries; silently skipped where folders cannot be opened (Windows).

    Raises:
        OSError: the disk failed.
    """
    try:
        _sync(folder, os.O_RDONLY)
    except PermissionError:
        return


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
