"""Sentinel-2 and Landsat metadata."""

import math
from datetime import UTC, datetime

import pytest
from rasterfiles import LANDSAT, MTD, OFFSETS, landsat_metadata, odl

from embarchive.sensors import (
    Scaling,
    baseline_in,
    parse_mtl_text,
    parse_safe,
    read_landsat,
    safe_scaling,
    scaling_by_name,
)

NATIVE = "S2A_MSIL2A_20230815T100031_N0509_R122_T33TWL_20230815T160000"


@pytest.mark.parametrize(
    ("name", "day", "offset"),
    [
        (NATIVE, "2023-08-15", -0.1),
        (NATIVE.replace("N0509", "N0214"), "2023-08-15", 0.0),
        (NATIVE.replace("N0509", "N0500"), "2017-06-13", -0.1),
        ("S2A_MSIL2A_20170613T101032_T34VER_10m", "2017-06-13", 0.0),
        ("S2A_OPER_MSI_L2A_TL_2APS_20230602T025701_A041483_T01WCQ", "2023-06-02", -0.1),
        ("S2A_33TWL_20230815_0_L2A", "2023-08-15", 0.0),
    ],
)
def test_the_added_1000_is_taken_away_where_it_was_added(name, day, offset):
    when = datetime.fromisoformat(day).replace(tzinfo=UTC)
    assert scaling_by_name(name, "B04", when) == Scaling(1e-4, offset, 0.0)


def test_other_bands_and_sensors_are_not_scaled_by_name():
    assert scaling_by_name(NATIVE, "NDVI", None) is None
    assert scaling_by_name("m_4709963_se_14_1_20090818", "B1", None) is None
    assert scaling_by_name(f"{LANDSAT}_SR_B4", "SR_B4", None) == Scaling(2.75e-5, -0.2, 0.0)


def test_product_metadata_gives_start_baseline_and_offsets():
    facts = parse_safe(MTD.format(offsets=OFFSETS))
    assert (facts.start.day, facts.baseline, facts.offsets["B8A"]) == (15, "05.09", -1000.0)
    assert safe_scaling(facts, "", "B8A") == Scaling(1e-4, -0.1, 0.0)


def test_without_offsets_in_the_metadata_the_baseline_decides():
    assert safe_scaling(parse_safe(MTD.format(offsets="")), "", "B02").offset == -0.1
    assert safe_scaling(parse_safe(""), NATIVE.replace("N0509", "N0301"), "B02").offset == 0.0
    assert baseline_in("S2A_OPER_MSI_L2A_TL_2APS_20230602T025701_A041483_T01WCQ_N05.09") == "05.09"


def test_entities_in_metadata_expand_to_nothing():
    bomb = '<!DOCTYPE a [<!ENTITY b "2023-01-01">]><PRODUCT_START_TIME>&b;</PRODUCT_START_TIME>'
    assert parse_safe(bomb).start is None


def test_landsat_level_2_uses_the_surface_numbers():
    facts = read_landsat(landsat_metadata())
    assert facts.bands["SR_B4"] == (f"{LANDSAT}_SR_B4.TIF", 2.75e-5, -0.2)
    assert facts.start == datetime(2023, 8, 15, 9, 45, 12, tzinfo=UTC)


def test_landsat_level_1_is_divided_by_the_sine_of_the_sun():
    facts = read_landsat(landsat_metadata(level=1))
    assert facts.bands["B3"][1:] == pytest.approx((4e-5, -0.2))
    assert math.sin(math.radians(30)) == pytest.approx(0.5)


def test_landsat_text_says_what_its_json_says():
    values = landsat_metadata()
    assert read_landsat(parse_mtl_text(odl(values))) == read_landsat(values)
    assert read_landsat({"L1_METADATA_FILE": {}}) is None
