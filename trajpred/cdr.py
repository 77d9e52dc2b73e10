"""The wire format: serialized TrackedObjects and PredictedObjects to and from arrays, without ROS.

A ROS 2 message travels as plain CDR: four bytes that name the byte order, then the fields one after
another, each at a multiple of its size. Objects whose sequences are equally long are laid out alike,
and mostly all of a message are: then it is one structured array, whose fields are those of the message.
Otherwise it is looked at as an array of four-byte words, since nearly all fields are of four or eight
bytes, and a field of all objects is one gather from where it begins in each; only the lengths of the
sequences are walked through one by one.

Source: Object Management Group, DDS-XTypes 1.3, 7.4.3 (PLAIN_CDR, encoding version 1).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from io import BytesIO
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from trajpred.compiled import compiled
from trajpred.errors import InputError
from trajpred.types import ID_DTYPE, Bool, Float, Float32, Ids, Int, bytes_from_ids, ids_from_bytes

Raw = bytes | bytearray | memoryview
Bytes = NDArray[np.uint8]
Place = TypeVar("Place", int, Int)

PACKAGE = "autoware_perception_msgs"
TRACKED = f"{PACKAGE}/msg/TrackedObjects"
PREDICTED = f"{PACKAGE}/msg/PredictedObjects"

POSE = slice(0, 7)  # x, y, z m, then the quaternion x, y, z, w
POSITION = slice(0, 3)
ORIENTATION = slice(3, 7)
POSE_COVARIANCE = slice(7, 43)
TWIST = slice(43, 49)  # vx, vy, vz m/s, wx, wy, wz rad/s
TWIST_COVARIANCE = slice(49, 85)
ACCELERATION = slice(85, 91)
ACCELERATION_COVARIANCE = slice(91, 127)
STATE = 127
"""How many columns `Objects.state` has; the slices above say what they hold."""

_NS_PER_S = 1_000_000_000
_SECONDS_END = 2**31
_BIG_ENDIAN, _LITTLE_ENDIAN = b"\0\0", b"\0\1"
_NATIVE = "<" if sys.byteorder == "little" else ">"
_DTYPE_END = 2**31  # numpy's structures are smaller
_FILLING = 7  # so many bytes may follow a message: transports fill up to a multiple of their own

# Sizes in bytes.
_CLASS, _POINT, _POSE = 8, 12, 56
_STATE, _DIMENSIONS = 8 * STATE, 24
_EMPTY_PATH = 16  # the number of poses, the time step, the confidence
_TRACKED_MIN, _PREDICTED_MIN = 1072, 1080  # objects without anything that repeats
# From an object's start; its id comes first.
_EXISTENCE, _CLASSES = 16, 20


@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """What TrackedObjects and PredictedObjects share: N objects with C classes and F footprint points.

    stamp_ns and frame_id of the header; ids (N,) S16; existence (N,), its probability;
    class_start (N+1,): object i has the classes class_start[i] to class_start[i+1] of class_label
    (C,) and class_probability (C,); state (N, 127), SI units, see the slices above, the twist in the
    object's frame; shape_type (N,); point_start (N+1,) likewise for points (F, 3) m; dimensions
    (N, 3) m. All as it is in the message, finite or not.
    """

    stamp_ns: int
    frame_id: str
    ids: Ids
    existence: Float32
    class_start: Int
    class_label: Bytes
    class_probability: Float32
    state: Float
    shape_type: Bytes
    point_start: Int
    points: Float32
    dimensions: Float

    def __post_init__(self) -> None:
        n = len(self.ids)
        classes = _ragged("class_start", self.class_start, n)
        points = _ragged("point_start", self.point_start, n)
        _shaped("existence", self.existence, (n,))
        _shaped("class_label", self.class_label, (classes,))
        _shaped("class_probability", self.class_probability, (classes,))
        _shaped("state", self.state, (n, STATE))
        _shaped("shape_type", self.shape_type, (n,))
        _shaped("points", self.points, (points, 3))
        _shaped("dimensions", self.dimensions, (n, 3))

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, eq=False)
class TrackedObjects(Objects):
    """autoware_perception_msgs/TrackedObjects: also availability (N,) of the orientation, stationary (N,)."""

    availability: Bytes
    stationary: Bool

    def __post_init__(self) -> None:
        Objects.__post_init__(self)  # super() does not find the class that slots made anew
        _shaped("availability", self.availability, (len(self),))
        _shaped("stationary", self.stationary, (len(self),))


@dataclass(frozen=True, slots=True, eq=False)
class PredictedObjects(Objects):
    """autoware_perception_msgs/PredictedObjects: also M paths with P poses in all.

    path_start (N+1,): object i has the paths path_start[i] to path_start[i+1]; pose_start (M+1,)
    likewise for poses (P, 7) x, y, z m and the quaternion x, y, z, w; time_step_ns (M,) between a
    path's poses; confidence (M,).
    """

    path_start: Int
    pose_start: Int
    poses: Float
    time_step_ns: Int
    confidence: Float32

    def __post_init__(self) -> None:
        Objects.__post_init__(self)
        paths = _ragged("path_start", self.path_start, len(self))
        poses = _ragged("pose_start", self.pose_start, paths)
        _shaped("poses", self.poses, (poses, 7))
        _shaped("time_step_ns", self.time_step_ns, (paths,))
        _shaped("confidence", self.confidence, (paths,))


def read_tracked(raw: Raw) -> TrackedObjects:
    """The bytes of one TrackedObjects, in either byte order -> its arrays, which are no views of them.

    Raises InputError, with the place, for bytes that are not exactly one such message; up to seven
    bytes behind it are taken for filling.
    """
    wire = _Wire.of(raw, TRACKED)
    walk = _Walk(wire, TRACKED)
    stamp_ns, frame_id, count, at = walk.header(_TRACKED_MIN)
    rows = _alike_rows(wire, at, count, walk.first_tracked(at))
    if rows is not None and (rows["stationary"] <= 1).all():
        return TrackedObjects(
            **_shared_of(rows, stamp_ns, frame_id),
            availability=rows["availability"],
            stationary=rows["stationary"].view(np.bool_),
        )

    start, classes, points = array("q"), array("q"), array("q")
    for number in range(count):
        start.append(at)
        classes.append(walk.sequence(at + _CLASSES, _CLASS, "classes", number))
        footprint = _state_at(at, classes[-1]) + _STATE + 4
        points.append(walk.sequence(footprint, _POINT, "footprint points", number))
        at = _object_end(footprint, points[-1])
        walk.check(at, number)
    walk.finish(at)

    places = _Places.tracked(_ints(start), _ints(classes), _ints(points))
    behind = places.state + _STATE
    stationary = wire.octets[behind + 1]
    for number in np.flatnonzero(stationary > 1)[:1].tolist():
        what = f"object {number}: is_stationary is {stationary[number]}, neither 0 nor 1"
        raise walk.error(int(behind[number]) + 1, what)
    return TrackedObjects(
        **_read_shared(wire, places, stamp_ns, frame_id),
        availability=wire.octets[behind],
        stationary=stationary.view(np.bool_),
    )


def write_tracked(objects: TrackedObjects, *, big_endian: bool = False) -> bytes:
    """The arrays as the bytes of one TrackedObjects, with zeros for padding.

    Raises InputError for a stamp or a frame_id that no header can hold.
    """
    header = _Header.of(objects)
    layout = _layout_of(objects, big_endian)
    if layout is not None:

        def fill_rows(rows: NDArray[Any]) -> None:
            rows["availability"] = objects.availability
            rows["stationary"] = objects.stationary

        return _alike_message(objects, header, layout, fill_rows)

    classes, points = np.diff(objects.class_start), np.diff(objects.point_start)
    behind_each_other = partial(_Places.tracked, classes=classes, points=points)
    places, size = _lay_out(header.size, len(objects), behind_each_other)

    def fill(wire: _Wire) -> None:
        _write_shared(wire, places, objects, header)
        wire.octets[places.state + _STATE] = objects.availability
        wire.octets[places.state + _STATE + 1] = objects.stationary

    return _message(size, big_endian, fill)


def read_predicted(raw: Raw) -> PredictedObjects:
    """The bytes of one PredictedObjects, in either byte order -> its arrays, which are no views of them.

    Raises InputError like read_tracked.
    """
    wire = _Wire.of(raw, PREDICTED)
    walk = _Walk(wire, PREDICTED)
    stamp_ns, frame_id, count, at = walk.header(_PREDICTED_MIN)
    rows = _alike_rows(wire, at, count, walk.first_predicted(at))
    if rows is not None:
        paths = rows["paths"]  # (N, K)
        return PredictedObjects(
            **_shared_of(rows, stamp_ns, frame_id),
            path_start=_even_starts(count, paths.shape[1]),
            pose_start=_even_starts(paths.size, paths["poses"].shape[2]),
            poses=paths["poses"].reshape(-1, 7),
            time_step_ns=(paths["sec"].astype(np.int64) * _NS_PER_S + paths["nanosec"]).reshape(-1),
            confidence=paths["confidence"].reshape(-1),
        )

    start, classes, points = array("q"), array("q"), array("q")
    path_counts, pose_counts = array("q"), array("q")
    for number in range(count):
        start.append(at)
        classes.append(walk.sequence(at + _CLASSES, _CLASS, "classes", number))
        at = _state_at(at, classes[-1]) + _STATE
        path_counts.append(walk.sequence(at, _EMPTY_PATH, "paths", number))
        at += 4
        left = path_counts[-1]
        while left:
            poses = walk.sequence(at, _POSE, "poses", number)
            size = _EMPTY_PATH + _POSE * poses
            alike = walk.repeated(at, size, left)
            pose_counts.extend([poses] * alike)
            at += size * alike
            left -= alike
        points.append(walk.sequence(at + 4, _POINT, "footprint points", number))
        at = _object_end(at + 4, points[-1])
        walk.check(at, number)
    walk.finish(at)

    path_start, pose_start = _starts(_ints(path_counts)), _starts(_ints(pose_counts))
    places = _Places.predicted(
        _ints(start), _ints(classes), _path_bytes(path_start, pose_start), _ints(points)
    )
    path = _path_at(places, path_start, pose_start)
    behind = (path + 4 + _POSE * np.diff(pose_start)) // 4
    sec, nanosec = _native(wire.words[behind]).view(np.int32), wire.words[behind + 1]
    return PredictedObjects(
        **_read_shared(wire, places, stamp_ns, frame_id),
        path_start=path_start,
        pose_start=pose_start,
        poses=_read_poses(wire, path, pose_start),
        time_step_ns=sec.astype(np.int64) * _NS_PER_S + nanosec,
        confidence=_native(wire.singles[behind + 2]),
    )


def write_predicted(objects: PredictedObjects, *, big_endian: bool = False) -> bytes:
    """The arrays as the bytes of one PredictedObjects, with zeros for padding.

    Raises InputError for a stamp, a frame_id or a time step that the message cannot hold.
    """
    header = _Header.of(objects)
    path_start, pose_start = objects.path_start, objects.pose_start
    sec, nanosec = np.divmod(objects.time_step_ns, _NS_PER_S)
    if ((sec < -_SECONDS_END) | (sec >= _SECONDS_END)).any():
        raise InputError("a time step of a path does not fit the 32 bit seconds of a ROS duration")
    layout = _layout_of(objects, big_endian, (path_start, pose_start))
    if layout is not None:

        def fill_rows(rows: NDArray[Any]) -> None:
            paths = rows["paths"]  # (N, K)
            poses = paths["poses"]  # (N, K, P, 7)
            rows["path_count"] = paths.shape[1]
            paths["pose_count"] = poses.shape[2]
            poses[:] = objects.poses.reshape(poses.shape)
            paths["sec"] = sec.reshape(paths.shape)
            paths["nanosec"] = nanosec.reshape(paths.shape)
            paths["confidence"] = objects.confidence.reshape(paths.shape)

        return _alike_message(objects, header, layout, fill_rows)

    classes, points = np.diff(objects.class_start), np.diff(objects.point_start)
    paths = _path_bytes(path_start, pose_start)
    behind_each_other = partial(_Places.predicted, classes=classes, path_bytes=paths, points=points)
    places, size = _lay_out(header.size, len(objects), behind_each_other)
    path, lengths = _path_at(places, path_start, pose_start), np.diff(pose_start)
    behind = (path + 4 + _POSE * lengths) // 4

    def fill(wire: _Wire) -> None:
        _write_shared(wire, places, objects, header)
        wire.words[(places.state + _STATE) // 4] = np.diff(path_start)
        wire.words[path // 4] = lengths
        _write_poses(wire, path, objects)
        wire.words[behind] = sec & 0xFFFFFFFF
        wire.words[behind + 1] = nanosec
        wire.singles[behind + 2] = objects.confidence

    return _message(size, big_endian, fill)


@dataclass(frozen=True, slots=True, eq=False)
class _Wire:
    """A message behind its first four bytes, as numbers in its byte order: views of the same memory.

    size: in bytes. What is left behind the last whole word belongs to no field. order: < for little
    endian, > for big endian.
    """

    size: int
    octets: Bytes
    words: NDArray[np.uint32]
    singles: Float32
    order: str

    @classmethod
    def over(cls, octets: Bytes, big_endian: bool) -> _Wire:
        """Of the bytes of a whole message."""
        body, order = octets[4:], ">" if big_endian else "<"
        words = body[: len(body) // 4 * 4].view(f"{order}u4")
        return cls(len(body), body, words, words.view(f"{order}f4"), order)

    @classmethod
    def of(cls, raw: Raw, what: str) -> _Wire:
        """Raises InputError for another encoding."""
        octets = np.frombuffer(raw, np.uint8) if len(raw) else np.zeros(0, np.uint8)
        kind = octets[:2].tobytes()
        if len(octets) < 4 or kind not in (_BIG_ENDIAN, _LITTLE_ENDIAN):
            begin = octets[:4].tobytes().hex(" ") or "nothing"
            raise InputError(
                f"not the bytes of {what}: they begin with {begin}, plain CDR with 00 00 (big endian) "
                "or 00 01 (little endian) and two more bytes"
            )
        wire = cls.over(octets, kind == _BIG_ENDIAN)
        return wire if wire.words.flags.aligned else cls.over(octets.copy(), kind == _BIG_ENDIAN)

    def doubles(self, at: Int, width: int) -> Float:
        """(R, width) the float64 that begin at each of R places."""
        return _native(_runs(self.words, 2 * width)[at // 4].view(f"{self.order}f8"))

    def put_doubles(self, at: Int, values: Float) -> None:
        """Writes (R, width) float64, a row at each of R places."""
        words = np.ascontiguousarray(values, f"{self.order}f8").view(self.words.dtype)
        _runs(self.words, words.shape[1])[at // 4] = words


@lru_cache(maxsize=256)
def _layout(classes: int, points: int, paths: int | None = None, poses: int = 0) -> np.dtype[Any] | None:
    """An object that begins at a multiple of eight, in this machine's byte order; None if none can be so big.

    paths: how many, each of so many poses, of PredictedObjects; None for TrackedObjects.
    """
    state = _state_at(0, classes)
    behind = state + _STATE
    fields: dict[str, tuple[Any, int]]
    if paths is None:
        shape, footprint = behind + 2, behind + 4
        fields = {"availability": ("u1", behind), "stationary": ("u1", behind + 1)}
    else:
        shape = behind + 4 + paths * (_EMPTY_PATH + _POSE * poses)
        footprint = shape + 4
        if footprint >= _DTYPE_END:
            return None
        path = [("pose_count", "u4"), ("poses", "f8", (poses, 7)), ("sec", "i4"), ("nanosec", "u4")]
        whole = np.dtype([*path, ("confidence", "f4")])
        fields = {"path_count": ("u4", behind), "paths": ((whole, (paths,)), behind + 4)}
    end = _object_end(footprint, points)
    if end >= _DTYPE_END:
        return None
    one_class = np.dtype({"names": ["label", "probability"], "formats": ["u1", "f4"], "offsets": [0, 4]})
    fields |= {
        "id": (ID_DTYPE, 0),
        "existence": ("f4", _EXISTENCE),
        "class_count": ("u4", _CLASSES),
        "classes": ((one_class, (classes,)), _CLASSES + 4),
        "state": (("f8", (STATE,)), state),
        "shape_type": ("u1", shape),
        "point_count": ("u4", footprint),
        "points": (("f4", (points, 3)), footprint + 4),
        "dimensions": (("f8", (3,)), end - _DIMENSIONS),
    }
    formats, offsets = zip(*fields.values(), strict=True)
    return np.dtype({"names": list(fields), "formats": formats, "offsets": offsets, "itemsize": end})


def _layout_of(objects: Objects, big_endian: bool, paths: tuple[Int, ...] = ()) -> np.dtype[Any] | None:
    """How each object is laid out; None where they differ, or there are none.

    paths: of PredictedObjects, where the paths begin and where their poses do.
    """
    if not len(objects) or big_endian != (sys.byteorder == "big"):
        return None
    counts = []
    for start in (objects.class_start, objects.point_start, *paths):
        if not _even(start):
            return None
        counts.append(int(start[1]) if len(start) > 1 else 0)
    classes, points, *repeated = counts
    return _layout(classes, points, *repeated)


def _even_starts(rows: int, count: int) -> Int:
    """(N+1,) where the items of each of N rows begin, of which each has `count`."""
    return count * np.arange(rows + 1)


def _alike_rows(wire: _Wire, at: int, count: int, layout: np.dtype[Any] | None) -> NDArray[Any] | None:
    """(N,) the objects from there to the end, copied; None where not all have that layout."""
    if not count or layout is None or wire.order != _NATIVE:
        return None
    shift = -at % 8
    if not 0 <= wire.size - (at + shift + count * layout.itemsize) <= _FILLING:
        return None
    octets = wire.octets.copy()
    rows = np.ndarray(count, layout, octets, at + shift)
    if shift:
        _move(octets, at, at + shift, rows)
    counts = [rows["class_count"], rows["point_count"]]
    if "paths" in (layout.names or ()):
        counts += [rows["path_count"], rows["paths"]["pose_count"]]
    return rows if all((each == each[:1]).all() for each in counts) else None


def _shared_of(rows: NDArray[Any], stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """The fields of `Objects`."""
    count, classes, points = len(rows), rows["classes"], rows["points"]
    return {
        "stamp_ns": stamp_ns,
        "frame_id": frame_id,
        "ids": np.ascontiguousarray(rows["id"]),
        "existence": rows["existence"],
        "class_start": _even_starts(count, classes.shape[1]),
        "class_label": classes["label"].reshape(-1),
        "class_probability": classes["probability"].reshape(-1),
        "state": rows["state"],
        "shape_type": rows["shape_type"],
        "point_start": _even_starts(count, points.shape[1]),
        "points": points.reshape(-1, 3),
        "dimensions": rows["dimensions"],
    }


def _alike_message(
    objects: Objects, header: _Header, layout: np.dtype[Any], fill_rest: Callable[[NDArray[Any]], None]
) -> bytes:
    """The bytes of a message of objects that are laid out alike; fill_rest: what is not in `Objects`."""
    shift = -header.size % 8
    first = header.size + shift

    def fill(wire: _Wire) -> None:
        _write_header(wire, header, len(objects))
        rows = np.ndarray(len(objects), layout, wire.octets, first)
        classes, points = rows["classes"], rows["points"]
        rows["id"] = objects.ids
        rows["existence"] = objects.existence
        rows["class_count"] = classes.shape[1]
        classes["label"] = objects.class_label.reshape(classes.shape)
        classes["probability"] = objects.class_probability.reshape(classes.shape)
        rows["state"] = objects.state
        rows["shape_type"] = objects.shape_type
        rows["point_count"] = points.shape[1]
        points[:] = objects.points.reshape(points.shape)
        rows["dimensions"] = objects.dimensions
        fill_rest(rows)
        if shift:
            head = _move(wire.octets, first, header.size, rows)
            wire.octets[header.size + head : first + head] = 0

    return _message(first + len(objects) * layout.itemsize, False, fill)


def _move(octets: Bytes, start: int, to: int, rows: NDArray[Any]) -> int:
    """What comes before the state of the first object, which alone may begin elsewhere; how long that is."""
    assert rows.dtype.fields is not None
    head: int = rows.dtype.fields["state"][1]
    octets[to : to + head] = octets[start : start + head].copy()
    return head


def _message(size: int, big_endian: bool, fill: Callable[[_Wire], None]) -> bytes:
    """The bytes of a message, with its four first, of zeros where `fill` writes nothing."""
    memory = BytesIO(bytes(4 + size))  # gives its bytes away without a copy once no view of them is left
    octets = np.frombuffer(memory.getbuffer(), np.uint8)
    octets[1] = not big_endian
    fill(_Wire.over(octets, big_endian))
    del octets
    return memory.getvalue()


class _Walk:
    """Steps through a message from sequence to sequence; no further than there are bytes."""

    def __init__(self, wire: _Wire, what: str) -> None:
        self.size, self.what = wire.size, what
        self._octets = wire.octets
        self._lengths = _native(wire.words)
        self._words = memoryview(self._lengths)  # type: ignore[arg-type]  # its items are Python's integers

    def error(self, at: int, why: str) -> InputError:
        """What is wrong at a place; places are counted from the first of the four leading bytes."""
        return InputError(f"not the bytes of {self.what}: byte {at + 4} of {self.size + 4}: {why}")

    def header(self, object_min: int) -> tuple[int, str, int, int]:
        """Stamp in ns, frame_id, the number of objects, and where the first begins."""
        if self.size < 12:
            raise self.error(self.size, "the message ends within its header")
        sec, nanosec, length = self._words[:3]
        stamp_ns = (sec - (sec >> 31 << 32)) * _NS_PER_S + nanosec
        if length > self.size - 12:
            raise self.error(8, f"a frame_id of {length} bytes, but {self.size - 12} are left")
        name = self._octets[12 : 12 + length].tobytes()
        if name[-1:] != b"\0"[:length] or b"\0" in name[:-1]:
            raise self.error(12, f"the frame_id {name[:40]!r} does not end with its one zero")
        try:
            frame_id = name[:-1].decode()
        except UnicodeDecodeError:
            raise self.error(12, f"the frame_id {name[:40]!r} is not UTF-8") from None
        at = _up(12 + length, 4)
        if stamp_ns >= _SECONDS_END * _NS_PER_S:
            raise self.error(4, f"{nanosec} ns carry the stamp beyond the 32 bit seconds of a header")
        return stamp_ns, frame_id, self.sequence(at, object_min, "objects"), at + 4

    def sequence(self, at: int, item: int, what: str, number: int | None = None) -> int:
        """How many items of at least `item` bytes follow there; there are bytes for them."""
        left = self.size - at - 4
        if left >= 0:
            count: int = self._words[at >> 2]
            if count * item <= left:
                return count
        of = "" if number is None else f"object {number}: "
        if left < 0:
            raise self.error(self.size, f"{of}the message ends before its {what}")
        raise self.error(at, f"{of}{count} {what}, but {left} bytes are left")

    def first_tracked(self, at: int) -> np.dtype[Any] | None:
        """How the object there is laid out, in TrackedObjects; None where there is none."""
        try:
            classes = self.sequence(at + _CLASSES, _CLASS, "classes")
            points = self.sequence(_state_at(at, classes) + _STATE + 4, _POINT, "footprint points")
        except InputError:
            return None
        return _layout(classes, points)

    def first_predicted(self, at: int) -> np.dtype[Any] | None:
        """How the object there is laid out, in PredictedObjects; None where its paths are not alike."""
        try:
            classes = self.sequence(at + _CLASSES, _CLASS, "classes")
            at = _state_at(at, classes) + _STATE
            paths = self.sequence(at, _EMPTY_PATH, "paths")
            poses = self.sequence(at + 4, _POSE, "poses") if paths else 0
            size = _EMPTY_PATH + _POSE * poses
            if paths and self.repeated(at + 4, size, paths) < paths:
                return None
            points = self.sequence(at + 8 + paths * size, _POINT, "footprint points")
        except InputError:
            return None
        return _layout(classes, points, paths, poses)

    def repeated(self, at: int, size: int, most: int) -> int:
        """How many items of one size are behind each other, the first of them there, by their first word.

        At most so many, and no more than there are bytes for, but for the first.
        """
        fits = max(1, min(most, (self.size - at) // size))
        first, begin, count = self._words[at >> 2], 0, 8  # as many again each time: lengths may take turns
        while begin < fits:
            end = min(begin + count, fits)
            lengths = self._words[(at + size * begin) >> 2 : (at + size * end) >> 2 : size >> 2].tolist()
            for i, length in enumerate(lengths, begin):
                if length != first:
                    return i
            begin, count = end, 2 * count
        return fits

    def check(self, at: int, number: int) -> None:
        """Whether an object ends within the message."""
        if at > self.size:
            raise self.error(self.size, f"the message ends within object {number}")

    def finish(self, at: int) -> None:
        """Whether the message ends where its last object does."""
        if self.size - at > _FILLING:
            raise self.error(at, f"{self.size - at} bytes too many behind the last object")


@dataclass(frozen=True, slots=True, eq=False)
class _Header:
    """The stamp in seconds and nanoseconds, the frame_id with its zero, and where the first object begins."""

    sec: int
    nanosec: int
    name: bytes
    size: int

    @classmethod
    def of(cls, objects: Objects) -> _Header:
        """Raises InputError for a stamp and a frame_id that no header can hold."""
        sec, nanosec = divmod(objects.stamp_ns, _NS_PER_S)
        if not -_SECONDS_END <= sec < _SECONDS_END:
            raise InputError(
                f"the stamp {objects.stamp_ns} ns does not fit the 32 bit seconds of a ROS header"
            )
        try:
            name = objects.frame_id.encode()
        except UnicodeEncodeError:
            raise InputError(f"the frame_id {objects.frame_id!r} is not Unicode text") from None
        if b"\0" in name:
            raise InputError(f"the frame_id {objects.frame_id!r} contains a zero, which ends a ROS string")
        return cls(sec, nanosec, name + b"\0", _up(13 + len(name), 4) + 4)


@dataclass(frozen=True, slots=True, eq=False)
class _Places:
    """The byte at which something begins in each of N objects, and how often what repeats is there."""

    start: Int
    classes: Int  # how many
    state: Int
    shape: Int
    footprint: Int  # the number of its points, then they themselves
    points: Int  # how many

    @classmethod
    def tracked(cls, start: Int, classes: Int, points: Int) -> _Places:
        """The state, availability, is_stationary, then the shape."""
        state = _state_at(start, classes)
        return cls(start, classes, state, state + _STATE + 2, state + _STATE + 4, points)

    @classmethod
    def predicted(cls, start: Int, classes: Int, path_bytes: Int, points: Int) -> _Places:
        """The state, the number of paths and they themselves, then the shape."""
        state = _state_at(start, classes)
        shape = state + _STATE + 4 + path_bytes
        return cls(start, classes, state, shape, shape + 4, points)

    @property
    def end(self) -> Int:
        """Where the object ends."""
        return _object_end(self.footprint, self.points)


def _read_shared(wire: _Wire, places: _Places, stamp_ns: int, frame_id: str) -> dict[str, Any]:
    """The fields of `Objects`."""
    label = _items(places.start + _CLASSES + 4, places.classes, _CLASS)
    point = _items(places.footprint + 4, places.points, _POINT)
    return {
        "stamp_ns": stamp_ns,
        "frame_id": frame_id,
        "ids": ids_from_bytes(_runs(wire.octets, 16)[places.start]),
        "existence": _native(wire.singles[(places.start + _EXISTENCE) // 4]),
        "class_start": _starts(places.classes),
        "class_label": wire.octets[label],
        "class_probability": _native(wire.singles[label // 4 + 1]),
        "state": wire.doubles(places.state, STATE),
        "shape_type": wire.octets[places.shape],
        "point_start": _starts(places.points),
        "points": _native(_runs(wire.singles, 3)[point // 4]),
        "dimensions": wire.doubles(places.end - _DIMENSIONS, 3),
    }


def _write_header(wire: _Wire, header: _Header, count: int) -> None:
    """The header, and the number of objects behind it."""
    wire.words[:3] = header.sec & 0xFFFFFFFF, header.nanosec, len(header.name)
    wire.octets[12 : 12 + len(header.name)] = np.frombuffer(header.name, np.uint8)
    wire.words[header.size // 4 - 1] = count


def _write_shared(wire: _Wire, places: _Places, objects: Objects, header: _Header) -> None:
    """The header and the fields of `Objects`."""
    _write_header(wire, header, len(objects))
    label = _items(places.start + _CLASSES + 4, places.classes, _CLASS)
    point = _items(places.footprint + 4, places.points, _POINT)
    _runs(wire.octets, 16)[places.start] = bytes_from_ids(objects.ids)
    wire.singles[(places.start + _EXISTENCE) // 4] = objects.existence
    wire.words[(places.start + _CLASSES) // 4] = places.classes
    wire.octets[label] = objects.class_label
    wire.singles[label // 4 + 1] = objects.class_probability
    wire.put_doubles(places.state, objects.state)
    wire.octets[places.shape] = objects.shape_type
    wire.words[places.footprint // 4] = places.points
    _runs(wire.singles, 3)[point // 4] = objects.points
    wire.put_doubles(places.end - _DIMENSIONS, objects.dimensions)


def _state_at(start: Place, classes: Place) -> Place:
    """Where the state of an object begins."""
    return _up(start + _CLASSES + 4 + _CLASS * classes, 8)


def _object_end(footprint: Place, points: Place) -> Place:
    """Where an object ends whose footprint is there: always at a multiple of eight."""
    return _up(footprint + 4 + _POINT * points, 8) + _DIMENSIONS


def _up(place: Place, step: int) -> Place:
    """The next multiple of the step, a power of two."""
    return (place + (step - 1)) & -step


def _lay_out(first: int, count: int, places_of: Callable[[Int], _Places]) -> tuple[_Places, int]:
    """The places of objects, one behind the other, and where the last ends; places_of: given their starts.

    All but the first begin at a multiple of eight, so that their size does not depend on where that is.
    """
    start = np.zeros(count, np.int64)
    start[:1] = first
    end = np.cumsum(places_of(start).end)
    start[1:] = end[:-1]
    return places_of(start), int(end[-1]) if count else first


def _path_offsets(pose_start: Int) -> Int:
    """(M+1,) the bytes of all paths before each, and of all."""
    return _EMPTY_PATH * np.arange(len(pose_start)) + _POSE * pose_start


def _path_bytes(path_start: Int, pose_start: Int) -> Int:
    """(N,) the bytes of the paths of each object."""
    return np.diff(_path_offsets(pose_start)[path_start])


def _path_at(places: _Places, path_start: Int, pose_start: Int) -> Int:
    """(M,) where each path begins: always 4 behind a multiple of eight, so that its poses need no padding."""
    offset = _path_offsets(pose_start)
    at: Int = (
        np.repeat(places.state + _STATE + 4 - offset[path_start[:-1]], np.diff(path_start)) + offset[:-1]
    )
    return at


def _read_poses(wire: _Wire, path: Int, pose_start: Int) -> Float:
    """(P, 7) the poses of all paths; those of equally many poses at once."""
    lengths = np.diff(pose_start)
    flat = np.empty(7 * pose_start[-1])
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows = np.flatnonzero(lengths == length)
        found = wire.doubles(path[rows] + 4, 7 * length)
        if len(rows) == len(path):
            return found.reshape(-1, 7)
        _runs(flat, 7 * length)[7 * pose_start[rows]] = found
    return flat.reshape(-1, 7)


def _write_poses(wire: _Wire, path: Int, objects: PredictedObjects) -> None:
    """The poses of all paths; those of equally many poses at once."""
    start, lengths = objects.pose_start, np.diff(objects.pose_start)
    flat = np.ascontiguousarray(objects.poses, np.float64).reshape(-1)
    for length in np.unique(lengths[lengths > 0]).tolist():
        rows, width = np.flatnonzero(lengths == length), 7 * length
        given = flat.reshape(-1, width) if len(rows) == len(path) else _runs(flat, width)[7 * start[rows]]
        wire.put_doubles(path[rows] + 4, given)


def _items(first: Int, counts: Int, size: int) -> Int:
    """Where every item of every object's sequence begins, given where the first of each does."""
    start = _starts(counts)
    at: Int = np.repeat(first - size * start[:-1], counts) + size * np.arange(start[-1], dtype=np.int64)
    return at


