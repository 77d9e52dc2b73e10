"""Windows as training batches: augmented, folded into step features, with neighbours, as tensors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils.data import IterableDataset

from trajpred.config import ModelConfig, NeighbourConfig, TrainingConfig
from trajpred.errors import InputError
from trajpred.features import FEATURES, History, fold, neighbours, to_agent, to_map
from trajpred.learn.model import COASTING, Grid, Inputs, coast
from trajpred.place import Place, nowhere
from trajpred.types import Bool, Float, Float32, Int
from trajpred.windows import Windows

FLAGS = ("turn_cos", "moved", "oriented", "tracker_velocity_valid", "tracker_yaw_valid")
"""Features that are not normalised."""
STANDING = 3.0
"""Whose speed is less than about so many times ModelConfig.speed_floor_mps, stands or is about to."""


class Batch(NamedTuple):
    """The model's inputs and the truth (M, S, 2) m in the frames of the decoded agents."""

    inputs: Inputs
    truth: Tensor


def fold_windows(windows: Windows) -> History:
    """The history part of each window as step features; windows are on a time grid."""
    past = windows.protocol.observe
    return fold(
        np.array(windows.protocol.past_ns),
        windows.xy[:, :past],
        windows.valid[:, :past],
        windows.yaw[:, :past],
        windows.yaw_valid[:, :past],
        windows.velocity[:, :past],
        windows.velocity_valid[:, :past],
    )


class Moved(NamedTuple):
    """What augmentation did to the plane that each of A rows is in: mirrored, scaled, then turned, rad."""

    mirrored: Bool
    scale: Float
    turn: Float

    def take(self, rows: Bool) -> Moved:
        """Of some of the rows."""
        return Moved(self.mirrored[rows], self.scale[rows], self.turn[rows])


def make_batch(
    windows: Windows, near: NeighbourConfig, place: Place | None = None, moved: Moved | None = None
) -> Batch:
    """Windows (whole moments, A rows), moved or not -> a batch whose decoded agents are the targets."""
    if near.count == 0:  # nobody looks at the others
        moved = moved and moved.take(windows.target)
        windows = windows.take(windows.target)
    history = fold_windows(windows)
    motion = history.motion
    select = np.flatnonzero(windows.target)
    seen = neighbours(motion, windows.group, select, near.count, near.radius_m)
    inputs = Inputs(
        steps=torch.from_numpy(history.steps),
        mask=torch.from_numpy(history.mask),
        label=torch.from_numpy(windows.label.astype(np.int64)),
        speed=torch.from_numpy(motion.speed.astype(np.float32)),
        select=torch.from_numpy(select),
        near_rows=torch.from_numpy(seen.rows),
        near_mask=torch.from_numpy(seen.mask),
        near_relation=torch.from_numpy(seen.relation),
        place=torch.from_numpy(_whereabouts(windows, history, select, place, moved)),
    )
    return Batch(inputs, torch.from_numpy(_truth(windows, history, select).astype(np.float32)))


def _whereabouts(
    windows: Windows, history: History, select: Int, place: Place | None, moved: Moved | None
) -> Float32:
    """(M, P); zeros where nobody is in the place, or mirrored: people do not go on the wrong side there."""
    if place is None:
        return nowhere(len(select))
    known = _in_frame(windows, place.frame_id)[select]
    xy, heading = history.motion.xy[select], history.motion.heading[select]
    if moved is None:
        told = place.whereabouts(xy, heading, windows.label[select])
    else:  # who is trained on was seen by training
        known &= ~moved.mirrored[select]
        xy = to_agent(xy, moved.turn[select]) / moved.scale[select, None]
        told = place.waves(xy, heading - moved.turn[select])
    return np.where(known[:, None], told, np.float32(0.0))


def _in_frame(windows: Windows, frame_id: str) -> Bool:
    """(A,) whose scene is in this coordinate frame."""
    here: Bool = (np.array(windows.frame_ids) == frame_id)[windows.scene]
    return here


