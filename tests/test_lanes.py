"""The geometry of a road: what a file says is what is read, and every fault names file and feature."""

from __future__ import annotations

import json

import numpy as np
import pytest

from trajpred.errors import InputError
from trajpred.lanes import Area, Lanes, Line, find_lanes, lanes_beside

EDGE = {
    "type": "Feature",
    "properties": {"kind": "lane_edge"},
    "geometry": {"type": "LineString", "coordinates": [[0, 1.5], [10.25, 1.5, 7.0], [20, 2]]},
}
ROAD = {
    "type": "Feature",
    "properties": {"kind": "road"},
    "geometry": {"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 3], [0, 0]]]},
}


def feature(**changes) -> dict:
    return json.loads(json.dumps(EDGE)) | changes


def geometry(form: str, coordinates) -> dict:
    return feature(geometry={"type": form, "coordinates": coordinates})


def write(path, *features, **members):
    content = {"type": "FeatureCollection", "unit": "m", "features": list(features)} | members
    path.write_text(json.dumps(content))
    return path


def test_a_file_is_read_as_it_is(tmp_path):
    lanes = Lanes.read(write(tmp_path / "a.geojson", EDGE, ROAD))
    (line,), (area,) = lanes.lines, lanes.areas
    assert line.kind == "lane_edge" and area.kind == "road"
    assert line.points.dtype == np.float64
    np.testing.assert_array_equal(line.points, [[0, 1.5], [10.25, 1.5], [20, 2]])
    np.testing.assert_array_equal(area.outline, [[0, 0], [4, 0], [4, 3]])  # a ring ends where it begins


def test_what_is_written_is_geojson_in_metres_and_is_read_back_exactly(tmp_path):
    rng = np.random.default_rng(0)
    lanes = Lanes(
        (Line("kerb", rng.normal(scale=1e4, size=(5, 2))), Line("of my own", rng.normal(size=(2, 2)))),
        (Area("building", rng.normal(size=(3, 2))), Area("parking", rng.normal(size=(7, 2)))),
    )
    path = tmp_path / "a.geojson"
    path.write_text("old")
    lanes.write(path)
    content = json.loads(path.read_text())
    assert (content["type"], content["unit"]) == ("FeatureCollection", "m")
    forms = [feature["geometry"]["type"] for feature in content["features"]]
    assert sorted(forms) == ["LineString", "LineString", "Polygon", "Polygon"]
    rings = [f["geometry"]["coordinates"][0] for f in content["features"] if "Polygon" in str(f)]
    assert all(ring[0] == ring[-1] for ring in rings)
    again = Lanes.read(path)
    for old, new in zip(lanes.lines, again.lines, strict=True):
        assert old.kind == new.kind
        np.testing.assert_array_equal(old.points, new.points)
    for old, new in zip(lanes.areas, again.areas, strict=True):
        assert old.kind == new.kind
        np.testing.assert_array_equal(old.outline, new.outline)
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_is_a_road_too(tmp_path):
    Lanes().write(tmp_path / "a.geojson")
    assert Lanes.read(tmp_path / "a.geojson") == Lanes()


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ([], "no geometry"),
        (feature(geometry=None), "no geometry"),
        (feature(properties=None), "kind"),
        (feature(properties={"kind": ""}), "kind"),
        (feature(properties={"kind": 3}), "kind"),
        (geometry("MultiLineString", [[[0, 0], [1, 1]]]), "MultiLineString"),
        (geometry("Point", [0, 0]), "Point"),
        (geometry("LineString", [[0, 0]]), "shape"),
        (geometry("LineString", []), "shape"),
        (geometry("LineString", None), "list"),
        (geometry("LineString", [[0, 0], [1]]), "list"),
        (geometry("LineString", [[0, 0], [1, "2"]]), "list"),
        (geometry("LineString", [[0, 0], [True, False]]), "list"),
        (geometry("LineString", [[0, 0], [1, float("nan")]]), "finite"),
        (geometry("LineString", [[0, 0], [1, 10**400]]), "large"),
        (geometry("Polygon", []), "ring"),
        (geometry("Polygon", ROAD["geometry"]["coordinates"] * 2), "ring"),
        (geometry("Polygon", [[[0, 0], [1, 1], [0, 0]]]), "shape"),
    ],
)
def test_a_fault_names_the_file_and_the_feature(tmp_path, broken, says):
    path = write(tmp_path / "a.geojson", EDGE, broken, ROAD)
    with pytest.raises(InputError, match=r"a\.geojson: feature 1: .*" + says):
        Lanes.read(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\xff\xfe", "not JSON"),
        (b"{", "not JSON"),
        (b"[" * 100000, "not JSON"),
        (b"[]", "FeatureCollection"),
        (b'{"type": "FeatureCollection", "unit": "m"}', "FeatureCollection"),
        (b'{"type": "Topology", "unit": "m", "features": []}', "FeatureCollection"),
        (b'{"type": "FeatureCollection", "features": []}', '"unit": "m"'),
        (b'{"type": "FeatureCollection", "unit": "degrees", "features": []}', "'degrees'"),
    ],
)
def test_another_file_is_refused_by_name(tmp_path, content, says):
    path = tmp_path / "a.geojson"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.geojson: ") as refused:
        Lanes.read(path)
    assert says in str(refused.value)


def test_files_that_cannot_be_read_or_written_are_input_errors(tmp_path):
    with pytest.raises(InputError, match=r"none\.geojson: cannot be read"):
        Lanes.read(tmp_path / "none.geojson")
    with pytest.raises(InputError, match=r"a\.geojson: cannot be written"):
        Lanes().write(tmp_path / "missing" / "a.geojson")
    assert not list(tmp_path.iterdir())


def test_parts_that_are_none_are_refused():
    with pytest.raises(InputError, match="kerb"):
        Line("kerb", np.zeros((1, 2)))
    with pytest.raises(InputError, match="road"):
        Area("road", np.zeros((2, 2)))
    with pytest.raises(InputError, match="finite"):
        Area("road", np.full((3, 2), np.inf))


def test_the_road_of_a_log_is_found_beside_it(tmp_path):
    names = {"street.mcap": "street", "a.b.db3": "a.b", "street.parquet": "street", "drive.1": "drive.1"}
    for log, stem in names.items():
        assert lanes_beside(tmp_path / log) == tmp_path / f"{stem}.lanes.geojson"
    log = tmp_path / "street.mcap"
    assert find_lanes(log) is None
    write(tmp_path / "street.lanes.geojson", EDGE)
    write(tmp_path / "other.geojson", ROAD)
    found = find_lanes(log)
    assert found is not None and len(found.lines) == 1
    named = find_lanes(log, tmp_path / "other.geojson")
    assert named is not None and len(named.areas) == 1 and not named.lines
    with pytest.raises(InputError, match=r"none\.geojson"):
        find_lanes(log, tmp_path / "none.geojson")
