"""TrackedObjects: read and written as the interface has them; what is broken in them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.message_bytes import (
    AVAILABLE,
    SIGN_UNKNOWN,
    UNAVAILABLE,
    UUID,
    header,
    prediction_for,
    put_shape,
    put_state,
    tracked,
    yaw_quaternion,
)
from trajpred import cdr
from trajpred.bags import typestore
from trajpred.config import OutputConfig
from trajpred.errors import InputError
from trajpred.messages import (
    decode_predicted,
    decode_tracked,
    encode_predicted,
    encode_tracked,
)
from trajpred.types import Label, TrackFrame, ids_from_bytes, ids_from_int


def test_interface_has_the_fields_of_autoware():
    """Names, types and order as in autoware_msgs, autoware_perception_msgs/msg."""
    expected = {
        "ObjectClassification": "uint8 label, float32 probability",
        "Shape": "uint8 type, geometry_msgs/Polygon footprint, geometry_msgs/Vector3 dimensions",
        "TrackedObjectKinematics": "geometry_msgs/PoseWithCovariance pose_with_covariance, "
        "geometry_msgs/TwistWithCovariance twist_with_covariance, "
        "geometry_msgs/AccelWithCovariance acceleration_with_covariance, "
        "uint8 orientation_availability, bool is_stationary",
        "TrackedObject": "unique_identifier_msgs/UUID object_id, float32 existence_probability, "
        "ObjectClassification[] classification, TrackedObjectKinematics kinematics, Shape shape",
        "TrackedObjects": "std_msgs/Header header, TrackedObject[] objects",
        "PredictedPath": "geometry_msgs/Pose[] path, builtin_interfaces/Duration time_step, "
        "float32 confidence",
        "PredictedObjectKinematics": "geometry_msgs/PoseWithCovariance initial_pose_with_covariance, "
        "geometry_msgs/TwistWithCovariance initial_twist_with_covariance, "
        "geometry_msgs/AccelWithCovariance initial_acceleration_with_covariance, "
        "PredictedPath[] predicted_paths",
        "PredictedObject": "unique_identifier_msgs/UUID object_id, float32 existence_probability, "
        "ObjectClassification[] classification, PredictedObjectKinematics kinematics, Shape shape",
        "PredictedObjects": "std_msgs/Header header, PredictedObject[] objects",
    }
    for name, fields in expected.items():
        text = typestore().generate_msgdef(f"autoware_perception_msgs/msg/{name}", ros_version=2)[0]
        own = text.split("=" * 80)[0].replace("autoware_perception_msgs/", "")
        assert [line for line in own.strip().split("\n") if "=" not in line] == fields.split(", "), name


def test_label_numbers_are_those_of_the_interface():
    constants = typestore().fielddefs["autoware_perception_msgs/msg/ObjectClassification"][0]
    assert {name: value for name, _, value in constants} == {label.name: label.value for label in Label}


def test_decode_reads_every_field():
    raw = tracked(
        classes=((Label.CAR, 0.2), (Label.BICYCLE, 0.7)),
        orientation=yaw_quaternion(90),
        twist=(3.0, 1.0),
    )
    frame, _ = decode_tracked(raw)
    assert frame.stamp_ns == 1_700_000_000_250
    assert frame.frame_id == "map"
    assert frame.ids[0] == UUID
    assert frame.label[0] == Label.BICYCLE
    np.testing.assert_array_equal(frame.xy, [[1.0, 2.0]])
    assert frame.yaw_valid[0]
    assert frame.yaw[0] == pytest.approx(np.pi / 2)
    assert frame.velocity_valid[0]
    np.testing.assert_allclose(frame.velocity, [[-1.0, 3.0]])
    assert frame.size_valid[0]
    np.testing.assert_array_equal(frame.size, [[4.0, 2.0, 1.5]])


def test_encode_tracked_writes_the_bytes_of_the_interface():
    frame = TrackFrame.build(
        1_700_000_000_250,
        ids_from_bytes(np.frombuffer(UUID, np.uint8)),
        [[1.0, 2.0]],
        label=Label.BUS,
        yaw=[np.pi / 2],
        velocity=[[-1.0, 3.0]],
        size=[[4.0, 2.0, 1.5]],
    )
    expected = header(1).raw(UUID).put("f", 1.0).put("I", 1).put("B", Label.BUS).put("f", 1.0)
    expected.put("d", 1.0, 2.0, 0.0, *yaw_quaternion(90), *[0.0] * 36)
    twist_at = len(expected.body) + 4
    expected.put("d", 3.0, 1.0, *[0.0] * 4, *[0.0] * 36, *[0.0] * 6, *[0.0] * 36)
    put_shape(expected.put("B", AVAILABLE, 0), 0, (4.0, 2.0, 1.5))
    raw, wanted = encode_tracked(frame), expected.bytes()
    # The twist went through a rotation: the same to rounding.
    np.testing.assert_allclose(struct.unpack_from("<2d", raw, twist_at), (3.0, 1.0))
    assert raw[:twist_at] + raw[twist_at + 16 :] == wanted[:twist_at] + wanted[twist_at + 16 :]


def test_what_is_unknown_is_marked_and_comes_back_unknown():
    frame = TrackFrame.build(5, ids_from_int([1, 2]), [[1.0, 2.0], [np.nan, 4.0]])
    back, arrays = decode_tracked(encode_tracked(frame))
    assert arrays.availability[0] == UNAVAILABLE
    np.testing.assert_array_equal(arrays.state[0, cdr.ORIENTATION], [0.0, 0.0, 0.0, 1.0])
    assert np.isnan(arrays.state[0, cdr.TWIST][:2]).all()
    np.testing.assert_array_equal(back.xy, frame.xy)
    assert not (back.yaw_valid.any() or back.velocity_valid.any() or back.size_valid.any())


unit = st.floats(-1e4, 1e4)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.binary(min_size=16, max_size=16),
            st.sampled_from(Label),
            st.tuples(unit, unit),
            st.none() | st.floats(-3.1, 3.1),
            st.none() | st.tuples(unit, unit),
            st.none() | st.tuples(*[st.floats(0.1, 30)] * 3),
        ),
        max_size=4,
    ),
    st.integers(0, 2**31 * 10**9 - 1),
)
def test_a_frame_survives_the_message(rows, stamp_ns):
    def column(index, blank):
        values = np.array([blank if row[index] is None else row[index] for row in rows], float)
        known = np.array([row[index] is not None for row in rows], bool)
        return values.reshape(len(rows), *np.shape(blank)), known

    (yaw, yaw_valid), (velocity, velocity_valid) = column(3, 0.0), column(4, (0.0, 0.0))
    size, size_valid = column(5, (0.0, 0.0, 0.0))
    frame = TrackFrame(
        stamp_ns=stamp_ns,
        frame_id="map",
        ids=np.array([row[0] for row in rows], "S16"),
        label=np.array([row[1] for row in rows], np.uint8),
        xy=np.array([row[2] for row in rows], float).reshape(-1, 2),
        yaw=yaw,
        yaw_valid=yaw_valid,
        velocity=velocity,
        velocity_valid=velocity_valid,
        size=size,
        size_valid=size_valid,
        group=np.zeros(len(rows), np.int64),
    )
    back, _ = decode_tracked(encode_tracked(frame))
    assert (back.stamp_ns, back.frame_id) == (stamp_ns, "map")
    for name in ("ids", "label", "xy", "yaw_valid", "velocity_valid", "size", "size_valid"):
        np.testing.assert_array_equal(getattr(back, name), getattr(frame, name), err_msg=name)
    np.testing.assert_allclose(back.yaw, frame.yaw, atol=1e-12)
    np.testing.assert_allclose(back.velocity, frame.velocity, atol=1e-9)


@pytest.mark.parametrize(("twist", "yaw_deg"), [((2.0, 1.0), 30), ((-2.0, 1.0), -150)])
def test_sign_unknown_turns_round_what_would_drive_backwards(twist, yaw_deg):
    raw = tracked(orientation=yaw_quaternion(30), twist=twist, availability=SIGN_UNKNOWN)
    frame, _ = decode_tracked(raw)
    assert frame.yaw_valid[0]
    assert np.degrees(frame.yaw[0]) == pytest.approx(yaw_deg)
    c, s = np.cos(np.pi / 6), np.sin(np.pi / 6)
    np.testing.assert_allclose(frame.velocity[0], [c * twist[0] - s * twist[1], s * twist[0] + c * twist[1]])


def test_available_orientation_may_drive_backwards():
    frame, _ = decode_tracked(tracked(orientation=yaw_quaternion(0), twist=(-2.0, 0.0)))
    assert frame.yaw[0] == 0.0
    np.testing.assert_allclose(frame.velocity, [[-2.0, 0.0]])


def test_unavailable_orientation_still_turns_the_twist():
    frame, _ = decode_tracked(tracked(orientation=yaw_quaternion(90), availability=UNAVAILABLE))
    assert not frame.yaw_valid[0]
    np.testing.assert_allclose(frame.velocity, [[0.0, 1.0]], atol=1e-15)


def test_empty_orientation_is_a_frame_along_the_map():
    frame, _ = decode_tracked(tracked(orientation=(0.0, 0.0, 0.0, 0.0)))
    assert not frame.yaw_valid[0]
    np.testing.assert_array_equal(frame.velocity, [[1.0, 0.0]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_broken_orientation_leaves_yaw_and_velocity_unknown(bad):
    frame, _ = decode_tracked(tracked(orientation=(0.0, 0.0, bad, 1.0)))
    assert not frame.yaw_valid[0]
    assert not frame.velocity_valid[0]
    assert np.isfinite(frame.yaw).all()
    assert np.isfinite(frame.velocity).all()


@pytest.mark.parametrize("twist", [(np.nan, 0.0), (0.0, np.inf), (1e300, 0.0)])
def test_broken_twist_leaves_the_velocity_unknown(twist):
    frame, _ = decode_tracked(tracked(twist=twist))
    assert frame.yaw_valid[0]
    assert not frame.velocity_valid[0]
    np.testing.assert_array_equal(frame.velocity, [[0.0, 0.0]])


@pytest.mark.parametrize(
    ("classes", "label"),
    [
        ((), Label.UNKNOWN),
        (((99, 0.9), (Label.CAR, 0.1)), Label.UNKNOWN),
        (((Label.CAR, float("nan")), (Label.BUS, 0.1)), Label.BUS),
        (((Label.CAR, 0.5), (Label.BUS, 0.5)), Label.CAR),
    ],
)
def test_label_is_the_most_probable_class_that_means_something(classes, label):
    assert decode_tracked(tracked(classes=classes))[0].label[0] == label


def test_labels_of_objects_with_equally_many_classes_and_with_others():
    bus, bicycle = ((Label.CAR, 0.2), (Label.BUS, 0.5)), ((Label.BICYCLE, 0.5), (Label.CAR, np.nan))
    nothing = ((Label.CAR, np.nan), (Label.BUS, np.nan))
    for many, labels in (
        ((bus, bicycle, nothing), [Label.BUS, Label.BICYCLE, Label.UNKNOWN]),
        ((bus, (), bicycle, nothing), [Label.BUS, Label.UNKNOWN, Label.BICYCLE, Label.UNKNOWN]),
    ):
        raw = header(len(many))
        for classes in many:
            put_state(raw, classes, (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0), (1.0, 0.0)).put("B", AVAILABLE, 0)
            put_shape(raw, 0, (4.0, 2.0, 1.5))
        assert decode_tracked(raw.bytes())[0].label.tolist() == labels


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((1, (0.6, 0.6, 1.8)), True),
        ((0, (0.0, 0.6, 1.8)), False),
        ((0, (np.nan, 0.6, 1.8)), False),
        ((2, (1.0, 1.0, 1.8), [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 1.0, 0.0)]), False),
    ],
)
def test_size_is_known_for_solid_boxes_and_cylinders(shape, known):
    assert decode_tracked(tracked(shape=shape))[0].size_valid[0] == known


def test_a_message_without_objects():
    raw = header(0).bytes()
    frame, nobody = decode_tracked(raw)
    assert len(frame) == 0
    prediction = prediction_for(frame, np.zeros((0, 2, 3, 2)), 0.5)
    assert encode_predicted(nobody, prediction, OutputConfig()) == raw
    back, _ = decode_predicted(raw)
    assert (len(back), back.stamp_ns, back.frame_id) == (0, frame.stamp_ns, "map")


@pytest.mark.parametrize("end", [0, 3, 4, 10, 40, 500, -1])
def test_truncated_bytes_are_an_input_error(end):
    with pytest.raises(InputError, match="TrackedObjects"):
        decode_tracked(tracked()[:end])


@settings(max_examples=200)
@given(st.data())
def test_damaged_bytes_are_an_input_error_or_a_frame(data):
    raw = bytearray(tracked(shape=(2, (1.0, 1.0, 1.8), [(0.0, 0.0, 0.0)])))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        frame, _ = decode_tracked(bytes(raw))
    except InputError:
        return
    assert np.isfinite(frame.yaw).all()
    assert np.isfinite(frame.velocity).all()


def test_a_stamp_that_no_header_holds_is_an_input_error():
    with pytest.raises(InputError, match="stamp"):
        encode_tracked(TrackFrame.build(2**62, ids_from_int([1]), [[0.0, 0.0]]))
