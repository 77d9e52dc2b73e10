import numpy as np
import pytest

from data_tools.convert import write_log
from data_tools.rosbag2 import read
from trajpred.bags import LogWriter
from trajpred.errors import InputError
from trajpred.messages import TRACKED, encode_tracked
from trajpred.types import Label, Scene, TrackFrame, ids_from_int


def frame(number, ids=(1, 2), x=0.0, **kwargs):
    return TrackFrame.build(number * 10**8, ids_from_int(ids), np.full((len(ids), 2), x), **kwargs)


def log_of(path, *frames, topics=("/objects",)):
    with LogWriter(path) as log:
        for topic in topics:
            log.add_topic(topic, TRACKED)
            for number, one in enumerate(frames):
                raw = one if isinstance(one, bytes) else encode_tracked(one)
                log.write(topic, number, raw)
    return path


@pytest.mark.parametrize("name", ["drive.mcap", "drive.db3", "drive"])
def test_a_scene_survives_the_log(tmp_path, name):
    scene = Scene.build(
        "drive",
        [0, 0, 5, 7 * 10**9],
        ids_from_int([1, 2, 1, 300]),
        [[0.1, 0.2], [1, 2], [3, 4], [5, 6]],
        label=[Label.CAR, Label.PEDESTRIAN, Label.CAR, Label.UNKNOWN],
        yaw=[0.5, np.nan, -3.0, 1.0],
        velocity=[[1, 2], [3, 4], [np.nan, 0], [np.nan, 0]],
        size=[[4, 2, 1], [np.nan] * 3, [4, 2, 1], [1, 1, 1]],
        frame_id="odom",
    )
    write_log(scene, tmp_path / name)
    (back,) = read(tmp_path / name)
    assert (back.name, back.frame_id) == ("drive", "odom")
    for column in (
        "stamp_ns",
        "ids",
        "label",
        "xy",
        "size",
        "yaw_valid",
        "velocity_valid",
        "size_valid",
    ):
        np.testing.assert_array_equal(getattr(back, column), getattr(scene, column), err_msg=column)
    np.testing.assert_allclose(back.yaw, scene.yaw, atol=1e-12)
    np.testing.assert_allclose(back.velocity, np.where(scene.velocity_valid[:, None], scene.velocity, 0))


def test_stamps_are_those_of_the_headers_in_any_order(tmp_path):
    (scene,) = read(log_of(tmp_path / "log.mcap", frame(3), frame(1), frame(2, ids=())))
    np.testing.assert_array_equal(scene.stamp_ns, [10**8, 10**8, 3 * 10**8, 3 * 10**8])


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ((frame(0), b"\0\1\0\0junk"), "message 1: not the bytes"),
        ((frame(0), frame(1, x=np.nan)), "message 1: object 0: the position is not finite"),
        ((frame(0), frame(1, frame_id="odom")), "message 1: the frame changes from 'map' to 'odom'"),
        ((frame(0), frame(1, ids=(4, 5, 4))), "message 1: a second row for one track"),
        ((frame(0), frame(1), frame(2), frame(1)), "message 3: a second row for one track"),
        ((frame(0, ids=()),), "no object in any of its 1 messages"),
        ((), "no object in any of its 0 messages"),
    ],
)
def test_what_cannot_be_scored_is_named(tmp_path, frames, complaint):
    path = log_of(tmp_path / "log.mcap", *frames)
    with pytest.raises(InputError, match=rf"log\.mcap: {complaint}"):
        list(read(path))


def test_a_topic_can_be_named(tmp_path):
    path = log_of(tmp_path / "log.mcap", frame(0), topics=("/a", "/b"))
    with pytest.raises(InputError, match="several topics"):
        list(read(path))
    assert len(next(read(path, "/b"))) == 2