def _runs(flat: NDArray[Any], width: int) -> NDArray[Any]:
    """(R, width): row i is `flat[i : i + width]`, without a copy. A row is copied at once, not by element."""
    count = max(len(flat) - width + 1, 0)
    return np.ndarray((count, width), flat.dtype, flat, 0, (flat.itemsize, flat.itemsize))


def _starts(counts: Int) -> Int:
    """(N,) lengths -> (N+1,) where each begins in all of them together, and where the last ends."""
    return np.concatenate([[0], np.cumsum(counts)])


def _ints(values: array[int]) -> Int:
    return np.array(values, np.int64)


def _native(values: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in this machine's byte order."""
    return values.astype(values.dtype.newbyteorder("="), copy=False)


def _ragged(name: str, start: Int, rows: int) -> int:
    """The number of items of all rows. Raises InputError for what does not rise from 0 row by row."""
    _shaped(name, start, (rows + 1,))
    if not _rises(start):
        raise InputError(f"{name} must rise from 0")
    return int(start[-1])


@compiled
def _rises(start: Int) -> bool:
    """Whether it starts at 0 and never falls."""
    falls = 0
    for i in range(1, len(start)):
        falls += start[i - 1] > start[i]
    return bool(start[0] == 0 and falls == 0)


@compiled
def _even(start: Int) -> bool:
    """Whether all rows have equally many items."""
    odd = 0
    for i in range(1, len(start)):
        odd += start[i] != i * start[1]
    return odd == 0


def _shaped(name: str, values: NDArray[Any], shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InputError(f"{name} has shape {values.shape}, expected {shape}")
