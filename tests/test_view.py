"""Recordings for rerun, read back: entities, times and values are those of the log."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.test_moments import CAR, LAST, WALKER, street, write_log
from trajpred.cli import main
from trajpred.errors import InputError, MissingExtraError
from trajpred.evaluate import make_predictor
from trajpred.lanes import Area, Lanes, Line
from trajpred.moments import ticks_between
from trajpred.recorded import Recorded
from trajpred.view import Show, open_viewer, write_recording

START_NS = 1_795_417_312_919_320_004  # not a multiple of a microsecond
STEP_NS = 100_000_000


pytest.importorskip("rerun", reason="the viewer needs the extra view: pip install -e '.[view]'")

pytestmark = pytest.mark.filterwarnings("error")  # rerun warns of what it could not take


def show(scene=None, predictor=None, **changes) -> Show:
    scene = scene or street(START_NS)
    return Show(predictor or make_predictor("cv"), scene, ticks_between(scene), **changes)


def read(path, store: str = "recordings") -> dict:
    """entity -> component -> {stamp in ns, None for what is static: values}, from the file alone."""
    from rerun.chunk import RrdReader

    reader = RrdReader(path)
    (entry,) = getattr(reader, store)()
    found: dict = defaultdict(lambda: defaultdict(dict))
    for chunk in reader.stream(store=entry):
        batch = chunk.to_record_batch()
        if store == "recordings":
            assert chunk.timeline_names == ([] if chunk.is_static else ["stamp"])
        times = [None] * chunk.num_rows
        if "stamp" in chunk.timeline_names:
            times = batch.column("stamp").cast("int64").to_pylist()
        for name in set(batch.schema.names) - {"rerun.controls.RowId", *chunk.timeline_names}:
            for time, values in zip(times, batch.column(name).to_pylist(), strict=True):
                if values is not None:
                    assert time not in found[chunk.entity_path][name]
                    found[chunk.entity_path][name][time] = values
    return found


def stamps(*ticks: int) -> list[int]:
    return [START_NS + tick * STEP_NS for tick in ticks]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """What a recording of the street says."""
    path = tmp_path_factory.mktemp("view") / "a.rrd"
    road = Lanes(
        (
            Line("kerb", np.array([[0.0, 4.0], [50.0, 4.0]])),
            Line("kerb", np.array([[0.0, -4.0], [9.0, -4.0]])),
        ),
        (Area("road", np.array([[0.0, -4.0], [50.0, -4.0], [50.0, 4.0]])),),
    )
    write_recording(show(lanes=road), path)
    assert [file.name for file in path.parent.iterdir()] == ["a.rrd"]
    return path, read(path)


def test_there_is_an_entity_for_each_object_at_each_of_its_stamps(recorded):
    _, found = recorded
    objects = {entity.split("/")[2] for entity in found if entity.startswith("/objects/")}
    assert objects == {"1", "2"}
    assert sorted(found["/objects/1"]["Boxes3D:centers"]) == stamps(*range(LAST + 1))
    assert sorted(found["/objects/2"]["Boxes3D:centers"]) == stamps(*range(5, 26))
    parts = {"history", "paths", "truth", "probability"}
    assert {entity.split("/")[3] for entity in found if entity.startswith("/objects/1/")} == parts


def test_boxes_have_the_pose_the_size_and_the_class_of_the_log(recorded):
    _, found = recorded
    car, walker = found["/objects/1"], found["/objects/2"]
    for tick in range(LAST + 1):
        (time,) = stamps(tick)
        np.testing.assert_allclose(car["Boxes3D:centers"][time], [[0.5 * tick, 0, 0.75]], atol=1e-5)
        np.testing.assert_allclose(car["Boxes3D:half_sizes"][time], [[2, 1, 0.75]], atol=1e-6)
        np.testing.assert_allclose(car["Boxes3D:quaternions"][time], [[0, 0, 0, 1]], atol=1e-6)
        assert car["Points3D:labels"][time] == ["car 1"]
    (time,) = stamps(20)
    # the pedestrian walks along y, and is not known to have a size
    np.testing.assert_allclose(walker["Boxes3D:centers"][time], [[10, -1.5, 0.15]], atol=1e-5)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(walker["Boxes3D:quaternions"][time], [[0, 0, half, half]], atol=1e-6)
    np.testing.assert_allclose(walker["Boxes3D:half_sizes"][time], [[0.15] * 3], atol=1e-6)
    assert walker["Points3D:labels"][time] == ["pedestrian 2"]
    assert car["Boxes3D:colors"][time] == [0xE69F00FF]
    assert walker["Boxes3D:colors"][time] == [0xCC79A7FF]


def test_an_object_is_cleared_at_the_first_stamp_without_it(recorded):
    _, found = recorded
    assert found["/objects/2"]["Clear:is_recursive"] == {stamps(26)[0]: [True]}
    assert "Clear:is_recursive" not in found["/objects/1"]


def test_paths_history_and_truth_are_those_of_the_log(recorded):
    _, found = recorded
    (time,) = stamps(20)
    (path,) = found["/objects/1/paths"]["LineStrips3D:strips"][time]
    np.testing.assert_allclose(np.array(path)[:, 0], 10 + 2.5 * np.arange(17), atol=1e-5)
    (history,) = found["/objects/1/history"]["LineStrips3D:strips"][time]
    np.testing.assert_allclose(np.array(history)[:, 0], np.arange(11.0), atol=1e-5)
    (truth,) = found["/objects/2/truth"]["LineStrips3D:strips"][time]
    np.testing.assert_allclose(np.array(truth)[:, :2], [[10, -1.5], [10, -1]], atol=1e-5)
    assert found["/objects/1/probability"]["Scalars:scalars"][time] == [1.0]


def test_the_latency_is_there_for_every_stamp(recorded):
    _, found = recorded
    latency = found["/latency"]["Scalars:scalars"]
    assert sorted(latency) == stamps(*range(LAST + 1))
    assert all(0 < milliseconds < 60_000 for (milliseconds,) in latency.values())


def test_the_road_is_there_all_the_time(recorded):
    _, found = recorded
    kerbs = found["/road/kerb"]["LineStrips3D:strips"][None]
    assert kerbs == [[[0, 4, 0], [50, 4, 0]], [[0, -4, 0], [9, -4, 0]]]
    (road,) = found["/road/road"]["LineStrips3D:strips"][None]
    assert road == [[0, -4, 0], [50, -4, 0], [50, 4, 0], [0, -4, 0]]


def test_the_viewer_begins_with_a_map_and_plots(recorded):
    path, found = recorded
    assert found["/__properties"]["RecordingInfo:name"] == {None: ["street"]}
    views: dict = {}
    for parts in read(path, "blueprints").values():
        if "ViewBlueprint:class_identifier" in parts:
            (kind,) = parts["ViewBlueprint:class_identifier"].values()
            (origin,) = parts["ViewBlueprint:space_origin"].values()
            views[origin[0]] = kind[0]
    assert views == {
        "/": "3D",
        "latency": "TimeSeries",
        "objects/1/probability": "TimeSeries",
        "objects/2/probability": "TimeSeries",
    }


def test_the_file_is_sound_to_rerun_itself(recorded):
    path, _ = recorded
    done = subprocess.run(
        [sys.executable, "-m", "rerun", "rrd", "verify", path], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_paths_are_wider_and_stronger_the_more_probable_they_are(tmp_path, monkeypatch):
    from trajpred import view

    inner = view.moments

    def several(*arguments):
        for moment in inner(*arguments):
            n = len(moment.frame)
            yield replace(
                moment,
                paths=np.arange(3.0).reshape(1, 3, 1, 1) * np.ones((n, 3, 16, 2)),
                probability=np.tile([0.2, 0.7, 0.1], (n, 1)),
                mode_valid=np.ones((n, 3), bool),
            )

    monkeypatch.setattr(view, "moments", several)
    write_recording(show(), tmp_path / "a.rrd")
    found = read(tmp_path / "a.rrd")
    (time,) = stamps(0)
    paths = found["/objects/1/paths"]
    assert [strip[-1][0] for strip in paths["LineStrips3D:strips"][time]] == [2.0, 0.0, 1.0]
    # rerun takes negative radii for points on the screen
    widths = -np.array(paths["LineStrips3D:radii"][time])
    assert 0 < widths[0] < widths[1] < widths[2]
    whiteness = [sum(colour.to_bytes(4, "big")[:3]) for colour in paths["LineStrips3D:colors"][time]]
    assert whiteness[0] > whiteness[1] > whiteness[2]
    assert found["/objects/1/probability"]["Scalars:scalars"][time] == [0.2, 0.7, 0.1]


def test_published_answers_are_shown_where_there_are_some(tmp_path):
    log, out = tmp_path / "street.mcap", tmp_path / "a.rrd"
    write_log(log, street(START_NS), lambda tick: [CAR] if tick >= 10 else [])
    assert main(["view", str(log), "--out", str(out)]) == 0
    found = read(out)
    assert "/latency" not in found  # nobody knows how long they took
    paths = found["/objects/1/paths"]["LineStrips3D:strips"]
    assert paths[stamps(9)[0]] == []
    (path,) = paths[stamps(20)[0]]
    np.testing.assert_allclose(np.array(path)[:, 0], 10 + 2.5 * np.arange(21), atol=1e-4)
    assert all(paths == [] for paths in found["/objects/2/paths"]["LineStrips3D:strips"].values())
    assert sorted(found["/objects/1/probability"]["Scalars:scalars"]) == stamps(*range(10, LAST + 1))


def test_large_coordinates_are_told_from_a_round_place(tmp_path):
    east, north = 531_234.0, 5_345_678.0  # a position in UTM, which single precision knows to half a metre
    write_recording(show(street(START_NS, (east, north))), tmp_path / "a.rrd")
    found = read(tmp_path / "a.rrd")
    origin = found["/__properties/origin_m"]
    (x0,), (y0,) = origin["x"][None], origin["y"][None]
    assert (x0, y0) == (531_000.0, 5_346_000.0)
    for tick in range(LAST + 1):
        ((x, y, _),) = found["/objects/1"]["Boxes3D:centers"][stamps(tick)[0]]
        assert x + x0 == pytest.approx(east + 0.5 * tick, abs=1e-3)
        assert y + y0 == pytest.approx(north, abs=1e-3)


def test_uuids_are_told_in_digits(tmp_path):
    scene = street(START_NS)
    uuid = bytes(range(200, 216))
    renamed = replace(scene, ids=np.where(scene.ids == WALKER, uuid, scene.ids).astype("S16"))
    write_recording(show(renamed), tmp_path / "a.rrd")
    found = read(tmp_path / "a.rrd")
    assert found[f"/objects/{uuid.hex()}"]["Points3D:labels"][stamps(5)[0]] == [
        f"pedestrian {uuid.hex()[:8]}"
    ]


def test_the_command_writes_the_part_that_is_asked_for_with_the_road_beside_the_log(tmp_path, capsys):
    log, out = tmp_path / "street.mcap", tmp_path / "a.rrd"
    write_log(log, street(START_NS))
    Lanes((Line("kerb", np.zeros((2, 2))),)).write(tmp_path / "street.lanes.geojson")
    assert main(["view", str(log), "--out", str(out), "--from-s", "1", "--to-s", "1.2"]) == 0
    assert capsys.readouterr().out == f"{out}\n"
    found = read(out)
    assert sorted(found["/objects/1"]["Boxes3D:centers"]) == stamps(10, 11, 12)
    assert "/road/kerb" in found
    assert main(["view", str(log), "--out", str(out), "--model", "kalman", "--to-s", "0"]) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["none.mcap", "--out", "a.rrd"], "none.mcap: no such log"),
        (["broken.mcap", "--out", "a.rrd"], "mcap recover"),
        (["answers.mcap", "--out", "a.rrd"], "--model"),
        (["street.mcap", "--out", "a.txt"], ".rrd"),
        (["street.mcap", "--out", "missing/a.rrd"], "a.rrd: cannot be written"),
        (["street.mcap", "--out", "a.rrd", "--model", "none.onnx"], "none.onnx: cannot be read"),
        (["street.mcap", "--out", "a.rrd", "--from-s", "9"], "it lasts 3.0 s"),
        (["street.mcap", "--out", "a.rrd", "--lanes", "broken.mcap"], "not JSON"),
    ],
)
def test_a_users_error_is_one_line_and_leaves_nothing(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_log(tmp_path / "street.mcap", street(START_NS))
    write_log(tmp_path / "answers.mcap", street(START_NS), lambda tick: [CAR], tracks=False)
    whole = (tmp_path / "street.mcap").read_bytes()
    (tmp_path / "broken.mcap").write_bytes(whole[: len(whole) // 2])
    before = sorted(tmp_path.iterdir())
    assert main(["view", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: ") and says in line
    assert sorted(tmp_path.iterdir()) == before


def test_a_recording_that_fails_half_way_leaves_the_old_one(tmp_path):
    log, out = tmp_path / "street.mcap", tmp_path / "a.rrd"
    write_log(log, street(START_NS), lambda tick: [CAR])
    out.write_bytes(b"old")
    with pytest.raises(InputError, match="answers no tick"):
        write_recording(show(street(7), Recorded(log)), out)
    assert out.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [out, log]


def test_the_viewer_beside_this_python_gets_the_same(monkeypatch):
    import rerun

    opened, sent = [], []
    monkeypatch.setattr(rerun, "spawn", lambda **how: opened.append(how))
    monkeypatch.setattr(rerun.RecordingStream, "log", lambda self, entity, *what, **how: sent.append(entity))
    monkeypatch.setenv("PATH", "")
    open_viewer(show())
    assert sent.count("objects/1") == LAST + 1
    assert {"objects/2/paths", "latency"} <= {entity for entity in sent if isinstance(entity, str)}
    (how,) = opened
    assert how["executable_path"] == str(Path(sys.executable).parent / "rerun")


@pytest.mark.parametrize("fails", ["spawn", "flush"])
def test_a_viewer_that_does_not_open_is_one_line_with_the_way_out(fails, monkeypatch):
    import rerun

    def broken(*_, **__):
        raise RuntimeError("no display\nand much more")

    monkeypatch.setattr(rerun, "spawn", broken if fails == "spawn" else lambda **how: None)
    if fails == "flush":
        monkeypatch.setattr(rerun.RecordingStream, "flush", broken)
    with pytest.raises(InputError, match=r"^the viewer does not open \(no display\); .*--out NAME\.rrd$"):
        open_viewer(show())


def test_without_rerun_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rerun", None)
    with pytest.raises(MissingExtraError, match=r"\.\[view\]"):
        write_recording(show(), tmp_path / "a.rrd")
    with pytest.raises(MissingExtraError, match=r"\.\[view\]"):
        open_viewer(show())
    assert not list(tmp_path.iterdir())


def test_importing_it_does_not_import_rerun():
    code = "import sys, trajpred.view; assert 'rerun' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
