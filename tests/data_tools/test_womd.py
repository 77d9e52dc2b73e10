"""Waymo scenarios from bytes that are written here by hand, field by field."""

import struct

import numpy as np
import pytest

from data_tools.womd import read
from trajpred.errors import InputError
from trajpred.types import Label, ids_from_int


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, value):
    """A float is a double on the wire, ("f", value) a float, bytes a message or a string, an int a varint."""
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    if isinstance(value, tuple):
        return varint(number << 3 | 5) + struct.pack("<f", value[1])
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    return varint(number << 3) + varint(int(value))


def state(x=0.0, y=0.0, heading=0.0, speed=0.0, valid=True):
    numbers = {2: x, 3: y, 4: 7.0}  # 4: the height above ground, which nobody needs
    rest = {5: ("f", 4.0), 6: ("f", 2.0), 7: ("f", 1.5), 8: ("f", heading), 9: ("f", speed), 10: ("f", 0.0)}
    return b"".join(field(n, v) for n, v in {**numbers, **rest, 11: valid}.items())


def track(identity, kind, states):
    return field(1, identity) + field(2, kind) + b"".join(field(3, s) for s in states)


def scenario(tracks, times=(10.0, 10.1002, 10.2003), own=0):
    return (
        b"".join(field(1, t) for t in times)
        + b"".join(field(2, t) for t in tracks)
        + field(5, b"abc")
        + field(6, own)
        + field(8, b"\x08\x01")  # a piece of map
        + field(10, 1)
    )


def framed(*records):
    return b"".join(struct.pack("<Q", len(r)) + bytes(4) + r + bytes(4) for r in records)


TRACKS = (
    track(90, 1, [state()] * 3),
    track(5, 3, [state(1.0, 2.0, 0.5, 3.0), state(valid=False), state(1.6, 2.0, 0.5, 3.0)]),
    track(7, 4, [state(-3.0, 4.0)] * 3),
)


def sample(root):
    """One scenario: a cyclist with a gap and something else; the car itself is track 90."""
    folder = root / "womd_waymo"
    folder.mkdir()
    (folder / "a_scenario.tfrecord").write_bytes(framed(scenario(TRACKS)))
    return folder


def test_tracks_but_the_cars_own(tmp_path):
    (scene,) = read(sample(tmp_path))
    assert scene.name == "abc"
    bike = scene.take(scene.ids == ids_from_int([5])[0])
    np.testing.assert_array_equal(bike.stamp_ns, [0, 200_000_000])
    np.testing.assert_allclose(bike.xy, [[1.0, 2.0], [1.6, 2.0]])
    np.testing.assert_allclose(bike.yaw, 0.5)
    np.testing.assert_allclose(bike.velocity, [[3.0, 0.0]] * 2)
    np.testing.assert_allclose(bike.size, [[4.0, 2.0, 1.5]] * 2)
    assert set(bike.label.tolist()) == {Label.BICYCLE}
    other = scene.take(scene.ids != ids_from_int([5])[0])
    assert set(other.label.tolist()) == {Label.UNKNOWN}
    assert len(other) == 3


def test_several_records_in_a_file(tmp_path):
    file = tmp_path / "x.tfrecord-00000-of-00001"
    file.write_bytes(framed(scenario(TRACKS), scenario(TRACKS)))
    assert len(list(read(file))) == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (framed(scenario(TRACKS))[:-20], "record 0 is cut off"),
        (framed(scenario(TRACKS)) + b"\x01", "record 1 is cut off"),
        (framed(b"\xff\xff\xff"), "record 0: not a Scenario"),
        (framed(field(9, b"something else")), "record 0: not a Scenario"),
        (framed(scenario(TRACKS, times=(10.0, 10.1, 10.3))), "step 2 is 0.100 s off"),
        (framed(scenario([track(1, 1, [state()] * 2)], own=5)), "track 1 has 2 states of 3 steps"),
        (
            framed(scenario([track(1, 1, [state(np.nan)] * 3)], own=5)),
            "record 0: abc: row 0: the position",
        ),
    ],
)
def test_what_is_not_a_scenario_is_named(tmp_path, content, says):
    file = tmp_path / "bad.tfrecord"
    file.write_bytes(content)
    with pytest.raises(InputError, match=says) as caught:
        list(read(file))
    assert str(file) in str(caught.value)
