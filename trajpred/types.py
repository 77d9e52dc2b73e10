"""The words of the house as arrays: what perception sees, what is predicted, what was recorded.

Every structure is a struct of arrays with one row per agent (or per observation). SI units,
radians, right-handed, x forward; time is int64 nanoseconds. A validity mask travels with each array
that can be unknown; the values under a false mask are finite but mean nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.errors import InputError

Float = NDArray[np.float64]
Float32 = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Ids = NDArray[np.bytes_]

ID_DTYPE = np.dtype("S16")
"""A track's id: the 16 bytes of a UUID. Integer ids of data sets are stored big-endian."""


class Label(IntEnum):
    """Class of an agent; the values are those of autoware_perception_msgs/ObjectClassification."""

    UNKNOWN = 0
    CAR = 1
    TRUCK = 2
    BUS = 3
    TRAILER = 4
    MOTORCYCLE = 5
    BICYCLE = 6
    PEDESTRIAN = 7
    ANIMAL = 8
    HAZARD = 9
    OVER_DRIVABLE = 10
    UNDER_DRIVABLE = 11


class Source(IntEnum):
    """Who made an agent's paths: the model, or the baseline with the reason for it."""

    MODEL = 0
    BASELINE = 1  # a baseline was asked for
    TOO_NEW = 2  # fewer observations than the model was trained to start from
    INVALID_STATE = 3  # the position is not finite, or not on earth
    DUPLICATE_ID = 4  # a second object of the same frame with the same id
    OUT_OF_ORDER = 5  # the frame is older than the last one, within the reordering tolerance
    OVER_CAPACITY = 6  # more agents than the store may hold
    OVER_BUDGET = 7  # the time budget ended before this agent's turn
    NO_MODEL = 8  # no usable model was loaded
    MODEL_FAULT = 9  # what the model said is not finite, or it could not say anything
    UNTRAINED_CLASS = 10  # the model has never seen an agent of this class


def ids_from_int(numbers: Any) -> Ids:
    """(N,) non-negative integers -> (N,) ids; the number in the last 8 bytes, big-endian."""
    numbers = np.asarray(numbers, dtype=np.int64)
    raw = np.zeros((numbers.size, 16), dtype=np.uint8)
    raw[:, 8:] = numbers.astype(">i8").reshape(-1, 1).view(np.uint8)
    return raw.reshape(-1).view(ID_DTYPE)


def ids_from_bytes(uuid: Any) -> Ids:
    """(N, 16) uint8, or the same bytes in one row -> (N,) ids. Raises InputError for another width."""
    uuid = np.asarray(uuid, dtype=np.uint8)
    if uuid.shape[1:] not in ((), (16,)) or uuid.size % 16:
        raise InputError(f"ids are rows of 16 bytes, found an array of shape {uuid.shape}")
    return np.ascontiguousarray(uuid, dtype=np.uint8).reshape(-1).view(ID_DTYPE)


def bytes_from_ids(ids: Ids) -> NDArray[np.uint8]:
    """(N,) ids -> (N, 16) uint8, the UUID as a message carries it."""
    return np.ascontiguousarray(ids, dtype=ID_DTYPE).view(np.uint8).reshape(-1, 16)


