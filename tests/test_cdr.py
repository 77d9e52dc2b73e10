"""The wire format against rosbags' serializer, which knows nothing of ours, and against bad bytes."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.perception import build, check_arrays, messages
from trajpred import cdr
from trajpred.bags import typestore
from trajpred.cdr import read_predicted, read_tracked, write_predicted, write_tracked
from trajpred.errors import InputError

KINDS = {"Tracked": (read_tracked, write_tracked), "Predicted": (read_predicted, write_predicted)}
kinds = pytest.mark.parametrize("kind", KINDS)


def new(name, **values):
    package, short = name.split("/")
    return typestore().types[f"{package}/msg/{short}"](**values)


def serialized(kind, message, little_endian=True):
    made = build(kind, new, message)
    return bytes(typestore().serialize_cdr(made, made.__msgtype__, little_endian=little_endian))


MIXED, ALIKE = (0, 1, 2), (2, 2, 2)
samples = pytest.mark.parametrize("numbers", [MIXED, ALIKE])


def sample(kind, numbers=MIXED):
    """A message of objects with a bit of everything: so many classes, points, paths, and poses in each."""

    def one(number):
        return {
            "uuid": list(range(number, number + 16)),
            "existence": 0.5,
            "classes": [(1, 0.25), (7, 0.5)][:number],
            "state": (np.arange(1, 128) / 3).tolist(),
            "availability": 2,
            "stationary": True,
            "paths": [
                {"poses": [[1.0] * 7] * poses, "sec": 0, "nanosec": 5 * 10**8, "confidence": 0.5}
                for poses in range(number)
            ],
            "shape_type": 2,
            "points": [[1.0, 2.0, 3.0]] * number,
            "dimensions": [4.0, 2.0, 1.5],
        }

    message = {"sec": 17, "nanosec": 25, "frame_id": "map", "objects": [one(n) for n in numbers]}
    return serialized(kind, message)


def assert_same(left, right):
    for f in fields(left):
        a, b = getattr(left, f.name), getattr(right, f.name)
        np.testing.assert_array_equal(a, b, err_msg=f.name)
        if isinstance(b, np.ndarray):
            assert a.dtype == b.dtype, f.name


@kinds
@settings(max_examples=60)
@given(message=messages)
def test_any_message_in_both_byte_orders_is_read_and_written_as_another_serializer_does(kind, message):
    read, write = KINDS[kind]
    little, big = serialized(kind, message), serialized(kind, message, little_endian=False)
    arrays = read(little)
    check_arrays(kind, arrays, message)
    assert_same(read(big), arrays)
    assert write(arrays) == little
    assert write(arrays, big_endian=True) == big
    assert_same(read(write(arrays)), arrays)


@kinds
def test_many_alike_objects_are_read_like_few(kind):
    read, write = KINDS[kind]
    objects = build(kind, new, {"sec": 0, "nanosec": 0, "frame_id": "map", "objects": []})
    three = typestore().deserialize_cdr(sample(kind), objects.__msgtype__).objects
    for order in ([2, 2, 2, 2, 1], [0, 1, 1, 1, 2, 1, 1], [1] * 9, [2, 0]):
        objects.objects = [three[number] for number in order]
        raw = bytes(typestore().serialize_cdr(objects, objects.__msgtype__))
        arrays = read(raw)
        np.testing.assert_array_equal(np.diff(arrays.class_start), order)
        np.testing.assert_array_equal(np.diff(arrays.point_start), order)
        np.testing.assert_array_equal(arrays.dimensions, [[4.0, 2.0, 1.5]] * len(order))
        assert write(arrays) == raw


@kinds
@samples
@pytest.mark.parametrize("form", [bytes, bytearray, memoryview, lambda raw: memoryview(b"x" + raw)[1:]])
def test_bytes_may_come_in_any_buffer(kind, numbers, form):
    read, write = KINDS[kind]
    assert write(read(form(sample(kind, numbers)))) == sample(kind, numbers)


@kinds
@samples
def test_what_is_read_does_not_change_with_the_buffer(kind, numbers):
    read, write = KINDS[kind]
    raw = bytearray(sample(kind, numbers))
    arrays = read(raw)
    raw[:] = bytes(len(raw))
    assert write(arrays) == sample(kind, numbers)


@kinds
@samples
def test_filling_behind_the_message_is_allowed_up_to_seven_bytes(kind, numbers):
    read, write = KINDS[kind]
    for count in range(8):
        assert write(read(sample(kind, numbers) + b"\xaa" * count)) == sample(kind, numbers)
    with pytest.raises(InputError, match=f"byte {len(sample(kind, numbers))} of .*: 8 bytes too many"):
        read(sample(kind, numbers) + bytes(8))


@kinds
@samples
def test_a_message_cut_off_anywhere_is_an_input_error(kind, numbers):
    read, _ = KINDS[kind]
    raw = sample(kind, numbers)
    for end in range(len(raw)):
        with pytest.raises(InputError, match=f"not the bytes of autoware_perception_msgs/msg/{kind}Objects"):
            read(raw[:end])


@kinds
def test_a_message_without_objects(kind):
    read, write = KINDS[kind]
    raw = b"\0\1\0\0" + struct.pack("<iII", -1, 999_999_999, 1) + b"\0\0\0\0" + struct.pack("<I", 0)
    arrays = read(raw)
    assert (arrays.stamp_ns, arrays.frame_id, len(arrays)) == (-1, "", 0)
    assert write(arrays) == raw


def header(name, length=None, count=0, nanosec=0, sec=0):
    """A message without objects (but it says `count`) whose frame_id is these bytes."""
    raw = struct.pack("<iII", sec, nanosec, len(name) if length is None else length) + name
    return b"\0\1\0\0" + raw + bytes(-len(raw) % 4) + struct.pack("<I", count)


@kinds
@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "they begin with nothing"),
        (b"\0\1\0", "they begin with 00 01 00"),
        (b"\0\3\0\0" + bytes(16), "they begin with 00 03 00 00"),
        (b"\1\1\0\0" + bytes(16), "they begin with 01 01 00 00"),
        (header(b"map\0", length=2**32 - 1), "byte 12 of .*frame_id of 4294967295 bytes, but 8 are left"),
        (header(b"map"), "does not end with its one zero"),
        (header(b"m\0p\0"), "does not end with its one zero"),
        (header(b"\xff\xfe\0"), "is not UTF-8"),
        (header(b"map\0", count=2**32 - 1), "byte 20 of 24: 4294967295 objects, but 0 bytes are left"),
        (header(b"map\0", nanosec=2**31, sec=2**31 - 1), "beyond the 32 bit seconds"),
    ],
)
def test_what_is_wrong_with_a_header_is_said(kind, raw, complaint):
    with pytest.raises(InputError, match=complaint):
        KINDS[kind][0](raw)


@kinds
def test_an_empty_frame_id_may_lack_its_zero(kind):
    """The serializers of some vendors leave it out."""
    assert KINDS[kind][0](header(b"")).frame_id == ""


@kinds
def test_nanoseconds_above_a_second_are_carried(kind):
    assert KINDS[kind][0](header(b"map\0", nanosec=2_500_000_000, sec=1)).stamp_ns == 3_500_000_000


@samples
def test_is_stationary_is_zero_or_one(numbers):
    raw = bytearray(sample("Tracked", numbers))
    # From the end: dimensions, two points, their number, a byte of padding, the type.
    place = len(raw) - 24 - 24 - 4 - 2 - 1
    assert raw[place] == 1
    raw[place] = 2
    with pytest.raises(InputError, match=f"byte {place} of {len(raw)}: object 2: is_stationary is 2"):
        read_tracked(raw)


@kinds
def test_a_length_that_does_not_fit_is_named(kind):
    """Of the first object, which has nothing that repeats: one behind its existence, one behind its state."""
    raw = bytearray(sample(kind))
    first = 4 + 12 + 4 + 4
    behind = first + 20 + 4 + 4 + 1016  # four of padding before the state
    last = (behind + 4, "footprint points") if kind == "Tracked" else (behind, "paths")
    for place, what in ((first + 20, "classes"), last):
        broken = raw.copy()
        broken[place : place + 4] = b"\xff\xff\xff\x7f"
        with pytest.raises(InputError, match=f"byte {place} of .*: object 0: 2147483647 {what}, but"):
            KINDS[kind][0](broken)


@kinds
@samples
@settings(max_examples=300)
@given(data=st.data())
def test_damaged_bytes_are_an_input_error_or_a_message_that_can_be_written(kind, numbers, data):
    read, write = KINDS[kind]
    raw = bytearray(sample(kind, numbers))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(raw) - 1) | st.sampled_from(lengths_of(kind, numbers)))
        raw[place] = data.draw(st.integers(0, 255) | st.sampled_from([0, 1, 2, 255]))
    if data.draw(st.booleans()):
        del raw[data.draw(st.integers(0, len(raw))) :]
    try:
        arrays = read(raw)
    except InputError:
        return
    assert_same(read(write(arrays, big_endian=True)), arrays)


def lengths_of(kind, numbers):
    """The bytes of the sample in which a small number stands alone: lengths, most of them."""
    raw = sample(kind, numbers)
    words = np.frombuffer(raw[: len(raw) // 4 * 4], "<u4")
    return (4 * np.flatnonzero(words < 8)).tolist()


@kinds
@samples
def test_lengths_that_lie_allocate_nothing(kind, numbers):
    """Each word that may be a length says that two thousand million items follow, or a few too many."""
    read, _ = KINDS[kind]
    whole = sample(kind, numbers)
    tracemalloc.start()
    try:
        for place in lengths_of(kind, numbers):
            for lie in (b"\xff\xff\xff\x7f", b"\x30\0\0\0"):
                raw = whole[:place] + lie + whole[place + 4 :]
                tracemalloc.reset_peak()
                before = tracemalloc.get_traced_memory()[0]
                with suppress(InputError):
                    read(raw)
                assert tracemalloc.get_traced_memory()[1] - before < 8 * len(whole) + 20_000
    finally:
        tracemalloc.stop()


def test_the_most_items_that_bytes_can_hold_take_a_small_multiple_of_them():
    """One object with 60 000 paths of no poses: the smallest items there are."""
    empty = {"poses": [], "sec": 0, "nanosec": 1, "confidence": 1.0}
    one = {
        "uuid": [0] * 16,
        "existence": 1.0,
        "classes": [],
        "state": [0.0] * 127,
        "availability": 0,
        "stationary": False,
        "paths": [empty] * 60_000,
        "shape_type": 0,
        "points": [],
        "dimensions": [1.0] * 3,
    }
    raw = serialized("Predicted", {"sec": 0, "nanosec": 0, "frame_id": "map", "objects": [one]})
    tracemalloc.start()
    try:
        assert len(read_predicted(raw).confidence) == 60_000
        assert tracemalloc.get_traced_memory()[1] < 8 * len(raw)
    finally:
        tracemalloc.stop()


def test_paths_that_take_turns_in_their_length_are_looked_at_once(monkeypatch):
    """What is looked at ahead is no more than a few times what there is: 2.5 MB took a minute."""
    count, seen = 4000, 0
    arrays = read_predicted(sample("Predicted", (0,)))
    lengths = np.arange(count) % 2
    raw = write_predicted(
        replace(
            arrays,
            path_start=np.array([0, count]),
            pose_start=np.append(0, lengths.cumsum()),
            poses=np.ones((lengths.sum(), 7)),
            time_step_ns=np.ones(count, np.int64),
            confidence=np.ones(count, np.float32),
        )
    )

    class Counted:
        """The words of the message; counts how many are taken."""

        def __init__(self, words):
            self.words = words

        def __getitem__(self, place):
            nonlocal seen
            taken = self.words[place]
            seen += len(taken) if isinstance(place, slice) else 1
            return taken

    walk = cdr._Walk.__init__

    def counting(self, wire, what):
        walk(self, wire, what)
        self._words = Counted(self._words)

    monkeypatch.setattr(cdr._Walk, "__init__", counting)
    assert np.diff(read_predicted(raw).pose_start).tolist() == lengths.tolist()
    assert seen < 20 * count


@kinds
@samples
def test_what_no_message_can_hold_is_an_input_error(kind, numbers):
    read, write = KINDS[kind]
    arrays = read(sample(kind, numbers))
    for change, complaint in (
        ({"stamp_ns": 2**31 * 10**9}, "stamp"),
        ({"stamp_ns": -(2**31) * 10**9 - 1}, "stamp"),
        ({"frame_id": "a\0b"}, "contains a zero"),
        ({"frame_id": "\ud800"}, "not Unicode"),
    ):
        with pytest.raises(InputError, match=complaint):
            write(replace(arrays, **change))


def test_a_time_step_that_no_duration_holds_is_an_input_error():
    arrays = read_predicted(sample("Predicted"))
    with pytest.raises(InputError, match="time step"):
        write_predicted(replace(arrays, time_step_ns=arrays.time_step_ns + 2**31 * 10**9))


@kinds
@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("state", np.zeros((3, 126)), r"state has shape \(3, 126\), expected \(3, 127\)"),
        ("class_start", np.array([0, 1, 3]), "class_start has shape"),
        ("class_start", np.array([0, 2, 1, 3]), "class_start must rise from 0"),
        ("points", np.zeros((1, 3), np.float32), "points has shape"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(kind, name, value, complaint):
    with pytest.raises(InputError, match=complaint):
        replace(KINDS[kind][0](sample(kind)), **{name: value})
