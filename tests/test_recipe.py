"""A recipe that cannot be meant is refused with one line that names the key."""

import dataclasses

import pytest

from embarchive.errors import BadInput
from embarchive.recipe import Recipe, Settings, read_recipe


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dim = 0", "dim must be between 2 and 512, found 0"),
        ("bits = 12", "bits must be a multiple of 8, found 12"),
        ("beta = -1e-5", "beta must be between 0 and 1000, found -1e-05"),
        ("beta = nan", "beta must be between 0 and 1000, found nan"),
        ("index_weight = -1", "index_weight must be between 0 and 1000, found -1"),
        ("index_weight = true", "index_weight must be float, found True"),
        ("steps = 0", "steps must be between 1 and 10.?000.?000|1e.07, found 0"),
        ('codec = "vae"', "codec must be one of adapter, full, shared, auto, found 'vae'"),
        ("depth = 3", r"unknown key depth in \[model\], expected dim, bits, .* index_weight, seed"),
    ],
)
def test_a_model_that_cannot_be_is_refused(tmp_path, line, said):
    path = tmp_path / "r.toml"
    path.write_text(f"[model]\n{line}\n")
    with pytest.raises(BadInput, match=said) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_switch_is_true_or_false(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text("[archive]\nsingle_band = true\n")
    assert read_recipe(path).single_band
    path.write_text("[archive]\nsingle_band = 1\n")
    with pytest.raises(BadInput, match="single_band must be true or false, found 1"):
        read_recipe(path)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"scale": 0.0}, "scale must be a finite number other than 0, found 0"),
        ({"scale": float("nan")}, "scale must be a finite number other than 0, found nan"),
        ({"offset": float("inf")}, "offset must be a finite number, found inf"),
        ({"indices": {"x": ("B04",)}}, r"index x must name two bands, found \['B04'\]"),
        (
            {"indices": {"x": ("B04", "B04")}},
            r"index x must name two bands, found \['B04', 'B04'\]",
        ),
        ({"bands": ("B04", "B04")}, "bands must be distinct"),
    ],
)
def test_scenes_and_indices_that_cannot_be_are_refused(asked, said):
    with pytest.raises(BadInput, match=said):
        Recipe(**asked)


def test_an_offset_of_nothing_and_a_negative_scale_are_taken():
    assert Recipe(scale=-1.0, offset=0.0).offset == 0


def test_settings_come_back_from_json():
    settings = Settings(
        5, 10.0, 64, 64, ("a", "b"), "stored", 3, 2, {"x": ("a", "b")}, 64, 128, "adapter", 0.5, 0.1
    )
    assert Settings.from_json(settings.to_json()) == settings
    packed = dataclasses.replace(settings, packed=8)
    assert "packed" not in settings.to_json() and packed.to_json()["packed"] == 8
    assert Settings.from_json(packed.to_json()) == packed
    with pytest.raises(BadInput, match="packed of 0"):
        Settings.from_json({**settings.to_json(), "packed": 0})
    with pytest.raises(BadInput, match=r"differing in \['gsd'\]"):
        Settings.from_json({k: v for k, v in settings.to_json().items() if k != "gsd"})
