"""Methods of bench_quantisers: what a vector is stored as, and how it is compared.

Those named `embarchive …` are what `embarchive quantize` stores, and the SimHash of every archive.
The others are plain functions to measure beside them; faiss is the reference of product
quantisation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import faiss
import numpy as np
import torch
from numpy.typing import NDArray

from embarchive import measures
from embarchive.fit_quantisers import fit_quantiser
from embarchive.quantize import fit_int8, fit_simhash

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Coded:
    """stored: uint8 (n, bytes) as on disk; base, query: what L2 distances are taken of; apart:
    another distance, (q, n) of rows of queries; bytes: if not whole, of a vector; scanned: bytes of
    a vector that a scan reads."""

    stored: Bytes
    base: Floats
    query: Floats
    apart: Callable[[NDArray[np.int64]], NDArray[np.float64]] | None = None

    def distances(self, asked: NDArray[np.int64]) -> NDArray[np.float64]:
        """Of queries to all rows, (q, n)."""
        if self.apart is not None:
            return self.apart(asked)
        return measures.distances(self.query[asked], self.base)


@dataclass(frozen=True)
class Data:
    """fit: rows to fit to (m, D); base (n, D), all rows, each of which may ask; parts: features of
    parts of each tile (n, parts, d), None without imagery; label (n,) and those of fit."""

    fit: Floats
    base: Floats
    parts: Floats | None = None
    label: NDArray[np.str_] | None = None
    fit_label: NDArray[np.str_] | None = None


Method = Callable[[Data], Coded]


def ours(name: str) -> Method:
    """A quantiser of the archive; queries are not quantised by its codebooks."""

    def coded(data: Data) -> Coded:
        made = fit_quantiser(name, data.fit)
        stored = made.encode(data.base)
        query = made.query(data.base).astype(np.float32)
        return Coded(stored, made.decode(stored).astype(np.float32), query)

    return coded


def archive_int8(data: Data) -> Coded:
    """int8 of every archive: one step for all numbers, from the largest of the training rows."""
    q = fit_int8(data.fit).encode(data.base)
    return Coded(q.view(np.uint8), q.astype(np.float32), q.astype(np.float32))


def archive_bits(count: int) -> Method:
    """SimHash of every archive: planes of the stored int8."""

    def coded(data: Data) -> Coded:
        step = fit_int8(data.fit)
        planes = fit_simhash(step.encode(data.fit), count, 0)
        assert planes is not None
        return _bits(planes.encode(step.encode(data.base)))

    return coded


def _bits(stored: Bytes) -> Coded:
    """Hamming distances, as squared distances of bits."""
    bits = np.unpackbits(stored, axis=1).astype(np.float32)
    return Coded(stored, bits, bits)


def float16(data: Data) -> Coded:
    half = data.base.astype(np.float16)
    return Coded(half.view(np.uint8), half.astype(np.float32), data.base)


def uniform(bits: int) -> Method:
    """Equal steps of each number between its 1st and 99th percentile, packed."""

    def coded(data: Data) -> Coded:
        low, high = np.percentile(data.fit, [1, 99], axis=0).astype(np.float32)
        steps = 2**bits - 1
        size = np.maximum(high - low, 1e-9) / steps
        q = np.clip(np.rint((data.base - low) / size), 0, steps).astype(np.uint8)
        planes = np.unpackbits(q[:, :, None], axis=2)[:, :, 8 - bits :]
        return Coded(np.packbits(planes.reshape(len(q), -1), axis=1), q * size + low, data.base)

    return coded


def sign(data: Data) -> Coded:
    return _bits(np.packbits(data.base > 0, axis=1))


def ternary(data: Data) -> Coded:
    """-1, 0, 1 by thirds of each number, two bits each."""
    low, high = np.percentile(data.fit, [100 / 3, 200 / 3], axis=0)
    q = (data.base > high).astype(np.int8) - (data.base < low).astype(np.int8)
    planes = np.stack([q < 0, q > 0], axis=2).reshape(len(q), -1)
    return Coded(np.packbits(planes, axis=1), q.astype(np.float32), q.astype(np.float32))


def _faiss_pq(dim: int, count: int) -> faiss.ProductQuantizer:
    made = faiss.ProductQuantizer(dim, count, 8)
    # Else it warns of few rows, once a group and iteration.
    made.cp.min_points_per_centroid = 1
    return made


def faiss_pq(count: int, turned: bool = False) -> Method:
    """Product quantisation of faiss, with its OPQ rotation before."""

    def coded(data: Data) -> Coded:
        fit, base, dim = np.ascontiguousarray(data.fit), data.base, data.base.shape[1]
        if turned:
            turn = faiss.OPQMatrix(dim, count)
            turn.niter, turn.pq = 8, _faiss_pq(dim, count)
            turn.train(fit)
            fit, base = turn.apply(fit), turn.apply(np.ascontiguousarray(base))
        made = _faiss_pq(dim, count)
        made.train(fit)
        codes = made.compute_codes(np.ascontiguousarray(base))
        return Coded(codes, made.decode(codes), base)

    return coded


def reduced(kind: str, dim: int) -> Method:
    """SVD, a random projection (Johnson & Lindenstrauss) or the numbers of the largest variance,
    then int8."""

    def coded(data: Data) -> Coded:
        count = min(dim, data.base.shape[1])
        if kind == "svd":
            axes = np.linalg.svd(data.fit, full_matrices=False)[2][:count].T
        elif kind == "random projection":
            axes = np.random.default_rng(0).normal(size=(data.base.shape[1], count))
        else:
            best = np.argsort(-data.fit.var(axis=0), kind="stable")[:count]
            axes = np.eye(data.base.shape[1])[:, np.sort(best)]
        axes = axes.astype(np.float32)
        return archive_int8(Data(data.fit @ axes, data.base @ axes))

    return coded


def rabitq(data: Data) -> Coded:
    """RaBitQ (Gao & Long 2024) about one centre: a bit a rotated number and two float16 numbers, an
    unbiased estimate of distances."""
    dim = data.base.shape[1]
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0]
    centre = data.fit.mean(axis=0)
    x = (data.base - centre) @ turn
    norm = np.linalg.norm(x, axis=1)
    unit = x / np.maximum(norm, 1e-12)[:, None]
    signs = np.where(unit > 0, 1.0, -1.0) / np.sqrt(dim)
    along = (signs * unit).sum(axis=1)
    kept = np.stack([norm, along], axis=1).astype(np.float16)

    def apart(asked: NDArray[np.int64]) -> NDArray[np.float64]:
        size, share = kept.astype(np.float64).T
        cosine = unit[asked] @ signs.T / np.maximum(share, 1e-6)
        own = norm[asked][:, None]
        return own**2 + size**2 - 2 * own * size * cosine

    stored = np.concatenate([np.packbits(signs > 0, axis=1), kept.view(np.uint8)], axis=1)
    return Coded(stored, data.base, data.base, apart)


def turned_affine(bits: int) -> Method:
    """A random rotation, then equal steps between the least and largest of each number: what
    TerraBit's post calls TurboQuant."""

    def coded(data: Data) -> Coded:
        dim = data.base.shape[1]
        turn = np.linalg.qr(np.random.default_rng(0).normal(size=(dim, dim)))[0].astype(np.float32)
        fit, base = data.fit @ turn, data.base @ turn
        low, steps = fit.min(axis=0), 2**bits - 1
        size = np.maximum(fit.max(axis=0) - low, 1e-9) / steps
        q = np.clip(np.rint((base - low) / size), 0, steps).astype(np.uint8)
        planes = np.unpackbits(q[:, :, None], axis=2)[:, :, 8 - bits :]
        return Coded(np.packbits(planes.reshape(len(q), -1), axis=1), q * size + low, base)

    return coded


