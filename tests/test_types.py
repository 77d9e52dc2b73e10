"""The words of the house: ids, labels, frames and scenes, their checks at the boundary."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import trajpred
from trajpred.errors import InputError
from trajpred.types import (
    Label,
    Scene,
    Source,
    TrackFrame,
    bytes_from_ids,
    ids_from_bytes,
    ids_from_int,
)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=20))
def test_an_integer_id_is_sixteen_bytes_big_endian(numbers):
    ids = ids_from_int(numbers)
    assert ids.shape == (len(numbers),)
    assert [row.tobytes() for row in bytes_from_ids(ids)] == [n.to_bytes(16, "big") for n in numbers]


@given(st.lists(st.binary(min_size=16, max_size=16), max_size=20))
def test_a_uuid_survives_the_way_to_an_id_and_back(uuids):
    raw = np.frombuffer(b"".join(uuids), np.uint8).reshape(-1, 16)
    ids = ids_from_bytes(raw)
    assert ids.shape == (len(uuids),)
    np.testing.assert_array_equal(bytes_from_ids(ids), raw)


@given(st.lists(st.binary(min_size=16, max_size=16), min_size=2, max_size=20))
def test_ids_order_and_compare_as_their_bytes_do(uuids):
    # The store finds tracks by binary search: neither trailing zeros nor bytes above 127 may confuse it.
    ids = ids_from_bytes(np.frombuffer(b"".join(uuids), np.uint8).reshape(-1, 16))
    assert [r.tobytes() for r in bytes_from_ids(np.sort(ids))] == sorted(uuids)
    assert len(np.unique(ids)) == len(set(uuids))


def test_ids_that_are_not_contiguous_in_memory_are_read_rightly():
    wide = np.arange(64, dtype=np.uint8).reshape(2, 32)
    np.testing.assert_array_equal(bytes_from_ids(ids_from_bytes(wide[:, ::2])), wide[:, ::2])
    ids = ids_from_int(range(6))
    np.testing.assert_array_equal(bytes_from_ids(ids[::2])[:, 15], [0, 2, 4])


def test_ids_from_rows_that_are_not_sixteen_bytes_wide_are_refused():
    with pytest.raises((InputError, ValueError)):
        ids_from_bytes(np.zeros((2, 8), np.uint8))


def test_labels_are_those_of_the_message_definition():
    folder = Path(trajpred.__file__).parent / "interfaces" / "autoware_perception_msgs" / "msg"
    text = (folder / "ObjectClassification.msg").read_text()
    named = {name: int(value) for name, value in re.findall(r"^uint8 (\w+)\s*=\s*(\d+)", text, re.MULTILINE)}
    assert {label.name: label.value for label in Label} == named


def test_source_puts_the_answers_as_asked_for_first():
    assert Source.MODEL == 0
    assert Source.BASELINE == 1
    assert len({int(s) for s in Source}) == len(Source)


def test_a_frame_masks_what_is_not_given():
    frame = TrackFrame.build(5, ids_from_int([7, 8]), [[1.0, 2.0], [3.0, 4.0]])
    assert len(frame) == 2
    assert frame.stamp_ns == 5
    assert frame.frame_id == "map"
    for mask in (frame.yaw_valid, frame.velocity_valid, frame.size_valid):
        assert mask.tolist() == [False, False]
    for values in (frame.yaw, frame.velocity, frame.size):
        assert np.isfinite(values).all()
    assert frame.group.tolist() == [0, 0]
    assert frame.label.tolist() == [Label.UNKNOWN] * 2


def test_a_frame_holds_what_is_given():
    frame = TrackFrame.build(
        5,
        ids_from_int([7, 8]),
        [[1, 2], [3, 4]],
        label=[Label.CAR, Label.BUS],
        yaw=[0.1, 0.2],
        velocity=[[1, 0], [0, 1]],
        size=[[4, 2, 1], [9, 3, 3]],
        group=[3, 4],
        frame_id="odom",
    )
    assert frame.label.tolist() == [1, 3]
    assert frame.yaw.tolist() == [0.1, 0.2]
    assert frame.velocity.tolist() == [[1, 0], [0, 1]]
    assert frame.size.tolist() == [[4, 2, 1], [9, 3, 3]]
    assert frame.group.tolist() == [3, 4]
    assert frame.frame_id == "odom"
    assert frame.yaw_valid.all()
    assert frame.velocity_valid.all()
    assert frame.size_valid.all()


@pytest.mark.parametrize(
    "scalar", [{"label": Label.CAR}, {"group": 4}, {"yaw": 0.5}], ids=lambda known: next(iter(known))
)
def test_a_frame_repeats_a_scalar_for_every_agent(scalar):
    (name, value), *_ = scalar.items()
    frame = TrackFrame.build(0, ids_from_int([1, 2]), np.zeros((2, 2)), **scalar)
    assert getattr(frame, name).tolist() == [value, value]


def test_a_frame_may_be_empty():
    assert len(TrackFrame.build(0, ids_from_int([]), np.zeros((0, 2)))) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"xy": np.zeros((2, 2))},
        {"xy": np.zeros((3, 3))},
        {"label": np.zeros(2, np.uint8)},
        {"yaw": np.zeros(2)},
        {"velocity": np.zeros((3, 3))},
        {"size": np.zeros((3, 2))},
        {"group": np.zeros(2, np.int64)},
    ],
    ids=lambda wrong: f"{next(iter(wrong))}{next(iter(wrong.values())).shape}",
)
def test_a_frame_of_the_wrong_shape_is_an_input_error(wrong):
    with pytest.raises(InputError):
        TrackFrame.build(0, ids_from_int([1, 2, 3]), **{"xy": np.zeros((3, 2)), **wrong})


def test_positions_with_their_axes_swapped_are_refused_not_scrambled():
    with pytest.raises(InputError):
        TrackFrame.build(0, ids_from_int([1, 2, 3]), np.arange(6.0).reshape(2, 3))


def test_a_frame_made_by_hand_is_checked_too():
    n = 2
    known = {
        "stamp_ns": 0,
        "frame_id": "map",
        "ids": ids_from_int([1, 2]),
        "label": np.zeros(n, np.uint8),
        "xy": np.zeros((n, 2)),
        "yaw": np.zeros(n),
        "yaw_valid": np.zeros(n, bool),
        "velocity": np.zeros((n, 2)),
        "velocity_valid": np.zeros(n, bool),
        "size": np.zeros((n, 3)),
        "size_valid": np.zeros(n, bool),
        "group": np.zeros(n, np.int64),
    }
    assert len(TrackFrame(**known)) == n
    with pytest.raises(InputError, match="velocity_valid"):
        TrackFrame(**{**known, "velocity_valid": np.zeros(3, bool)})
    with pytest.raises(FrozenInstanceError):
        TrackFrame(**known).stamp_ns = 3


def test_a_scene_sorts_its_rows_by_time_and_then_by_id():
    scene = Scene.build(
        "s",
        [20, 10, 20, 10],
        ids_from_int([1, 9, 0, 2]),
        [[1, 0], [2, 0], [3, 0], [4, 0]],
        label=[1, 2, 3, 4],
        yaw=[0.1, 0.2, 0.3, 0.4],
        velocity=[[1, 1], [2, 2], [3, 3], [4, 4]],
        size=[[1, 1, 1], [2, 2, 2], [3, 3, 3], [4, 4, 4]],
    )
    assert scene.stamp_ns.tolist() == [10, 10, 20, 20]
    assert bytes_from_ids(scene.ids)[:, 15].tolist() == [2, 9, 0, 1]
    assert scene.xy[:, 0].tolist() == [4, 2, 3, 1]
    assert scene.label.tolist() == [4, 2, 3, 1]
    assert scene.yaw.tolist() == [0.4, 0.2, 0.3, 0.1]
    assert scene.velocity[:, 0].tolist() == [4, 2, 3, 1]
    assert scene.size[:, 0].tolist() == [4, 2, 3, 1]


def test_a_scene_masks_what_is_unknown_and_keeps_it_finite():
    scene = Scene.build(
        "s",
        [0, 1, 2],
        ids_from_int([1, 1, 1]),
        np.zeros((3, 2)),
        yaw=[0.5, np.nan, 0.7],
        yaw_valid=[True, True, False],
        velocity=[[1.0, np.inf], [1.0, 0.0], [np.nan, np.nan]],
    )
    assert scene.yaw_valid.tolist() == [True, False, False]
    assert scene.velocity_valid.tolist() == [False, True, False]
    assert scene.size_valid.tolist() == [False] * 3
    for values in (scene.yaw, scene.velocity, scene.size):
        assert np.isfinite(values).all()


def test_a_scene_repeats_scalars():
    scene = Scene.build("s", [0, 1], ids_from_int([1, 1]), np.zeros((2, 2)), label=7, yaw=0.5, size=[4, 2, 1])
    assert scene.label.tolist() == [7, 7]
    assert scene.yaw.tolist() == [0.5, 0.5]
    assert scene.size.tolist() == [[4, 2, 1]] * 2


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_scene_with_a_position_that_is_not_finite_names_itself_and_the_row(bad):
    with pytest.raises(InputError, match=r"plaza.*row 2"):
        Scene.build("plaza", [5, 4, 3], ids_from_int([1, 1, 1]), [[0, 0], [0, 0], [0, bad]])


def test_a_scene_with_a_track_twice_at_one_stamp_names_itself_and_the_second_row():
    with pytest.raises(InputError, match=r"plaza.*row 3"):
        Scene.build("plaza", [5, 4, 3, 5], ids_from_int([1, 1, 1, 1]), np.zeros((4, 2)))
    with pytest.raises(InputError, match=r"plaza.*row 1"):
        Scene.build("plaza", [5, 5, 0], ids_from_int([0, 0, 0]), np.zeros((3, 2)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"ids": ids_from_int([1, 2])},
        {"xy": np.zeros((2, 2))},
        {"label": np.zeros(2, np.uint8)},
        {"yaw": np.zeros(2)},
        {"yaw": np.zeros(3), "yaw_valid": np.zeros(2, bool)},
        {"size": np.zeros((3, 2))},
    ],
    ids=lambda wrong: "-".join(wrong),
)
def test_a_scene_of_the_wrong_shape_is_an_input_error(wrong):
    with pytest.raises(InputError):
        Scene.build("s", [0, 1, 2], **{"ids": ids_from_int([1, 2, 3]), "xy": np.zeros((3, 2)), **wrong})


def test_taking_rows_keeps_what_belongs_to_the_whole_scene():
    scene = Scene.build(
        "s",
        [0, 1, 2],
        ids_from_int([1, 2, 3]),
        [[0, 0], [1, 1], [2, 2]],
        frame_id="world",
        m_per_px=0.04,
    )
    for rows in ([0, 2], np.array([True, False, True])):
        part = scene.take(rows)
        assert (part.name, part.frame_id, part.m_per_px) == ("s", "world", 0.04)
        assert part.stamp_ns.tolist() == [0, 2]
        assert part.xy.tolist() == [[0, 0], [2, 2]]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=15, unique=True))
def test_the_frames_of_a_scene_hold_every_row_once_in_order_of_time(rows):
    stamps, numbers = zip(*rows, strict=True)
    xy = np.arange(2.0 * len(rows)).reshape(-1, 2)
    scene = Scene.build("s", stamps, ids_from_int(numbers), xy, frame_id="world")
    frames = list(scene.frames())
    assert [f.stamp_ns for f in frames] == sorted(set(stamps))
    assert {f.frame_id for f in frames} == {"world"}
    seen = {
        (f.stamp_ns, int(uuid[15])): tuple(at)
        for f in frames
        for uuid, at in zip(bytes_from_ids(f.ids), f.xy.tolist(), strict=True)
    }
    assert seen == {row: tuple(at) for row, at in zip(rows, xy.tolist(), strict=True)}
    assert sum(len(f) for f in frames) == len(rows)
    assert not any(f.group.any() for f in frames)


def test_an_empty_scene_has_no_frames():
    scene = Scene.build("s", [], ids_from_int([]), np.zeros((0, 2)))
    assert len(scene) == 0
    assert list(scene.frames()) == []


def test_an_empty_scene_may_have_known_columns():
    scene = Scene.build("s", [], ids_from_int([]), np.zeros((0, 2)), yaw=[], velocity=np.zeros((0, 2)))
    assert len(scene) == 0
