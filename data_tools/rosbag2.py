"""rosbag2 logs of Autoware's tracker: autoware_perception_msgs/msg/TrackedObjects on one topic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.bags import read_raw
from trajpred.errors import InputError
from trajpred.messages import decode_tracked
from trajpred.types import Ids, Int, Scene, TrackFrame


def read(path: Path, topic: str | None = None) -> Iterator[Scene]:
    """The one scene of a log, named after it; path is a rosbag2 folder, or an .mcap or .db3 file.

    Stamps are those of the headers; yaw, velocity and size as far as they are known. topic: which
    one, if there are several. Raises InputError for what is no log or is damaged, and at the first
    message that does not decode, changes the frame, or holds a position that is not finite or a
    track that has a row at this stamp already: errors cannot be measured against such.
    """
    frames: list[TrackFrame] = []
    for number, (_, _, raw) in enumerate(read_raw(path, topic)):
        try:
            frame = decode_tracked(raw)[0]
            _check(frame, frames[0].frame_id if frames else frame.frame_id)
        except InputError as error:
            raise InputError(f"{path}: message {number}: {error}") from error
        frames.append(frame)
    if not any(len(frame) for frame in frames):
        raise InputError(f"{path}: no object in any of its {len(frames)} messages")

    def rows(column: str) -> NDArray[Any]:
        return np.concatenate([getattr(frame, column) for frame in frames])

    lengths = [len(frame) for frame in frames]
    stamp_ns = np.repeat([frame.stamp_ns for frame in frames], lengths)
    again = _repeated(stamp_ns, rows("ids"))
    if again is not None:
        number = np.repeat(np.arange(len(frames)), lengths)[again]
        raise InputError(f"{path}: message {number}: a second row for one track at {stamp_ns[again]} ns")
    yield Scene.build(
        path.stem,
        stamp_ns,
        rows("ids"),
        rows("xy"),
        label=rows("label"),
        yaw=rows("yaw"),
        yaw_valid=rows("yaw_valid"),
        velocity=rows("velocity"),
        velocity_valid=rows("velocity_valid"),
        size=rows("size"),
        size_valid=rows("size_valid"),
        frame_id=frames[0].frame_id,
    )


def _check(frame: TrackFrame, frame_id: str) -> None:
    if frame.frame_id != frame_id:
        raise InputError(f"the frame changes from {frame_id!r} to {frame.frame_id!r}")
    bad = np.flatnonzero(~np.isfinite(frame.xy).all(axis=1))
    if bad.size:
        raise InputError(f"object {bad[0]}: the position is not finite: {frame.xy[bad[0]].tolist()}")


def _repeated(stamp_ns: Int, ids: Ids) -> int | None:
    """The first row that repeats an earlier one's stamp and id."""
    order = np.lexsort((ids, stamp_ns))
    here, before = order[1:], order[:-1]
    again = here[(stamp_ns[here] == stamp_ns[before]) & (ids[here] == ids[before])]
    return int(again.min()) if again.size else None
