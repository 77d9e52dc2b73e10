"""Recordings cut into fixed windows on a time grid, as the benchmarks define them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from itertools import compress, pairwise, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.types import Bool, Float, Ids, Int, Scene


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Agents at moments. A moment is one scene at one grid time; its agents are one group.

    T = protocol.observe + protocol.predict grid points, the first `observe` of them history. Rows are
    all agents seen at the last history point: those with a complete window are `target` (scored,
    trained on), the others are there as neighbours, with what they have. Of a finer history the points
    that are protocol.step_ns apart make a window complete.

    group (A,) moment of each row, ascending; scene (A,) index into scene_names and frame_ids, the scenes'
    coordinate frames; stamp_ns (A,) time of
    the last history step; ids (A,); label (A,); xy (A, T, 2) m; valid (A, T) observed;
    yaw, yaw_valid (A, T); velocity (A, T, 2), velocity_valid (A, T); target (A,);
    m_per_px (A,) NaN where the source was not annotated in pixels.
    """

    protocol: Protocol
    scene_names: tuple[str, ...]
    frame_ids: tuple[str, ...]
    group: Int
    scene: Int
    stamp_ns: Int
    ids: Ids
    label: NDArray[np.uint8]
    xy: Float
    valid: Bool
    yaw: Float
    yaw_valid: Bool
    velocity: Float
    velocity_valid: Bool
    target: Bool
    m_per_px: Float

    def __len__(self) -> int:
        return len(self.group)

    def take(self, rows: NDArray[np.bool_] | NDArray[np.int64] | slice) -> Windows:
        """The same moments with only some of their rows; group numbers are kept."""
        return replace(self, **{name: getattr(self, name)[rows] for name in self._columns()})

    def of_interest(self, rows: Bool) -> Windows:
        """Of the targets only these rows (A,) remain; moments without any target go."""
        target = self.target & rows
        kept = np.isin(self.group, self.group[target])
        return replace(self.take(kept), target=target[kept])

    def followed_by(self, other: Windows) -> Windows:
        """The moments of both, the other's groups and scenes counted on. Both are of one protocol."""
        numbered = {
            "group": other.group + self.group.max(initial=-1) + 1,
            "scene": other.scene + len(self.scene_names),
        }
        both: dict[str, Any] = {
            name: np.concatenate([getattr(self, name), numbered.get(name, getattr(other, name))])
            for name in self._columns()
        }
        return replace(
            self,
            scene_names=self.scene_names + other.scene_names,
            frame_ids=self.frame_ids + other.frame_ids,
            **both,
        )

    @staticmethod
    def _columns() -> list[str]:
        """What there is of each row."""
        whole = ("protocol", "scene_names", "frame_ids")
        return [f.name for f in fields(Windows) if f.name not in whole]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What really was, where a recording is what a tracker made of it.

    scene: everybody, at the recording's stamps or more; ids (R,): whom of the scene each row of the recording
    shows, empty where it shows nothing.
    """

    scene: Scene
    ids: Ids


@dataclass(frozen=True, slots=True)
class DataSource:
    """What a data name stands for: recordings, and how they are scored.

    streamed: the scenes are played from start to end and each prediction is scored against the scene's own
    later rows (logs, tables); otherwise they are cut into windows by `protocol`. scored_labels: only agents
    of these classes are scored, all if there are none. truth: of each scene, where it is known apart from
    what was recorded; then futures are the true ones.
    """

    name: str
    scenes: tuple[Scene, ...]
    protocol: Protocol
    streamed: bool = False
    scored_labels: tuple[int, ...] = ()
    truth: tuple[Truth, ...] = ()

    @property
    def listed(self) -> str:
        """The names of its recordings, the first twenty, as an error says them."""
        return ", ".join(scene.name for scene in self.scenes[:20]) or "none at all"

    def reversed(self) -> DataSource:
        """The same recordings played backwards. Raises InputError where there is a truth apart from them."""
        if self.truth:
            raise InputError(f"{self.name}: a tracker's faults cannot be played backwards")
        return replace(self, scenes=tuple(scene.reversed() for scene in self.scenes))

    def without(self, names: Sequence[str]) -> DataSource:
        """The recordings but for those of these names, or patterns of names as of files: biwi_*, quad/*."""
        kept = [not any(fnmatchcase(scene.name, name) for name in names) for scene in self.scenes]
        scenes, truth = tuple(compress(self.scenes, kept)), tuple(compress(self.truth, kept))
        return replace(self, scenes=scenes, truth=truth)


def on_grid(scene: Scene, step_ns: int, *, together: bool = False, gap_max_ns: int | None = None) -> Scene:
    """Every track interpolated linearly in time onto step_ns, counted from the track's first stamp.

    For recordings whose clock jitters or does not divide the grid. together: counted from the scene's first
    stamp, so that tracks share their moments. Between observations farther apart than gap_max_ns a track has
    no points. Classes are those of the track's first row; yaw, velocity and size are
    left out, since they have no agreed interpolation.
    """
    if not len(scene):
        return scene
    names, first, track = np.unique(scene.ids, return_index=True, return_inverse=True)
    order = np.lexsort((scene.stamp_ns, track))
    bounds = np.append(np.flatnonzero(np.diff(track[order], prepend=-1)), len(scene))
    stamps, points, lengths = [], [], []
    for start, end in pairwise(bounds.tolist()):
        rows = order[start:end]
        at = scene.stamp_ns[rows]
        late = (scene.stamp_ns[0] - at[0]) % step_ns if together else 0
        grid = np.arange(at[0] + late, at[-1] + 1, step_ns)
        if gap_max_ns is not None:
            after = np.searchsorted(at, grid)  # the first observation that is not before
            grid = grid[(at[after] == grid) | (at[after] - at[after - 1] <= gap_max_ns)]
        seconds, wanted = (at - at[0]) * 1e-9, (grid - at[0]) * 1e-9
        points.append(np.stack([np.interp(wanted, seconds, scene.xy[rows, i]) for i in (0, 1)], axis=1))
        stamps.append(grid)
        lengths.append(len(grid))
    return Scene.build(
        scene.name,
        np.concatenate(stamps),
        np.repeat(names, lengths),
        np.concatenate(points),
        label=np.repeat(scene.label[first], lengths),
        frame_id=scene.frame_id,
        m_per_px=scene.m_per_px,
    )


def cut(scenes: tuple[Scene, ...], protocol: Protocol, truth: tuple[Truth, ...] = ()) -> Windows:
    """Slide a window over every scene.

    Rows off the time grid, which starts at each scene's first stamp, are left out. With the truth of each
    scene, histories are as recorded and futures are true: a window is complete if it was seen at the end of
    its history, and its future is in the truth. Raises InputError if no scene holds a single complete window.
    """
    parts: list[dict[str, NDArray[np.generic]]] = []
    group0 = 0
    for scene_index, (scene, true) in enumerate(zip_longest(scenes, truth)):
        part = _cut_scene(scene, protocol, true)
        if part is None:
            continue
        count = int(part["group"].max()) + 1
        part["group"] = part["group"] + group0
        part["scene"] = np.full(len(part["group"]), scene_index)
        group0 += count
        parts.append(part)
    if not parts:
        steps = protocol.coarse.observe + protocol.predict
        names = ", ".join(s.name for s in scenes[:3])
        raise InputError(f"no window of {steps} steps of {protocol.step_ns / 1e9} s in {names or 'no scene'}")
    arrays = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    return Windows(
        protocol=protocol,
        scene_names=tuple(scene.name for scene in scenes),
        frame_ids=tuple(scene.frame_id for scene in scenes),
        **arrays,
    )


def _cut_scene(scene: Scene, protocol: Protocol, true: Truth | None) -> dict[str, NDArray[np.generic]] | None:
    """One scene's windows as the fields of Windows, group counted from 0; None if there are none."""
    if not len(scene):
        return None
    last_seen, columns = protocol.observe - 1, np.array(protocol.columns)
    begins_ns = int((true.scene if true else scene).stamp_ns[0])
    _, table = _by_track(scene, protocol, begins_ns)
    seen = table != 0
    now = np.flatnonzero(seen.any(axis=0))  # candidates for "the last history step"
    start = now - last_seen
    start = start[(start >= 0) & (start % protocol.stride == 0)]
    if not start.size:
        return None
    past, ahead = columns[: last_seen + 1], columns[last_seen + 1 :]
    if true is None:
        future, table_ahead, follows = (
            scene,
            table,
            np.broadcast_to(np.arange(len(table))[:, None], table.shape),
        )
        needed = past[(past - last_seen) % protocol.fine == 0]
    else:
        future, needed = true.scene, past[-1:]
        names, table_ahead = _by_track(true.scene, protocol, begins_ns)
        whom = np.append(_rows_of(true.ids, names), -1)  # the row before the first is nobody
        follows = whom[table - 1]
    complete = np.ones((len(table), len(start)), bool)  # (tracks, moments)
    for column in needed.tolist():
        complete &= seen[:, start + column]
    followed = follows[:, start + last_seen]
    complete &= followed >= 0
    width = table_ahead.shape[1]
    for column in ahead.tolist():
        complete &= table_ahead[followed, np.minimum(start + column, width - 1)] != 0
    keep = complete.sum(axis=0) >= max(protocol.min_tracks, 1)
    start, complete, followed = start[keep], complete[:, keep], followed[:, keep]
    present = seen[:, start + last_seen]
    moment, agent = np.nonzero(present.T)
    if not moment.size:
        return None
    begin = start[moment][:, None]
    picked = table[agent[:, None], begin + past] - 1  # (A, observe)
    whom = followed[agent, moment]
    picked_ahead = table_ahead[whom[:, None], np.minimum(begin + ahead, width - 1)] - 1  # (A, predict)
    picked_ahead[whom < 0] = -1
    valid = np.hstack([picked, picked_ahead]) >= 0

    def both(name: str) -> NDArray[Any]:
        """(A, T, ...) of a column; any value where there is none."""
        return np.concatenate([getattr(scene, name)[picked], getattr(future, name)[picked_ahead]], axis=1)

    last = picked[:, last_seen]
    mask2 = valid[..., None]
    return {
        "group": moment,
        "scene": np.zeros(len(moment), np.int64),
        "stamp_ns": scene.stamp_ns[last],
        "ids": scene.ids[last],
        "label": scene.label[last],
        "xy": np.where(mask2, both("xy"), 0.0),
        "valid": valid,
        "yaw": np.where(valid, both("yaw"), 0.0),
        "yaw_valid": valid & both("yaw_valid"),
        "velocity": np.where(mask2, both("velocity"), 0.0),
        "velocity_valid": valid & both("velocity_valid"),
        "target": complete.T[moment, agent],
        "m_per_px": np.full(len(moment), np.nan if scene.m_per_px is None else scene.m_per_px),
    }


def _by_track(scene: Scene, protocol: Protocol, begins_ns: int) -> tuple[Ids, Int]:
    """The scene's ids, and (tracks, grid) the row + 1 of each at each grid point, 0 where there is none."""
    step_ns = protocol.step_ns
    since = scene.stamp_ns - begins_ns
    index = np.rint(since * (protocol.fine / step_ns)).astype(np.int64)
    # A grid point is a stamp within a hundredth of a step: data sets round their stamps.
    rows = np.flatnonzero(np.abs(since - index * step_ns // protocol.fine) * 100 <= step_ns)
    index = index[rows]
    names, track = np.unique(scene.ids[rows], return_inverse=True)
    length = int(index.max(initial=-1)) + 1
    table = np.zeros((len(names), length + protocol.columns[-1] + 1), np.int64)
    table[track, index] = rows + 1
    return names, table


def _rows_of(ids: Ids, names: Ids) -> Int:
    """(R,) where each id is among the sorted names, -1 where it is not."""
    at = np.minimum(np.searchsorted(names, ids), len(names) - 1)
    return np.where(names[at] == ids, at, -1)