def _truth(windows: Windows, history: History, select: Int) -> Float:
    """(M, S, 2) m, the futures in the agents' frames."""
    motion = history.motion
    ahead = windows.xy[select, windows.protocol.observe :] - motion.xy[select, None]
    return to_agent(ahead, motion.heading[select, None])


def hide_neighbours(batch: Batch, share: float, rng: Generator) -> Batch:
    """From this share of the agents, each neighbour with a probability that is drawn for the agent.

    A place may be more crowded than any in training, or its tracker miss more: what an agent makes of its
    own history has to stand by itself.
    """
    mask = batch.inputs.near_mask
    agents, count = mask.shape
    hidden = np.where(rng.random(agents) < share, np.sqrt(rng.random(agents)), 0.0)
    kept = torch.from_numpy(rng.random((agents, count)) >= hidden[:, None])
    return batch._replace(inputs=batch.inputs._replace(near_mask=mask & kept))


def some_moments(windows: Windows, rows: int, rng: Generator) -> Windows:
    """About so many rows, as whole moments drawn at random; all windows if there are no more."""
    if len(windows) <= rows:
        return windows
    groups = np.unique(windows.group)
    drawn = rng.choice(groups, max(1, len(groups) * rows // len(windows)), replace=False)
    return windows.take(np.isin(windows.group, drawn))


def fit_grid(windows: Windows, config: ModelConfig, seed: int) -> Grid:
    """Normalisation, the basis of futures and the anchors, from the training windows."""
    history = fold_windows(windows)
    select = np.flatnonzero(windows.target)
    mean, std = _normalisation(history)
    truth = _truth(windows, history, select)
    offset_s = torch.tensor(windows.protocol.offset_s)
    truth -= COASTING * coast(torch.from_numpy(history.steps[select]), offset_s).numpy()
    scale = np.sqrt(history.motion.speed[select] ** 2 + config.speed_floor_mps**2)
    futures = (truth / scale[:, None, None]).reshape(len(truth), -1)
    rank = min(config.basis, futures.shape[1], len(futures))
    _, _, basis = np.linalg.svd(futures[:: max(1, len(futures) // 50_000)], full_matrices=False)
    basis = basis[:rank]
    numbers = futures @ basis.T
    # Those who stand go far in units of their speed: a centre for them would serve nobody else.
    moving = scale > STANDING * config.speed_floor_mps
    rows = moving if np.count_nonzero(moving) >= config.modes else np.ones_like(moving)
    anchors = _cluster(numbers[rows], scale[rows], config.modes, np.random.default_rng(seed))
    return Grid(
        mean=torch.from_numpy(mean),
        std=torch.from_numpy(std),
        offset_s=offset_s,
        basis=torch.from_numpy(basis.reshape(rank, -1, 2).astype(np.float32)),
        anchors=torch.from_numpy(anchors.astype(np.float32)),
        centre=torch.from_numpy(np.median(numbers, axis=0).astype(np.float32)),
    )


def fit_place(windows: Windows, frame_id: str, known: Place | None = None) -> Place:
    """The place that the targets of a coordinate frame are in; what is known of it already is kept.

    What is known of another site whose frame has the same name is not: there the middle is out of its reach.
    Raises InputError where there is nobody.
    """
    there = windows.take(windows.target & _in_frame(windows, frame_id))
    if not len(there):
        names = ", ".join(sorted(set(windows.frame_ids) - {""}))
        raise InputError(f"model.place {frame_id!r}: nobody is trained on in that frame; there are: {names}")
    motion = fold_windows(there).motion
    poses = motion.xy, motion.heading, there.label
    place = Place.of(frame_id, *poses)
    if known is None or known.frame_id != frame_id:
        return place
    apart = np.hypot(known.x_m - place.x_m, known.y_m - place.y_m)
    return known.seeing(*poses) if apart <= known.reach_m else place


def _normalisation(history: History) -> tuple[Float32, Float32]:
    rows = history.steps[history.mask]
    mean, std = rows.mean(axis=0), np.maximum(rows.std(axis=0), 0.1)
    flags = [FEATURES.index(name) for name in FLAGS]
    mean[flags], std[flags] = 0.0, 1.0
    return mean, std


def _cluster(points: Float, scale: Float, count: int, rng: Generator, rounds: int = 30) -> Float:
    """(P, D), (P,) -> (count, D) centres of least mean distance in metres: what training minimises.

    Each point counts by its scale, which turns its distance back into metres: else those who start from
    standstill, whose futures are long in units of their speed, would take most of the centres. Not by the
    squares of the distances, as k-means has it: there a single jump of a tracker takes a centre for itself.
    Started as k-means++ is; a centre moves to the geometric median of those nearest to it (Weiszfeld).
    """
    some = rng.permutation(len(points))[:20_000]
    points, scale = points[some], scale[some]
    centres = points[:0]
    gap = np.ones(len(points))
    for _ in range(count):
        share = scale * gap
        total = share.sum()
        share = share / total if total > 0 else np.full(len(points), 1.0 / len(points))
        centres = np.concatenate([centres, points[rng.choice(len(points), 1, p=share)]])
        last = np.sqrt(((points - centres[-1]) ** 2).sum(1))
        gap = np.minimum(gap, last) if len(centres) > 1 else last
    for _ in range(rounds):
        square = (centres**2).sum(1) - 2.0 * points @ centres.T + (points**2).sum(1)[:, None]
        nearest = square.argmin(axis=1)
        weight = scale / np.sqrt(np.maximum(square.min(axis=1), 1e-6))
        size = np.bincount(nearest, weight, count)[:, None]
        total = np.stack([np.bincount(nearest, weight * column, count) for column in points.T], axis=1)
        centres = np.divide(total, size, out=centres.copy(), where=size > 0)
    return centres


def augment(windows: Windows, how: TrainingConfig, rng: Generator) -> tuple[Windows, Moved]:
    """Turn, mirror, scale, bend, thin and silence whole moments at random; blur and shorten histories.

    Features do not change under a turn, except for an agent seen once, whose heading is not known:
    turning keeps the model from learning the recording site's main direction.
    """
    _, moment = np.unique(windows.group, return_inverse=True)
    moments = int(moment.max()) + 1
    if how.bend_per_m:
        windows = _bend(windows, how.bend_per_m * rng.normal(size=moments)[moment])
    turn = rng.uniform(-np.pi, np.pi, moments)[moment]
    mirrored = (how.flip & (rng.random(moments) < 0.5))[moment]
    mirror = np.where(mirrored, -1.0, 1.0)
    scale = np.exp(rng.uniform(-how.scale_range, how.scale_range, moments))[moment]

    def moved(vectors: Float) -> Float:
        """(A, T, 2) scaled, mirrored, turned."""
        x, y = (scale * vectors[..., 0].T).T, (scale * mirror * vectors[..., 1].T).T
        return to_map(np.stack([x, y], axis=-1), turn[:, None])

    past = windows.protocol.observe
    xy = windows.xy.copy()
    if how.noise_m:  # what was seen is blurred, what then happens is not
        blur = rng.uniform(0.0, how.noise_m, len(xy))[:, None, None]
        xy[:, :past] += blur * rng.normal(size=(len(xy), past, 2))
    valid = windows.valid.copy()
    shortened = rng.random(len(windows)) < how.history_dropout
    hidden = np.where(shortened, rng.integers(1, max(past, 2), len(windows)), 0)
    valid[:, :past] &= np.arange(past) >= hidden[:, None]
    # In proportion to itself: a history at a high rate tells little more and takes as much longer.
    rates = np.arange(how.keep_every[0], how.keep_every[1] + 1)
    every = rng.choice(rates, moments, p=rates / rates.sum())[moment]
    # Every n-th, counted back from now. What nobody saw just after was not recorded on the fine grid.
    kept = (past - 1 - np.arange(past)) % every[:, None] == 0
    kept[:, :-1] |= ~valid[:, 1:past]
    valid[:, :past] &= kept
    yaw_valid, velocity_valid = windows.yaw_valid, windows.velocity_valid
    if how.tracker_dropout:
        told = (rng.random(moments) >= how.tracker_dropout)[moment][:, None]
        yaw_valid, velocity_valid = yaw_valid & told, velocity_valid & told
    after = replace(
        windows,
        xy=moved(xy),
        valid=valid,
        yaw=mirror[:, None] * windows.yaw + turn[:, None],
        yaw_valid=yaw_valid,
        velocity=moved(windows.velocity),
        velocity_valid=velocity_valid,
    )
    return after, Moved(mirrored, scale, turn)


def _bend(windows: Windows, curvature: Float) -> Windows:
    """Turn each displacement by the curvature (A,) 1/m times the way to it: a straight track is an arc.

    Only where the whole window was seen. What the tracker said of direction is dropped there.
    """
    now = windows.protocol.observe - 1
    whole = np.asarray(windows.valid.all(axis=1))
    step = np.diff(windows.xy, axis=1)
    turn = curvature[:, None] * np.hypot(step[..., 0], step[..., 1])
    angle = np.cumsum(turn, axis=1) - 0.5 * turn
    angle -= angle[:, now, None]
    bent = np.zeros_like(windows.xy)
    bent[:, 1:] = np.cumsum(to_map(step, angle), axis=1)
    bent += (windows.xy[:, now] - bent[:, now])[:, None]
    return replace(
        windows,
        xy=np.where(whole[:, None, None], bent, windows.xy),
        yaw_valid=windows.yaw_valid & ~whole[:, None],
        velocity_valid=windows.velocity_valid & ~whole[:, None],
    )


class Batches(IterableDataset[Batch]):
    """Batches of whole moments with about `agents` targets each; shuffled and augmented for training."""

    def __init__(
        self,
        windows: Windows,
        near: NeighbourConfig,
        training: TrainingConfig | None,
        place: Place | None = None,
    ) -> None:
        """What the model sees is near and place; training is None for val: no shuffling, nothing changed."""
        self._windows = windows
        self._near = near
        self._place = place
        self._training = training
        self._agents = training.batch_agents if training else 2048
        self.epoch = 0
        _, first, self._moment = np.unique(windows.group, return_index=True, return_inverse=True)
        self._bounds = np.append(first, len(windows))
        self._targets = np.bincount(self._moment, windows.target).astype(np.int64)

    def __len__(self) -> int:
        return max(1, round(int(self._targets.sum()) / self._agents))

    def __deepcopy__(self, _memo: object) -> Batches:
        """Itself: who averages weights copies all that holds them, and windows take gigabytes."""
        return self

    def __iter__(self) -> Iterator[Batch]:
        order = np.arange(len(self._targets))
        rng = np.random.default_rng([self._training.seed if self._training else 0, self.epoch])
        if self._training:
            rng.shuffle(order)
        share = np.cumsum(self._targets[order]) / self._targets.sum()
        batch = np.minimum((share * len(self)).astype(np.int64), len(self) - 1)
        for moments in np.split(order, np.flatnonzero(np.diff(batch)) + 1):
            rows = np.concatenate([np.arange(self._bounds[m], self._bounds[m + 1]) for m in moments])
            windows = self._windows.take(rows)
            # Groups are renumbered in the shuffled order, since rows of a group must stay together.
            windows = replace(
                windows, group=np.repeat(np.arange(len(moments)), np.diff(self._bounds)[moments])
            )
            moved = None
            if self._training:
                windows, moved = augment(windows, self._training, rng)
            if windows.target.any():
                batch = make_batch(windows, self._near, self._place, moved)
                share = self._training.neighbour_dropout if self._training else 0.0
                yield hide_neighbours(batch, share, rng) if share else batch
