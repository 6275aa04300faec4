"""A file over ranges reads as one in memory."""

import io
import random

from embarchive.rangefile import RangeFile

DATA = bytes(range(256)) * 3


class Held(RangeFile):
    def range(self, start, end):
        assert 0 <= start < end <= len(DATA)
        return DATA[start:end]


def test_it_reads_and_seeks_as_a_file_in_memory():
    file, right, draw = Held(len(DATA)), io.BytesIO(DATA), random.Random(1)
    assert file.readable() and file.seekable() and not file.writable()
    assert file.size() == len(DATA)
    for _ in range(500):
        whence = draw.choice([io.SEEK_SET, io.SEEK_END])
        offset = draw.randrange(900) if whence == io.SEEK_SET else -draw.randrange(900)
        assert file.seek(offset, whence) == right.seek(offset, whence) == file.tell()
        size = draw.choice([None, -1, 0, 1, 300])
        assert file.read(size) == right.read(size)
        assert file.tell() == right.tell()