def kernel_lsh(count: int) -> Method:
    """Random Fourier features of a Gaussian kernel (Rahimi & Recht 2007) as wide as the median
    distance, then signs (Raginsky & Lazebnik 2009)."""

    def coded(data: Data) -> Coded:
        rng = np.random.default_rng(0)
        some = data.fit[rng.permutation(len(data.fit))[:500]]
        width = float(np.sqrt(np.median(measures.distances(some, some))))
        planes = rng.normal(size=(data.base.shape[1], count)) / width
        shift = rng.uniform(0, 2 * np.pi, count)
        edge = rng.uniform(-1, 1, count)
        return _bits(np.packbits(np.cos(data.base @ planes + shift) + edge > 0, axis=1))

    return coded


def multi_code(count: int, bits: int) -> Method:
    """A code of each of `count` parts of a tile, compared by the mean of least Hamming distances
    both ways (Chamfer)."""

    def coded(data: Data) -> Coded:
        assert data.parts is not None
        parts = data.parts[:, :count]
        n, k, d = parts.shape
        planes = np.linalg.qr(np.random.default_rng(0).normal(size=(max(d, bits),) * 2))[0]
        middle = np.median(parts.reshape(-1, d), axis=0)
        signs = ((parts - middle) @ planes[:d, :bits] > 0).astype(np.float32)
        stored = np.packbits(signs.reshape(n, -1) > 0, axis=1)

        def apart(asked: NDArray[np.int64]) -> NDArray[np.float64]:
            found = np.empty((len(asked), n))
            flat = signs.reshape(n * k, bits)
            total = flat.sum(axis=1)
            for row, at in enumerate(asked.tolist()):
                one = signs[at]
                gaps = one.sum(axis=1)[:, None] + total - 2 * one @ flat.T
                gaps = gaps.reshape(k, n, k)
                found[row] = gaps.min(axis=2).mean(axis=0) + gaps.min(axis=0).mean(axis=1)
            return found

        return Coded(stored, data.base, data.base, apart)

    return coded


