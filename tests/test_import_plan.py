"""What an import decides: scale, bits, cells, and what it refuses before it writes."""

import numpy as np
import pytest
from archives import make_archive
from vectorfiles import make_floats, plain

import embarchive
from embarchive import import_plan
from embarchive.errors import BadInput
from embarchive.exporting import Wanted, export
from embarchive.import_plan import Options, decide
from embarchive.importing import import_vectors
from embarchive.layouts import Wishes
from embarchive.quantize import MAX_BITS, Int8
from embarchive.requantize import requantize
from embarchive.store import open_store


def quiet(stage, done, total):
    pass


def plan(out, *paths, wishes=None, **options):
    return decide(open_store(out), str(out), paths, wishes or Wishes(), Options(**options), quiet)


def nearest(values, rows, k=10):
    squares = (values**2).sum(axis=1)
    away = squares[rows, None] - 2 * values[rows] @ values.T + squares
    away[np.arange(len(rows)), rows] = np.inf
    return np.argsort(away, axis=1, kind="stable")[:, :k]


def test_the_scale_is_not_ruined_by_a_few_large_numbers():
    vectors = make_floats(2000)
    vectors[0, 0] = 1e4
    quantiser = import_plan.calibrate(vectors)
    assert quantiser.scale < 0.1
    rows = np.arange(1, 200)
    truth = nearest(vectors.astype(np.float64)[1:], rows)
    found = nearest(quantiser.encode(vectors).astype(np.float64)[1:], rows)
    kept = np.mean([len(set(a) & set(b)) / 10 for a, b in zip(truth, found, strict=True)])
    assert kept > 0.95


def test_a_small_sample_is_not_clipped_and_zeros_have_a_scale():
    vectors = make_floats(50)
    assert import_plan.calibrate(vectors).saturation(vectors) == 0
    assert import_plan.calibrate(np.zeros((3, 4), np.float32)) == Int8(1.0)


def test_bits_are_at_most_a_quarter_of_the_vector_and_planes_stay_small():
    found = {dim: import_plan.default_bits(dim) for dim in (1, 4, 16, 64, 128, 512, 1024, 4096)}
    assert found == {1: 0, 4: 8, 16: 32, 64: 128, 128: 128, 512: 512, 1024: 256, 4096: 64}
    for dim in range(1, 4097):
        bits = import_plan.default_bits(dim)
        assert bits % 8 == 0 and bits <= 2 * dim and bits * dim <= 1 << 18 and bits < MAX_BITS


def test_settings_say_that_there_is_no_imagery(tmp_path):
    job = plan(tmp_path / "a", plain(tmp_path / "v.parquet"), title="T", precision=6)
    s = job.settings
    assert (s.precision, s.dim, s.bits, s.bands, s.codec) == (6, 64, 128, (), "none")
    assert (s.height, s.width, s.title) == (1, 1, "T") and 600 < s.gsd < 620
    assert (job.space.encoder, job.space.encoder_length, job.space.backbone) == (None, 0, None)
    assert not (tmp_path / "a").exists()


def test_the_same_vectors_make_the_same_space_and_others_another(tmp_path):
    one = plan(tmp_path / "a", plain(tmp_path / "v.parquet")).space
    assert plan(tmp_path / "b", plain(tmp_path / "w.parquet")).space == one
    assert plan(tmp_path / "b", plain(tmp_path / "x.parquet", seed=5)).space != one


@pytest.mark.parametrize("bits", [-8, 12, 8192])
def test_bits_that_cannot_be_are_refused(tmp_path, bits):
    with pytest.raises(BadInput, match=f"a multiple of 8, at most 4096, found {bits}"):
        plan(tmp_path / "a", plain(tmp_path / "v.parquet"), bits=bits)


def test_files_of_other_vectors_are_refused(tmp_path):
    paths = plain(tmp_path / "v.parquet"), plain(tmp_path / "w.parquet", dim=32)
    with pytest.raises(BadInput, match=r"w.parquet: expected 64 numbers in a vector as in"):
        plan(tmp_path / "a", *paths)


def test_an_import_fits_the_archive_that_it_adds_to(tmp_path):
    out = tmp_path / "a"
    path = plain(tmp_path / "v.parquet")
    import_vectors([path], str(out), Wishes(), Options(precision=7), quiet)
    job = plan(out, path)
    assert job.settings.precision == 7 and job.held.generation == 1
    small = plain(tmp_path / "w.parquet", dim=32)
    with pytest.raises(BadInput, match="64 numbers in a vector as in the archive, found 32"):
        plan(out, small)
    with pytest.raises(BadInput, match="expected the archive's precision, 7, found 6"):
        plan(out, path, precision=6)
    with pytest.raises(BadInput, match="expected the archive's bits, 128, found 64"):
        plan(out, path, bits=64)
    coarse = plain(tmp_path / "g.parquet", count=2, geohash=["u2e", "u2f"])
    with pytest.raises(BadInput, match="7 letters in a geohash as in the archive, found 3"):
        plan(out, coarse)


def test_an_archive_of_scenes_takes_no_vectors(tmp_path):
    make_archive(tmp_path / "a", 20)
    with pytest.raises(BadInput, match=r"one of imported vectors, found .* built from scenes"):
        plan(tmp_path / "a", plain(tmp_path / "v.parquet"))


def test_an_archive_of_codes_takes_no_vectors_but_can_be_exported(tmp_path):
    path = plain(tmp_path / "v.parquet")
    import_vectors([path], str(tmp_path / "a"), Wishes(), Options(), quiet)
    requantize(str(tmp_path / "a"), str(tmp_path / "b"), "int4", progress=quiet)
    with pytest.raises(BadInput, match=r"expected an archive of int8 vectors, found .*quantize"):
        plan(tmp_path / "b", path)
    archive = embarchive.open_archive(tmp_path / "b")
    export(archive, tmp_path / "e.parquet", Wanted(), quiet)
    assert plan(tmp_path / "c", tmp_path / "e.parquet").space.scale == archive.space().scale


def test_geohashes_are_the_cells_and_may_be_cut_but_not_made_longer(tmp_path):
    path = plain(tmp_path / "g.parquet", count=2, geohash=["u2ed", "u2ee"])
    assert plan(tmp_path / "a", path).settings.precision == 4
    assert plan(tmp_path / "a", path, precision=3).settings.precision == 3
    with pytest.raises(BadInput, match="at most the 4 letters of the geohashes, found 5"):
        plan(tmp_path / "a", path, precision=5)