def _rows(name: str, value: Any, dtype: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The value as an array of this shape; a scalar (or one row) is repeated, anything else is an error."""
    array = np.asarray(value, dtype)
    if array.shape != shape:
        if array.shape not in ((), shape[1:]):
            raise InputError(f"{name} has shape {array.shape}, expected {shape}")
        array = np.array(np.broadcast_to(array, shape))
    return array


def _check_rows(what: str, rows: int, **arrays: tuple[NDArray[Any], tuple[int, ...]]) -> None:
    for name, (array, tail) in arrays.items():
        if array.shape != (rows, *tail):
            raise InputError(f"{what}.{name} has shape {array.shape}, expected {(rows, *tail)}")


@dataclass(frozen=True, slots=True, eq=False)
class TrackFrame:
    """One perception tick: what the tracker reports at one stamp, in a fixed (map) frame.

    ids (N,) S16; label (N,) uint8; xy (N, 2) m, non-finite rows are answered as invalid;
    yaw (N,) rad with yaw_valid (N,); velocity (N, 2) m/s along the frame's axes with
    velocity_valid (N,); size (N, 3) length, width, height in m with size_valid (N,);
    group (N,): agents of different groups never see each other. A live frame is one group (zeros);
    offline evaluation answers many scenes in one step.
    """

    stamp_ns: int
    frame_id: str
    ids: Ids
    label: NDArray[np.uint8]
    xy: Float
    yaw: Float
    yaw_valid: Bool
    velocity: Float
    velocity_valid: Bool
    size: Float
    size_valid: Bool
    group: Int

    def __post_init__(self) -> None:
        n = len(self.ids)
        _check_rows(
            "TrackFrame",
            n,
            label=(self.label, ()),
            xy=(self.xy, (2,)),
            yaw=(self.yaw, ()),
            yaw_valid=(self.yaw_valid, ()),
            velocity=(self.velocity, (2,)),
            velocity_valid=(self.velocity_valid, ()),
            size=(self.size, (3,)),
            size_valid=(self.size_valid, ()),
            group=(self.group, ()),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def build(
        cls,
        stamp_ns: int,
        ids: Ids,
        xy: Any,
        *,
        label: Any = Label.UNKNOWN,
        yaw: Any = None,
        velocity: Any = None,
        size: Any = None,
        group: Any = 0,
        frame_id: str = "map",
    ) -> TrackFrame:
        """A frame from what is known; an argument left out is masked invalid, scalars are repeated."""
        n = len(ids)
        return cls(
            stamp_ns=int(stamp_ns),
            frame_id=frame_id,
            ids=np.asarray(ids, dtype=ID_DTYPE),
            label=_rows("label", label, np.uint8, (n,)),
            xy=_rows("xy", xy, np.float64, (n, 2)),
            yaw=_rows("yaw", 0.0 if yaw is None else yaw, np.float64, (n,)),
            yaw_valid=np.full(n, yaw is not None),
            velocity=_rows("velocity", 0.0 if velocity is None else velocity, np.float64, (n, 2)),
            velocity_valid=np.full(n, velocity is not None),
            size=_rows("size", 0.0 if size is None else size, np.float64, (n, 3)),
            size_valid=np.full(n, size is not None),
            group=_rows("group", group, np.int64, (n,)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """K weighted future paths for every agent of one TrackFrame, in its row order and frame.

    offset_s (T,) s after the stamp, ascending, > 0; xy (N, 2), heading (N,) and velocity (N, 2) m/s
    what is known of the agent now, which the paths start from; paths (N, K, T, 2) m;
    probability (N, K), sums to 1 over the valid modes;
    mode_valid (N, K), at least one per agent; spread (N, K, T) m, the standard deviation of each
    coordinate round the path; single (N, T, 2) m, the path to use where only one can be;
    source (N,) uint8, see Source.
    """

    stamp_ns: int
    frame_id: str
    ids: Ids
    offset_s: Float
    xy: Float
    heading: Float
    velocity: Float
    paths: Float
    probability: Float
    mode_valid: Bool
    spread: Float
    single: Float
    source: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: Any) -> Prediction:
        """The prediction of only some agents (mask or indices)."""
        shared = ("stamp_ns", "frame_id", "offset_s")
        kept = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name not in shared}
        return replace(self, **kept)


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """One continuous recording: one row per observation, sorted by (stamp_ns, id), no repeats.

    stamp_ns (R,) int64; ids (R,) S16; label (R,) uint8; xy (R, 2) m; yaw, velocity and size with
    their masks as in TrackFrame. m_per_px is set where the source was annotated in pixels, so that
    errors can be quoted in pixels too.
    """

    name: str
    stamp_ns: Int
    ids: Ids
    label: NDArray[np.uint8]
    xy: Float
    yaw: Float
    yaw_valid: Bool
    velocity: Float
    velocity_valid: Bool
    size: Float
    size_valid: Bool
    frame_id: str = "map"
    m_per_px: float | None = None

    def __post_init__(self) -> None:
        n = len(self.stamp_ns)
        _check_rows(
            f"Scene {self.name}",
            n,
            ids=(self.ids, ()),
            label=(self.label, ()),
            xy=(self.xy, (2,)),
            yaw=(self.yaw, ()),
            yaw_valid=(self.yaw_valid, ()),
            velocity=(self.velocity, (2,)),
            velocity_valid=(self.velocity_valid, ()),
            size=(self.size, (3,)),
            size_valid=(self.size_valid, ()),
        )

    def __len__(self) -> int:
        return len(self.stamp_ns)

    @classmethod
    def build(
        cls,
        name: str,
        stamp_ns: Any,
        ids: Ids,
        xy: Any,
        *,
        label: Any = Label.UNKNOWN,
        yaw: Any = None,
        yaw_valid: Any = None,
        velocity: Any = None,
        velocity_valid: Any = None,
        size: Any = None,
        size_valid: Any = None,
        frame_id: str = "map",
        m_per_px: float | None = None,
    ) -> Scene:
        """A scene from unsorted rows; an argument left out is masked invalid, scalars are repeated.

        Raises InputError on a non-finite position and on two rows of one id at one stamp.
        """
        stamp_ns = np.asarray(stamp_ns, np.int64)
        n = len(stamp_ns)

        def known(what: str, value: Any, mask: Any, tail: tuple[int, ...]) -> tuple[Float, Bool]:
            if value is None:
                return np.zeros((n, *tail)), np.zeros(n, bool)
            value = _rows(f"{name}: {what}", value, np.float64, (n, *tail)).copy()
            finite = np.isfinite(value).all(axis=tuple(range(1, value.ndim)))
            valid = finite
            if mask is not None:
                valid = finite & _rows(f"{name}: {what}_valid", mask, bool, (n,))
            value[~finite] = 0.0
            return value, valid

        yaw, yaw_valid = known("yaw", yaw, yaw_valid, ())
        velocity, velocity_valid = known("velocity", velocity, velocity_valid, (2,))
        size, size_valid = known("size", size, size_valid, (3,))
        ids = np.asarray(ids, dtype=ID_DTYPE)
        if ids.shape != (n,):
            raise InputError(f"{name}: ids has shape {ids.shape}, expected {(n,)}")
        label = _rows(f"{name}: label", label, np.uint8, (n,))
        xy = _rows(f"{name}: xy", xy, np.float64, (n, 2))
        bad = np.flatnonzero(~np.isfinite(xy).all(axis=1))
        if bad.size:
            raise InputError(f"{name}: row {bad[0]}: the position is not finite ({xy[bad[0]]})")
        order = np.lexsort((ids, stamp_ns))
        stamp_ns, ids = stamp_ns[order], ids[order]
        repeated = np.flatnonzero((stamp_ns[1:] == stamp_ns[:-1]) & (ids[1:] == ids[:-1]))
        if repeated.size:
            row = order[repeated[0] + 1]
            raise InputError(f"{name}: row {row}: a second observation of one track at one stamp")
        return cls(
            name=name,
            stamp_ns=stamp_ns,
            ids=ids,
            label=label[order],
            xy=xy[order],
            yaw=yaw[order],
            yaw_valid=yaw_valid[order],
            velocity=velocity[order],
            velocity_valid=velocity_valid[order],
            size=size[order],
            size_valid=size_valid[order],
            frame_id=frame_id,
            m_per_px=m_per_px,
        )

    def take(self, rows: Any) -> Scene:
        """The scene restricted to some rows (mask or ascending indices)."""
        kept = {
            f.name: getattr(self, f.name)[rows]
            for f in fields(self)
            if f.name not in ("name", "frame_id", "m_per_px")
        }
        return Scene(name=self.name, frame_id=self.frame_id, m_per_px=self.m_per_px, **kept)

    def reversed(self) -> Scene:
        """The recording played backwards between the same two moments.

        What the tracker said of direction, yaw and velocity, is left out: nobody walks backwards.
        """
        if not len(self):
            return self
        return Scene.build(
            self.name,
            self.stamp_ns[0] + self.stamp_ns[-1] - self.stamp_ns,
            self.ids,
            self.xy,
            label=self.label,
            size=self.size,
            size_valid=self.size_valid,
            frame_id=self.frame_id,
            m_per_px=self.m_per_px,
        )

    def frames(self) -> Iterator[TrackFrame]:
        """The recording as perception ticks, one per distinct stamp, in order of time."""
        stamps, starts = np.unique(self.stamp_ns, return_index=True)
        ends = np.append(starts[1:], len(self))[: len(starts)]
        for stamp, start, end in zip(stamps.tolist(), starts.tolist(), ends.tolist(), strict=True):
            rows = slice(start, end)
            yield TrackFrame(
                stamp_ns=stamp,
                frame_id=self.frame_id,
                ids=self.ids[rows],
                label=self.label[rows],
                xy=self.xy[rows],
                yaw=self.yaw[rows],
                yaw_valid=self.yaw_valid[rows],
                velocity=self.velocity[rows],
                velocity_valid=self.velocity_valid[rows],
                size=self.size[rows],
                size_valid=self.size_valid[rows],
                group=np.zeros(end - start, np.int64),
            )