def supervised(bits: int) -> Method:
    """A hashing head on frozen vectors: one hidden layer whose tanh bits tell the labels (after Lai
    et al. 2015), trained on the fit rows."""

    def coded(data: Data) -> Coded:
        assert data.fit_label is not None
        torch.manual_seed(0)
        mean, spread = data.fit.mean(axis=0), data.fit.std(axis=0) + 1e-6
        x = torch.tensor((data.fit - mean) / spread)
        names, owner = np.unique(data.fit_label, return_inverse=True)
        y = torch.tensor(owner.ravel())
        head = torch.nn.Sequential(
            torch.nn.Linear(x.shape[1], 128), torch.nn.ReLU(), torch.nn.Linear(128, bits)
        )
        last = torch.nn.Linear(bits, len(names))
        learned = [*head.parameters(), *last.parameters()]
        optimiser = torch.optim.Adam(learned, 2e-3, weight_decay=1e-4)
        for _ in range(600):
            pick = torch.randint(0, len(x), (256,))
            code = torch.tanh(head(x[pick]))
            loss = torch.nn.functional.cross_entropy(last(code), y[pick])
            loss = loss + 0.1 * (1 - code.abs()).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            found = head(torch.tensor((data.base - mean) / spread)).numpy()
        return _bits(np.packbits(found > 0, axis=1))

    return coded


def methods(dim: int, parts: bool, labelled: bool) -> dict[str, Method]:
    """All that can be measured on vectors of `dim` numbers."""
    stored = ["int8", "int4", "int2", "bits", "simhash128", "pq8", "pq16", "turboquant4"]
    stored += ["turboquant8", "turboquant2", "pca32+int8", "pca32+int4", "pca32+pq16", "pca16+int8"]
    stored += ["pca64+int8", "pca64+pq16"] if dim > 64 else []
    found: dict[str, Method] = {
        "embarchive int8, one step": archive_int8,
        "embarchive SimHash, 128 bits": archive_bits(128),
        "embarchive SimHash, 256 bits": archive_bits(256),
        **{f"embarchive {name}": ours(name) for name in stored},
        "float16": float16,
        **{f"int{bits}, percentiles": uniform(bits) for bits in (4, 3, 2)},
        "sign": sign,
        "ternary": ternary,
        "PQ 8, faiss": faiss_pq(8),
        "PQ 16, faiss": faiss_pq(16),
        "OPQ 8, faiss": faiss_pq(8, True),
        "OPQ 16, faiss": faiss_pq(16, True),
        "SVD 32, int8": reduced("svd", 32),
        "random projection 32, int8": reduced("random projection", 32),
        "selection 32, int8": reduced("selection", 32),
        "RaBitQ": rabitq,
        "rotation, affine int4": turned_affine(4),
        "kernel LSH, 128 bits": kernel_lsh(128),
    }
    if parts:
        found["multi-code, 8 x 16 bits"] = multi_code(8, 16)
    if labelled:
        found["supervised hash, 64 bits"] = supervised(64)
    return found


# Of vectors of few numbers only these.
FEW = ("float16", "embarchive int8", "embarchive SimHash, 128 bits")
