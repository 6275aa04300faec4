"""Geohash cells and chips on the ground."""

import numpy as np

from embarchive import grid

POINTS = [
    (0.0, 0.0),
    (-122.4, 37.7),
    (179.9999, -89.9),
    (-180.0, 12.5),
    (14.21, 48.11),
    (0.0, 65.0),
]


def make():
    lon, lat = np.array(POINTS).T
    cells = []
    for precision in (1, 4, 5, 6, 8):
        names = grid.encode(lon, lat, precision)
        for name, bounds in zip(names.tolist(), grid.bounds(names).tolist(), strict=True):
            chips = grid.ChipGrid(precision, 10.0, 64, 48)
            rows, columns = chips.crop(name)
            cells.append(
                {
                    "geohash": name,
                    "bounds": bounds,
                    "transform": list(chips.transform(name)),
                    "crop": [rows.start, rows.stop, columns.start, columns.stop],
                }
            )
    return {
        "points": [list(point) for point in POINTS],
        "gsd": 10.0,
        "height": 64,
        "width": 48,
        "cells": cells,
        "distances": grid.distance_m(np.array(POINTS), np.array(POINTS[::-1])).tolist(),
    }
