"""A recorded log, replayed: every object of every message is answered, and any reader opens the answers."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from rosbags.highlevel import AnyReader

from data_tools.convert import convert, write_log
from tests.learn.conftest import crowd, small_model
from tests.street import demo_scene
from trajpred.bags import typestore
from trajpred.config import HorizonConfig, NeighbourConfig, OutputConfig, Protocol
from trajpred.errors import InputError
from trajpred.evaluate import make_predictor
from trajpred.learn.export import describe, to_onnx
from trajpred.learn.train import Run
from trajpred.messages import TRACKED, decode_predicted, decode_tracked
from trajpred.replay import MARKERS_TOPIC, OUTPUT_TOPIC, replay
from trajpred.runtime import seal
from trajpred.tables import write_table
from trajpred.types import Label
from trajpred.windows import cut


@pytest.fixture(scope="module")
def artefact(tmp_path_factory):
    """A small model with random weights."""
    windows = cut((crowd(),), Protocol())
    model = small_model(windows, "lstm", neighbours=NeighbourConfig(count=4, radius_m=20.0))
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    run = Run("crowd", asdict(Protocol()), {}, {"history_dropout": 0.5}, [label.name for label in Label], "0")
    path.write_bytes(seal(to_onnx(model, describe(model, run))))
    return path


def raw_messages(path, *topics):
    """(receive stamp, bytes) by the mcap package's own reader, of some topics or of all."""
    with path.open("rb") as file:
        return [(m.log_time, m.data) for _, _, m in make_reader(file).iter_messages(topics or None)]


def check_answers(log, answers, k, steps=20):
    """Object by object: same ids in the same order, same stamp and frame, K finite paths that sum to 1."""
    asked = [typestore().deserialize_cdr(raw, TRACKED) for _, raw in raw_messages(log)]
    with AnyReader([answers], default_typestore=typestore()) as reader:
        (connection,) = [c for c in reader.connections if c.topic == OUTPUT_TOPIC]
        given = [reader.deserialize(raw, c.msgtype) for c, _, raw in reader.messages([connection])]
    assert len(raw_messages(answers, OUTPUT_TOPIC)) == len(given) == len(asked)
    objects = 0
    for question, answer in zip(asked, given, strict=True):
        assert repr(answer.header) == repr(question.header)
        assert len(answer.objects) == len(question.objects)
        for q, a in zip(question.objects, answer.objects, strict=True):
            objects += 1
            assert a.object_id.uuid.tobytes() == q.object_id.uuid.tobytes()
            assert a.existence_probability == q.existence_probability
            paths = a.kinematics.predicted_paths
            assert 1 <= len(paths) <= k
            assert sum(p.confidence for p in paths) == pytest.approx(1.0, abs=1e-5)
            assert repr(a.kinematics.initial_pose_with_covariance) == repr(q.kinematics.pose_with_covariance)
            here = q.kinematics.pose_with_covariance.pose.position
            for path in paths:
                assert len(path.path) == steps + 1
                points = np.array([(p.position.x, p.position.y, p.orientation.w) for p in path.path])
                assert np.isfinite(points).all()
                np.testing.assert_allclose(points[0, :2], [here.x, here.y], atol=1e-6)
    return objects


def test_a_generated_street_is_answered_object_by_object(artefact, tmp_path):
    write_table(demo_scene(seconds=5.0, seed=1), tmp_path / "street.parquet")
    log, answers = tmp_path / "street.mcap", tmp_path / "predictions.mcap"
    convert("table", tmp_path / "street.parquet", log)
    done = replay(make_predictor(str(artefact)), log, answers)
    assert check_answers(log, answers, k=4) == done.objects > 0
    assert done.messages == 50
    assert done.sources == {"model": done.objects}


def test_answers_are_the_predictors_own_on_the_grid_that_was_asked_for(artefact, tmp_path):
    """The model's grid is 0.4 s to 4.8 s; a path may be asked for at every second point of it."""
    write_table(demo_scene(seconds=2.0, seed=1), tmp_path / "s.parquet")
    convert("table", tmp_path / "s.parquet", tmp_path / "s.mcap")
    output = OutputConfig(0.8, HorizonConfig(4.0, 4.0, 4.0))
    replay(make_predictor(str(artefact)), tmp_path / "s.mcap", tmp_path / "out.mcap", output=output)
    predictor = make_predictor(str(artefact))
    for (_, question), (_, answer) in zip(
        raw_messages(tmp_path / "s.mcap"), raw_messages(tmp_path / "out.mcap", OUTPUT_TOPIC), strict=True
    ):
        wanted = predictor.step(decode_tracked(question)[0])
        found, _ = decode_predicted(answer)
        np.testing.assert_allclose(found.offset_s, [0.8, 1.6, 2.4, 3.2, 4.0])
        order = np.argsort(-np.where(wanted.mode_valid, wanted.probability, -1.0), axis=1, kind="stable")
        paths = np.take_along_axis(wanted.paths[:, :, 1:10:2], order[..., None, None], axis=1)
        used = found.mode_valid
        np.testing.assert_array_equal(used.sum(axis=1), wanted.mode_valid.sum(axis=1))
        np.testing.assert_allclose(found.paths[used], paths[:, : used.shape[1]][used], atol=1e-9)


