"""A store in a folder: contained, atomic and durable.

Contained: every component is opened without following symbolic links, below a handle of
the root. Durable: a temporary file in the same folder, fsync, rename, fsync of the folder.
The pointer is compared and replaced under an exclusive lock on `.embarchive.lock`.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import secrets
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from embarchive import digests
from embarchive.errors import (
    BadInput,
    CommitUnknown,
    Conflict,
    Damaged,
    Missing,
    NotAnArchive,
    StoreUnreachable,
)
from embarchive.storage import MAX_POINTER, POINTER, Counters, Entry, check_path, check_ranges

LOCK = ".embarchive.lock"
TEMPORARY = ".tmp-"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ENOTDIR)
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ELOOP)


class LocalStore:
    """Objects below a folder. The folder is made by the first write."""

    confirms_by_reading = False

    def __init__(self, root: Path, deadline: float = 60.0) -> None:
        self._root = root.absolute()
        self._deadline = deadline
        self._counters = Counters()
        self._settled: set[tuple[str, ...]] = set()

    def __repr__(self) -> str:
        return f"<LocalStore {self.root}>"

    @property
    def root(self) -> str:
        return str(self._root)

    @property
    def requests(self) -> int:
        return self._counters.requests

    @property
    def bytes_read(self) -> int:
        return self._counters.bytes_read

    # ------------------------------------------------------------ reading

    def get(self, path: str, *, length: int | None = None, limit: int | None = None) -> bytes:
        with self._open(path) as (handle, size):
            if length is not None and size != length:
                raise Damaged(f"{path}: expected {length} bytes, found {size}")
            if limit is not None and size > limit:
                raise Damaged(f"{path}: expected at most {limit} bytes, found {size}")
            return self._pread(path, handle, 0, size)

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_ranges(path, ranges)
        if not ranges:
            return []
        with self._open(path) as (handle, size):
            if max(end for _, end in ranges) > size:
                wanted = max(end for _, end in ranges)
                raise Damaged(f"{path}: expected at least {wanted} bytes, found {size}")
            return [self._pread(path, handle, start, end) for start, end in ranges]

    def read_pointer(self) -> tuple[bytes, str] | None:
        if self._root.exists() and not self._root.is_dir():
            raise NotAnArchive(f"{self.root}: expected the folder of an archive, found a file")
        try:
            data = self.get(POINTER, limit=MAX_POINTER)
        except Missing:
            return None
        except Damaged as error:
            raise NotAnArchive(f"{self.root}: {error}") from None
        return data, digests.sha256(data)

    def list(self, prefix: str) -> list[Entry]:
        top = self._root.joinpath(*check_path(prefix)) if prefix else self._root
        found = []
        for folder, _, names in os.walk(top, followlinks=False):
            for name in names:
                path = Path(folder, name)
                try:
                    info = path.lstat()
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(info.st_mode):
                    modified = datetime.fromtimestamp(info.st_mtime, UTC)
                    relative = path.relative_to(self._root).as_posix()
                    found.append(Entry(relative, info.st_size, modified))
        return sorted(found, key=lambda entry: entry.path)

    @contextmanager
    def _open(self, path: str) -> Iterator[tuple[int, int]]:
        """A regular file below the root as (handle, size)."""
        *folders, name = check_path(path)
        try:
            with self._folder(folders) as folder:
                handle = os.open(name, _FILE, dir_fd=folder)
        except OSError as error:
            self._cannot_read(path, error)
        try:
            info = os.fstat(handle)
            if not stat.S_ISREG(info.st_mode):
                raise Damaged(f"{path}: expected a regular file, found another kind")
            yield handle, info.st_size
        finally:
            os.close(handle)

    @contextmanager
    def _folder(self, parts: Sequence[str], make: bool = False) -> Iterator[int]:
        """A handle of a folder below the root, opened component by component."""
        if make and not self._settled:
            _make_root(self._root)
        # The root itself may be reached through a link: it is the caller's own choice.
        handle = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for depth, part in enumerate(parts, 1):
                if make and tuple(parts[:depth]) not in self._settled:
                    _make_folder(part, handle)
                    self._settled.add(tuple(parts[:depth]))
                inner = os.open(part, _FOLDER, dir_fd=handle)
                os.close(handle)
                handle = inner
            yield handle
        finally:
            os.close(handle)

    def _pread(self, path: str, handle: int, start: int, end: int) -> bytes:
        chunks, at = [], start
        try:
            while at < end:
                chunk = os.pread(handle, end - at, at)
                if not chunk:
                    raise Damaged(f"{path}: expected bytes to {end}, found the end at {at}")
                chunks.append(chunk)
                at += len(chunk)
        except OSError as error:
            self._cannot_read(path, error)
        self._counters.add(1, end - start)
        return b"".join(chunks)

    def _cannot_read(self, path: str, error: OSError) -> NoReturn:
        if error.errno == errno.ELOOP or (
            error.errno == errno.ENOTDIR and self._root.joinpath(path).parent.is_symlink()
        ):
            raise Damaged(f"{path}: expected files below {self.root}, found a symbolic link")
        if error.errno in _GONE:
            raise Missing(f"{path}: expected it below {self.root}, found none") from None
        raise StoreUnreachable(f"{path}: cannot be read: {error.strerror}") from None

    # ------------------------------------------------------------ writing

    def put_new(self, path: str, data: bytes) -> None:
        check_path(path)
        for last in (False, False, False, True):
            try:
                return self._put(path, data)
            except OSError as error:
                if last or error.errno != errno.ENOENT:
                    self._cannot_write(path, error)
                # Whoever deletes also takes empty folders away, this one among them.
                self._settled.clear()

    def put_file(self, path: str, data: bytes) -> None:
        self.put_new(path, data)  # which replaces other bytes

    def _put(self, path: str, data: bytes) -> None:
        *folders, name = path.split("/")
        with self._folder(folders, make=True) as folder:
            if not _holds(folder, name, data):
                _write(folder, name, data)
            # also when it was there: another writer may not have come so far yet
            os.fsync(folder)

    def swap_pointer(self, data: bytes, token: str | None) -> None:
        if len(data) > MAX_POINTER:
            raise BadInput(f"{POINTER}: expected at most {MAX_POINTER} bytes, found {len(data)}")
        try:
            with self._folder([], make=True) as folder, _locked(folder, self._deadline):
                found = self.read_pointer()
                if (found[1] if found else None) != token:
                    raise Conflict(f"{POINTER}: expected {token}, found another committer's")
                _write(folder, POINTER, data)
                self._settle(folder)
        except OSError as error:
            self._cannot_write(POINTER, error)

    def check_writable(self) -> None:
        name = TEMPORARY + secrets.token_hex(8)
        try:
            with self._folder([], make=True) as folder:
                os.close(os.open(name, _CREATE, 0o644, dir_fd=folder))
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            self._cannot_write("", error)

    def delete(self, path: str) -> None:
        *folders, name = check_path(path)
        try:
            with self._folder(folders) as folder:
                os.unlink(name, dir_fd=folder)
        except OSError as error:
            if error.errno not in _GONE:
                self._cannot_write(path, error)
        self._prune(folders)

    def delete_older(self, path: str, than: datetime) -> bool:
        *folders, name = check_path(path)
        try:
            with self._folder(folders) as folder:
                gone = _unlink_older(folder, name, than.timestamp())
        except OSError as error:
            if error.errno not in _GONE:
                self._cannot_write(path, error)
            gone = True
        if gone:
            self._prune(folders)
        return gone

    def _prune(self, parts: Sequence[str]) -> None:
        """Take away what is empty of a folder and those above it; the root stays."""
        # The system itself refuses to remove a folder that holds anything.
        with suppress(OSError):
            for depth in range(len(parts), 0, -1):
                with self._folder(parts[: depth - 1]) as above:
                    os.rmdir(parts[depth - 1], dir_fd=above)
                self._settled.discard(tuple(parts[:depth]))

    def _settle(self, folder: int) -> None:
        """Make the renamed pointer durable; what fails here has no known outcome."""
        try:
            os.fsync(folder)
        except OSError as error:
            raise CommitUnknown(
                f"{POINTER}: expected it to be durable, found {error.strerror}"
            ) from None

    def _cannot_write(self, path: str, error: OSError) -> NoReturn:
        where = f"{self.root}/{path}".rstrip("/")
        if error.errno in _REFUSED:
            raise BadInput(f"{where}: unwritable target: {error.strerror}") from None
        raise StoreUnreachable(f"{where}: cannot be written: {error.strerror}") from None


def _make_root(root: Path) -> None:
    """The root and what leads to it, each new name on the disk."""
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    os.makedirs(root, exist_ok=True)
    for folder in missing:
        handle = os.open(folder.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _make_folder(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    # also when it was there: whoever made it may not have come so far yet
    os.fsync(parent)


def _holds(folder: int, name: str, data: bytes) -> bool:
    """Whether the file is there with these bytes, and on the disk; then it is as if new."""
    try:
        handle = os.open(name, _FILE, dir_fd=folder)
    except FileNotFoundError:
        return False
    with os.fdopen(handle, "rb") as file:
        # Whoever deletes what is old holds the file alone while it looks and unlinks.
        fcntl.flock(handle, fcntl.LOCK_SH)
        info = os.fstat(handle)
        if not info.st_nlink or info.st_size != len(data) or file.read() != data:
            return False
        try:
            os.utime(handle)
        except PermissionError:  # another user's: only a file of our own can be as if new
            return False
        os.fsync(handle)
        return True


def _unlink_older(folder: int, name: str, than: float) -> bool:
    """Unlink a file last written before a time, unless a writer is at it; whether it went."""
    handle = os.open(name, _FILE, dir_fd=folder)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        ours, there = os.fstat(handle), os.stat(name, dir_fd=folder, follow_symlinks=False)
        if ours.st_mtime >= than or ours.st_ino != there.st_ino:
            return False
        os.unlink(name, dir_fd=folder)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _write(folder: int, name: str, data: bytes) -> None:
    """Write aside, fsync, rename. Leaves nothing behind unless it is killed."""
    aside = TEMPORARY + secrets.token_hex(8)
    handle = os.open(aside, _CREATE, 0o644, dir_fd=folder)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(handle, view) :]
            os.fsync(handle)
        finally:
            os.close(handle)
        os.rename(aside, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with suppress(OSError):
            os.unlink(aside, dir_fd=folder)
        raise


@contextmanager
def _locked(folder: int, deadline: float) -> Iterator[None]:
    """Hold the archive's lock; the kernel frees it when the process ends."""
    until = time.monotonic() + deadline
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(LOCK, flags, 0o644, dir_fd=folder)
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise StoreUnreachable(
                        f"{LOCK}: expected it free within {deadline:g} s, found it held"
                    ) from None
                time.sleep(random.uniform(0.001, 0.01))
        yield
    finally:
        os.close(handle)
