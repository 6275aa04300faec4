"""Arrays that pose as the rasters of an open scene."""

from dataclasses import dataclass, field

import numpy as np

from embarchive import grid


@dataclass
class FakeBand:
    scale: float = 1.0
    offset: float = 0.0


@dataclass
class FakeScene:
    bands: tuple


@dataclass
class FakeReader:
    scene: FakeScene
    rasters: list


@dataclass
class FakeRaster:
    """An array (bands, h, w) in degrees, north up: west and north of its corner, degrees a
    pixel; 0 is no data. `reads` remembers the windows."""

    stored: np.ndarray
    bands: tuple
    gsd: float
    west: float
    north: float
    step: tuple
    cloud: bool = False
    valid: np.ndarray | None = None
    reads: list = field(default_factory=list)

    @property
    def shape(self):
        return self.stored.shape[1:]

    def project_axes(self, lon, lat):
        shape = (len(lon), lat.shape[1], lon.shape[1])
        column = (lon - self.west) / self.step[0]
        row = (self.north - lat) / self.step[1]
        return np.broadcast_to(column[:, None], shape), np.broadcast_to(row[:, :, None], shape)

    def read(self, row0, row1, col0, col1):
        assert 0 <= row0 < row1 <= self.shape[0] and 0 <= col0 < col1 <= self.shape[1]
        self.reads.append((row0, row1, col0, col1))
        window = slice(None), slice(row0, row1), slice(col0, col1)
        stored = self.stored[window].copy()
        valid = stored != 0 if self.valid is None else self.valid[window].copy()
        return (stored[:0], valid) if self.cloud else (stored, valid)


def around(name, stored, gsd, bands=None, shift=(0.0, 0.0), **more):
    """A raster of `gsd` metres centred on a cell, moved by a shift in pixels."""
    lon, lat = grid.centers([name])[0]
    step = gsd / np.array([float(one) for one in grid.metres_per_degree(lat)])
    height, width = stored.shape[1:]
    west = lon + (shift[0] - width / 2) * step[0]
    north = lat + (height / 2 - shift[1]) * step[1]
    bands = tuple(range(len(stored))) if bands is None else bands
    return FakeRaster(stored, bands, gsd, west, north, tuple(step), **more)


def reader_of(*rasters, bands=None):
    """A reader whose bands are stored as they are, unless given."""
    count = 1 + max((i for raster in rasters for i in raster.bands), default=-1)
    return FakeReader(FakeScene(tuple(bands or [FakeBand()] * count)), list(rasters))