def test_an_output_that_cannot_be_is_refused_before_anything_is_written(tmp_path):
    write_table(demo_scene(seconds=1.0, seed=1), tmp_path / "s.parquet")
    convert("table", tmp_path / "s.parquet", tmp_path / "s.mcap")
    with pytest.raises(InputError, match=r"output\.step_s"):
        replay(make_predictor("cv"), tmp_path / "s.mcap", tmp_path / "out.mcap", output=OutputConfig(0.0))
    assert not (tmp_path / "out.mcap").exists()


def test_what_a_viewer_draws_stands_beside_every_answer(artefact, tmp_path):
    """The definitions are in the log: the mcap package and rosbags read it without any of ours."""
    log, answers = tmp_path / "s.mcap", tmp_path / "out.mcap"
    write_log(demo_scene(seconds=2.0, seed=1), log)
    replay(make_predictor(str(artefact)), log, answers)
    with answers.open("rb") as file:
        summary = make_reader(file).get_summary()
    found = {c.topic: summary.schemas[c.schema_id] for c in summary.channels.values()}
    assert {topic: schema.name for topic, schema in found.items()} == {
        OUTPUT_TOPIC: "autoware_perception_msgs/msg/PredictedObjects",
        MARKERS_TOPIC: "visualization_msgs/msg/MarkerArray",
    }
    assert all(schema.encoding == "ros2msg" and schema.data for schema in found.values())
    with AnyReader([answers]) as reader:
        said, drawn = (
            [(at, reader.deserialize(raw, c.msgtype)) for c, at, raw in reader.messages(of_topic)]
            for of_topic in ([c for c in reader.connections if c.topic == t] for t in found)
        )
    assert len(said) == 20
    for (at, answer), (drawn_at, shown) in zip(said, drawn, strict=True):
        assert at == drawn_at
        wipe, *others = shown.markers
        assert wipe.action == 3
        boxes, lines = ([m for m in others if m.type == kind] for kind in (1, 4))
        assert len(boxes) + len(lines) == len(others)
        paths = [path.path for each in answer.objects for path in each.kinematics.predicted_paths]
        assert len(boxes) == len(answer.objects)
        for line, path in zip(lines, paths, strict=True):
            assert repr(line.points) == repr([pose.position for pose in path])
        for box, each in zip(boxes, answer.objects, strict=True):
            assert repr(box.pose) == repr(each.kinematics.predicted_paths[0].path[0])
            assert repr(box.header) == repr(answer.header)
        assert all((m.lifetime.sec, m.lifetime.nanosec) == (0, 0) for m in others)


def test_without_markers_the_answers_are_the_same(artefact, tmp_path):
    log = tmp_path / "s.mcap"
    write_log(demo_scene(seconds=2.0, seed=1), log)
    for name, wanted in (("with.mcap", True), ("without.mcap", False)):
        replay(make_predictor(str(artefact)), log, tmp_path / name, with_markers=wanted)
    assert raw_messages(tmp_path / "without.mcap") == raw_messages(tmp_path / "with.mcap", OUTPUT_TOPIC)


def test_layouts_of_viewers_show_what_replay_and_the_node_publish():
    folder = Path(__file__).parents[1] / "ros_nodes/trajpred_ros/viewers"
    topics = {MARKERS_TOPIC, "/prediction_node/debug/markers"}
    layout = json.loads((folder / "foxglove.json").read_text())
    assert layout["configById"]["3D!paths"]["topics"].keys() == topics
    shown = yaml.safe_load((folder / "trajpred.rviz").read_text())["Visualization Manager"]["Displays"]
    assert {each["Topic"]["Value"] for each in shown if "Topic" in each} == topics


@pytest.mark.real_data
def test_a_kitti_drive_becomes_a_log_and_every_object_is_answered(artefact, data_root, tmp_path):
    log, answers = tmp_path / "0004.mcap", tmp_path / "predictions.mcap"
    convert("kitti", data_root / "kitti", log, scene="0004")
    done = replay(make_predictor(str(artefact)), log, answers)
    assert check_answers(log, answers, k=4) == done.objects > 500


def test_replaying_twice_gives_the_same_bytes(artefact, tmp_path):
    write_table(demo_scene(seconds=2.0, seed=1), tmp_path / "s.parquet")
    convert("table", tmp_path / "s.parquet", tmp_path / "s.mcap")
    for name in ("a.mcap", "b.mcap"):
        replay(make_predictor(str(artefact)), tmp_path / "s.mcap", tmp_path / name)
    assert raw_messages(tmp_path / "a.mcap") == raw_messages(tmp_path / "b.mcap")


def test_a_damaged_log_leaves_no_answers(artefact, tmp_path):
    write_table(demo_scene(seconds=2.0, seed=1), tmp_path / "s.parquet")
    convert("table", tmp_path / "s.parquet", tmp_path / "s.mcap")
    whole = (tmp_path / "s.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.mcap"):
        replay(make_predictor("cv"), tmp_path / "cut.mcap", tmp_path / "out.mcap")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cut.mcap", "s.mcap", "s.parquet"]
