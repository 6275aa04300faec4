"""A read-only file over something that gives its bytes by ranges."""

from __future__ import annotations

import io


class RangeFile(io.RawIOBase):
    """A file of `length` bytes, of which `range` gives some."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length, self._at = length, 0

    def range(self, start: int, end: int) -> bytes:
        """Bytes [start, end), none where there is trouble that is told elsewhere."""
        raise NotImplementedError

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """Length in bytes; pyarrow asks for it."""
        return self.length

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        end = self.length
        if size is not None and size >= 0:
            end = min(end, self._at + size)
        data = self.range(self._at, end) if end > self._at else b""
        self._at += len(data)
        return data
