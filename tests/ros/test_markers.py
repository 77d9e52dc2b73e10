"""The bytes of the boxes and lines that RViz shows, against message objects that rclpy serializes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autoware_perception_msgs.msg import PredictedObjects
from hypothesis import given, settings
from hypothesis import strategies as st
from rclpy.qos import QoSProfile
from rclpy.serialization import deserialize_message, serialize_message
from std_msgs.msg import Header
from visualization_msgs.msg import Marker, MarkerArray

from data_tools.convert import write_log
from tests.street import demo_scene
from trajpred import cdr
from trajpred.bags import read_raw
from trajpred.cdr import PREDICTED
from trajpred.evaluate import make_predictor
from trajpred.markers import MARKERS, PALETTE, markers
from trajpred.replay import replay
from trajpred.types import Label, ids_from_bytes, ids_from_int

LIFETIME_S = 0.75


def starts(counts: list[int]) -> Any:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)]).astype(np.int64)


def predicted(
    paths: list[list[int]],
    *,
    frame_id: str = "map",
    stamp_ns: int = 12_000_000_034,
    ids: Any = None,
    classes: list[list[tuple[int, float]]] | None = None,
    confidence: Any = None,
    seed: int = 0,
) -> cdr.PredictedObjects:
    """An object for each list of path lengths, with random positions."""
    rng = np.random.default_rng(seed)
    n, lengths = len(paths), [length for own in paths for length in own]
    classes = [[(Label.CAR, 1.0)]] * n if classes is None else classes
    confidence = rng.uniform(0.2, 1.0, len(lengths)) if confidence is None else confidence
    return cdr.PredictedObjects(
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        ids=ids_from_int(np.arange(n)) if ids is None else ids,
        existence=np.ones(n, np.float32),
        class_start=starts([len(own) for own in classes]),
        class_label=np.array([label for own in classes for label, _ in own], np.uint8),
        class_probability=np.array([share for own in classes for _, share in own], np.float32),
        state=np.zeros((n, 127)),
        shape_type=(np.arange(n) % 3).astype(np.uint8),
        point_start=np.zeros(n + 1, np.int64),
        points=np.zeros((0, 3), np.float32),
        dimensions=rng.choice([0.0, 0.25, 0.8, 4.5], (n, 3)),
        path_start=starts([len(own) for own in paths]),
        pose_start=starts(lengths),
        poses=rng.normal(scale=1e3, size=(sum(lengths), 7)),
        time_step_ns=np.full(len(lengths), 500_000_000, np.int64),
        confidence=np.asarray(confidence, np.float32),
    )


def named(marker: Marker, objects: cdr.PredictedObjects, labels: list[int], row: int) -> None:
    """As all that is drawn of an object."""
    marker.ns = objects.ids[row].ljust(16, b"\0").hex()
    marker.color.r, marker.color.g, marker.color.b = PALETTE[labels[row]].tolist()
    marker.lifetime.nanosec = 750_000_000


def as_messages(objects: cdr.PredictedObjects, labels: list[int], delete_all: bool) -> MarkerArray:
    """The same boxes and lines as message objects, put together one by one."""
    header = Header(frame_id=objects.frame_id)
    header.stamp.sec, header.stamp.nanosec = divmod(objects.stamp_ns, 10**9)
    array = MarkerArray()
    if delete_all:
        array.markers.append(Marker(header=header, action=Marker.DELETEALL))
    for row in range(len(objects)):
        own = range(objects.path_start[row], objects.path_start[row + 1])
        first = [
            objects.pose_start[path]
            for path in own
            if objects.pose_start[path + 1] > objects.pose_start[path]
        ]
        if not first:
            continue
        cylinder = objects.shape_type[row] == 1
        box = Marker(
            header=header, id=-1, type=Marker.CYLINDER if cylinder else Marker.CUBE, action=Marker.ADD
        )
        named(box, objects, labels, row)
        pose, size = objects.poses[first[0]].tolist(), objects.dimensions[row].tolist()
        for place, axes, values in (
            (box.pose.position, "xyz", pose[:3]),
            (box.pose.orientation, "xyzw", pose[3:]),
            (box.scale, "xyz", [max(0.3, side) for side in size]),
        ):
            for axis, value in zip(axes, values, strict=True):
                setattr(place, axis, value)
        box.color.a = 0.6
        array.markers.append(box)
    for row in range(len(objects)):
        for mode, path in enumerate(range(objects.path_start[row], objects.path_start[row + 1])):
            marker = Marker(header=header, id=mode, type=Marker.LINE_STRIP, action=Marker.ADD)
            named(marker, objects, labels, row)
            marker.scale.x = 0.15
            marker.color.a = max(0.15, float(objects.confidence[path]))
            for pose in objects.poses[objects.pose_start[path] : objects.pose_start[path + 1]].tolist():
                point = type(marker.pose.position)(x=pose[0], y=pose[1], z=pose[2])
                marker.points.append(point)
            array.markers.append(marker)
    return array


def assert_same(ours: bytes, message: MarkerArray) -> None:
    """The same bytes but for the padding, which rclpy leaves as the memory happens to be and we write as 0.

    A byte is padding if rclpy reads the same from the message whatever that byte is.
    """
    theirs = serialize_message(message)
    assert len(ours) == len(theirs)
    differing = [at for at, (own, other) in enumerate(zip(ours, theirs, strict=True)) if own != other]
    assert not any(ours[at] for at in differing)
    turned = bytearray(theirs)
    for at in differing:
        turned[at] ^= 0xFF
    assert repr(deserialize_message(bytes(turned), MarkerArray)) == repr(
        deserialize_message(theirs, MarkerArray)
    )


@settings(max_examples=40)
@given(
    paths=st.lists(st.lists(st.integers(0, 5), max_size=4), max_size=5),
    frame_id=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=9),
    stamp_ns=st.integers(0, 2**31 * 10**9 - 1),
    delete_all=st.booleans(),
    data=st.data(),
)
def test_the_bytes_are_those_of_message_objects(
    paths: list[list[int]], frame_id: str, stamp_ns: int, delete_all: bool, data: st.DataObject
) -> None:
    n = len(paths)
    uuids = data.draw(st.binary(min_size=16 * n, max_size=16 * n))
    labels = data.draw(st.lists(st.integers(0, 255), min_size=n, max_size=n))
    objects = predicted(
        paths,
        frame_id=frame_id,
        stamp_ns=stamp_ns,
        ids=ids_from_bytes(np.frombuffer(uuids, np.uint8).reshape(-1, 16)),
        classes=[[(label, 1.0)] for label in labels],
        confidence=data.draw(
            st.lists(st.floats(0, 1, width=32), min_size=sum(map(len, paths)), max_size=sum(map(len, paths)))
        ),
    )
    assert_same(markers(objects, LIFETIME_S, delete_all), as_messages(objects, labels, delete_all))


@pytest.mark.parametrize("frame_id", ["", "map", "base", "base_link", "çarşı/地図"])
def test_the_bytes_of_many_equal_paths_are_those_of_message_objects(frame_id: str) -> None:
    objects = predicted([[21] * 6] * 20, frame_id=frame_id)
    assert_same(markers(objects, LIFETIME_S, False), as_messages(objects, [Label.CAR] * 20, False))


def test_no_objects_are_no_markers() -> None:
    assert markers(predicted([]), LIFETIME_S, False) == b"\0\1\0\0" + bytes(4)
    assert markers(predicted([[]]), LIFETIME_S, False) == b"\0\1\0\0" + bytes(4)


def test_delete_all_is_one_marker_that_names_nothing_before_the_lines() -> None:
    first, *others = read(markers(predicted([[2], [3]]), LIFETIME_S, True))
    assert (first.action, first.ns, first.header.frame_id) == (Marker.DELETEALL, "", "map")
    assert [other.action for other in others] == [Marker.ADD] * 4


def read(raw: bytes) -> list[Marker]:
    return list(deserialize_message(raw, MarkerArray).markers)


def lines_of(raw: bytes) -> list[Marker]:
    return [marker for marker in read(raw) if marker.type == Marker.LINE_STRIP]


def test_a_box_stands_where_the_object_is_as_large_as_it_is_if_that_is_known() -> None:
    objects = predicted([[0, 2], [0], [], [3, 3]])
    objects.dimensions[0] = 4.5, np.nan, 0.0
    objects.dimensions[3] = 0.8, 0.8, 1.8
    objects.shape_type[3] = 1
    car, pillar = (marker for marker in read(markers(objects, LIFETIME_S, False)) if marker.id == -1)
    assert (car.type, car.scale.x, car.scale.y, car.scale.z) == (Marker.CUBE, 4.5, 0.3, 0.3)
    assert (pillar.type, pillar.scale.x, pillar.scale.z) == (Marker.CYLINDER, 0.8, 1.8)
    assert (car.pose.position.x, car.pose.orientation.w) == (objects.poses[0, 0], objects.poses[0, 6])
    assert (pillar.pose.position.y, pillar.pose.orientation.x) == (objects.poses[2, 1], objects.poses[2, 3])


def test_the_colour_is_that_of_the_most_probable_class() -> None:
    classes = [
        [(Label.PEDESTRIAN, 0.3), (Label.BICYCLE, 0.6), (Label.CAR, 0.1)],
        [(Label.CAR, 0.5), (Label.TRUCK, 0.5)],  # the first of equals
        [],
        [(200, 1.0)],  # a number without a meaning
        [(Label.BUS, np.nan), (Label.PEDESTRIAN, 0.1)],
    ]
    lines = lines_of(markers(predicted([[2]] * 5, classes=classes), LIFETIME_S, False))
    shown = [(line.color.r, line.color.g, line.color.b) for line in lines]
    expected = [Label.BICYCLE, Label.CAR, Label.UNKNOWN, Label.UNKNOWN, Label.PEDESTRIAN]
    np.testing.assert_array_equal(np.array(shown, np.float32), PALETTE[expected])


def test_road_users_differ_in_colour() -> None:
    kinds = [Label.UNKNOWN, Label.CAR, Label.TRUCK, Label.MOTORCYCLE, Label.BICYCLE, Label.PEDESTRIAN]
    assert len({tuple(colour) for colour in PALETTE[kinds].tolist()}) == len(kinds)
    assert PALETTE.shape == (256, 3)
    assert ((PALETTE >= 0) & (PALETTE <= 1)).all()


def test_an_improbable_path_can_still_be_seen_and_nothing_is_more_than_opaque() -> None:
    confidence = [0.0, 0.15, 0.5, 1.0, 1.5, np.nan, -1.0]
    lines = lines_of(markers(predicted([[2] * 7], confidence=confidence), LIFETIME_S, False))
    assert [line.color.a for line in lines] == pytest.approx([0.15, 0.15, 0.5, 1.0, 1.0, 0.15, 0.15])


def test_a_lifetime_is_split_into_seconds_and_nanoseconds() -> None:
    (line,) = lines_of(markers(predicted([[2]]), 2.25, False))
    assert (line.lifetime.sec, line.lifetime.nanosec) == (2, 250_000_000)


def test_a_position_that_is_not_finite_is_passed_on() -> None:
    objects = predicted([[2]])
    objects.poses[1, :2] = np.nan, np.inf
    (line,) = lines_of(markers(objects, LIFETIME_S, False))
    assert np.isnan(line.points[1].x)
    assert line.points[1].y == np.inf


def test_rclpy_reads_what_replay_wrote(tmp_path: Path) -> None:
    log, out = tmp_path / "street.mcap", tmp_path / "out.mcap"
    write_log(demo_scene(seconds=1.0, seed=1), log)
    replay(make_predictor("cv"), log, out)
    answers = [raw for _, _, raw in read_raw(out, msgtype=PREDICTED)]
    drawn = [raw for _, _, raw in read_raw(out, msgtype=MARKERS)]
    assert len(answers) == len(drawn) == 10
    for answer, raw in zip(answers, drawn, strict=True):
        objects = deserialize_message(answer, PredictedObjects).objects
        assert len(objects) > 0
        wipe, *others = read(raw)
        assert (wipe.action, len(others)) == (Marker.DELETEALL, 2 * len(objects))  # a box, a path


def test_a_subscriber_receives_the_lines(stage: Any) -> None:
    objects = predicted([[3, 2], [], [4]])
    received: list[MarkerArray] = []
    stage.node.create_subscription(MarkerArray, "lines", received.append, QoSProfile(depth=1))
    publisher = stage.node.create_publisher(MarkerArray, "lines", QoSProfile(depth=1))
    stage.spin_until(lambda: publisher.get_subscription_count() > 0, what="the subscription")
    publisher.publish(markers(objects, LIFETIME_S, True))
    stage.spin_until(lambda: received, what="the markers")
    assert received[0] == deserialize_message(markers(objects, LIFETIME_S, True), MarkerArray)
