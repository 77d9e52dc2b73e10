"""Scores of multi-modal predictions, as the Argoverse 2, nuScenes and Waymo benchmarks define them.

Two stages: `score` turns a batch into a few numbers per agent, `summarise` turns any number of
scored batches into means. A log of any length is so scored batch by batch, and how it was cut into
batches changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trajpred.calibration import (
    expected_calibration_error,
    mixture_nll,
    region_share,
    reliability_bins,
    reliability_counts,
)
from trajpred.errors import InputError
from trajpred.types import Bool, Float, Int, Label

TOP_K = (5, 6, 10, 20)
MISS_M = 2.0
"""Argoverse 2 (at the last step) and nuScenes (at any step): farther off than this is a miss."""
WAYMO_MISS_S = (3.0, 5.0, 8.0)
WAYMO_LATERAL_M = (1.0, 1.8, 3.0)
WAYMO_LONGITUDINAL_M = (2.0, 3.6, 6.0)
WAYMO_SPEED_MPS = (1.4, 11.0)
WAYMO_SPEED_SCALE = (0.5, 1.0)
MOVING_MIN_M = 2.0
"""An agent that ends farther than this from where its window starts is counted as moving, else as waiting."""
HEADING_MIN_MPS = 0.3
"""A true step slower than this gives no heading: at standstill a displacement is noise."""
STILL_MPS = 0.5
"""Slower than this is standing still."""
SPEED_OVER_S = 0.35
"""A true speed is a mean over at least this time, where that much is known: over less it is mostly noise."""
START_MPS2 = 2.0
"""Nobody starts faster: what is too far away too soon to have stood still now did not, whatever
Batch.speed says, which is 0 for what has just been seen for the first time."""
STAY_MAX_M = 0.5
"""An agent that is still now or at the end and stays within this of where it is now is waiting: a speed at
the other end is noise, or the last bit of a stop."""
DIRECTION_OVER_M = 1.0
"""A direction of travel is that of a displacement of at least this."""
TURN_MIN_RAD = np.deg2rad(30.0)
"""An agent that ends in a direction that differs more than this from the one it sets out in is turning."""

METRICS = (
    "ade_single",
    "fde_single",
    "ade_1",
    "fde_1",
    *(f"min_{error}_{k}" for k in TOP_K for error in ("ade", "fde")),
    "miss_rate_av2",
    "miss_rate_nuscenes_5",
    "miss_rate_nuscenes_10",
    "miss_rate_waymo",
    "brier_min_fde",
    "nll",
    "coverage_50",
    "coverage_90",
)
"""What is scored per agent: single is the predictor's own choice of one path, 1 the most probable
path. `summarise` adds calibration_error, which only a group of agents has."""
LENGTHS = tuple(name for name in METRICS if name.startswith(("ade_", "fde_", "min_")))
HORIZON_ERRORS = ("error_single", "error_1", "min_error_6", "min_error_20")
INTERVALS = (
    "ade_single",
    "fde_single",
    "ade_1",
    "fde_1",
    "min_ade_6",
    "min_fde_6",
    "min_ade_20",
    "min_fde_20",
)


class MotionType(IntEnum):
    """How an agent moves from now to the end of its truth, see motion_type."""

    MOVING = 0
    STARTING = 1
    STOPPING = 2
    WAITING = 3
    TURNING = 4


_CHUNK = 512  # agents scored at once: bounds the memory of `score` whatever the batch


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Predictions and what then happened, one row per agent. All positions share one fixed frame.

    paths (N, K, T, 2) m; probability (N, K) not negative, scaled to sum to 1 over the valid modes;
    mode_valid (N, K), at least one per agent, others never count; spread (N, K, T) m, standard
    deviation of each coordinate; single (N, T, 2) m, the one path to use; truth (N, T, 2) m;
    truth_valid (N, T), other steps never count;
    offset_s (T,) s after now, ascending, > 0; start (N, 2) m, where the agent was first observed in its
    window; origin (N, 2) m, heading (N,) rad and speed (N,) m/s now;
    label (N,) uint8; track (N,) int64: the track that the window was cut from, one number across
    all batches; m_per_px (N,) NaN where the source was not annotated in pixels.

    Raises InputError if shapes disagree.
    """

    paths: Float
    probability: Float
    mode_valid: Bool
    spread: Float
    single: Float
    truth: Float
    truth_valid: Bool
    offset_s: Float
    start: Float
    origin: Float
    heading: Float
    speed: Float
    label: NDArray[np.uint8]
    track: Int
    m_per_px: Float

    def __post_init__(self) -> None:
        if self.paths.ndim != 4 or 0 in self.paths.shape[1:]:
            raise InputError(f"Batch.paths has shape {self.paths.shape}, expected (N, K > 0, T > 0, 2)")
        n, k, t, _ = self.paths.shape
        expected: dict[str, tuple[int, ...]] = {
            "paths": (n, k, t, 2),
            "probability": (n, k),
            "mode_valid": (n, k),
            "spread": (n, k, t),
            "single": (n, t, 2),
            "truth": (n, t, 2),
            "truth_valid": (n, t),
            "offset_s": (t,),
            "start": (n, 2),
            "origin": (n, 2),
        }
        for field in fields(self):
            found, wanted = getattr(self, field.name).shape, expected.get(field.name, (n,))
            if found != wanted:
                raise InputError(f"Batch.{field.name} has shape {found}, expected {wanted}")
        if not (np.diff(self.offset_s, prepend=0.0) > 0.0).all():
            raise InputError(f"Batch.offset_s must be positive and ascending, found {self.offset_s}")

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Bool | Int | slice) -> Batch:
        """Only some agents (mask, indices or slice)."""
        kept = {f.name: getattr(self, f.name)[rows] for f in fields(self) if f.name != "offset_s"}
        return Batch(offset_s=self.offset_s, **kept)


@dataclass(frozen=True, slots=True, eq=False)
class AgentScores:
    """What `score` found, one row per agent.

    values (N, len(METRICS)): metres, nats, and 0 or 1 for misses and coverage; horizon_s (H,) s;
    horizon_error (N, H, 4) m, in the order of HORIZON_ERRORS; horizon_valid (N, H);
    reliability (N, RELIABILITY_BINS, 3), see calibration.reliability_counts; moving (N,), see is_moving;
    motion (N,) uint8, see MotionType; label, track and m_per_px (N,) as in Batch. excluded: agents left
    out of the rows, since none of their true positions is known.
    """

    values: Float
    horizon_s: Float
    horizon_error: Float
    horizon_valid: Bool
    reliability: Float
    moving: Bool
    motion: NDArray[np.uint8]
    label: NDArray[np.uint8]
    track: Int
    m_per_px: Float
    excluded: int

    def __len__(self) -> int:
        return len(self.values)

    def column(self, name: str) -> Float:
        """(N,) values of one of METRICS."""
        column: Float = self.values[:, METRICS.index(name)]
        return column

    def take(self, rows: Bool | Int | slice) -> AgentScores:
        """Only some agents (mask, indices or slice); those excluded are in no selection."""
        kept = {f.name: getattr(self, f.name)[rows] for f in _per_agent()}
        return AgentScores(horizon_s=self.horizon_s, excluded=0, **kept)

    @staticmethod
    def concatenate(parts: Sequence[AgentScores]) -> AgentScores:
        """All agents of several batches, in order.

        Raises InputError if there is no batch, or if the batches were not predicted on one time grid.
        """
        if not parts:
            raise InputError("no batch was scored: the source holds no agent with a prediction")
        first = parts[0].horizon_s
        for part in parts:
            if not np.array_equal(part.horizon_s, first):
                raise InputError(
                    f"batches are scored at {first} s and at {part.horizon_s} s: "
                    "score predictions of different time grids apart"
                )
        joined = {f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in _per_agent()}
        return AgentScores(horizon_s=first, excluded=sum(p.excluded for p in parts), **joined)


def _per_agent() -> Iterator[Any]:
    return (f for f in fields(AgentScores) if f.name not in ("horizon_s", "excluded"))


def displacement(paths: Float, truth: Float) -> Float:
    """(N, K, T, 2) paths, (N, T, 2) truth -> (N, K, T) distance at each step, in their unit."""
    delta = paths - truth[:, None]
    distance: Float = np.hypot(delta[..., 0], delta[..., 1])
    return distance


def average_error(distance: Float, truth_valid: Bool) -> Float:
    """(N, K, T) distances, (N, T) with a valid step per agent -> (N, K) ADE, mean over valid steps."""
    ade: Float = np.mean(distance, axis=2, where=truth_valid[:, None])
    return ade


def final_error(distance: Float, truth_valid: Bool) -> Float:
    """(N, K, T) distances, (N, T) with a valid step per agent -> (N, K) FDE, at the last valid step."""
    return distance[np.arange(len(distance)), :, last_step(truth_valid)]


def largest_error(distance: Float, truth_valid: Bool) -> Float:
    """(N, K, T) distances, (N, T) -> (N, K) the largest over the valid steps."""
    largest: Float = np.max(distance, axis=2, where=truth_valid[:, None], initial=0.0)
    return largest


def last_step(valid: Bool) -> Int:
    """(N, T) -> (N,) index of the last True; T - 1 where there is none."""
    last: Int = valid.shape[1] - 1 - valid[:, ::-1].argmax(axis=1)
    return last


def best_of(error: Float, k: int) -> Float:
    """(N, K, ...) errors by falling probability -> (N, ...) least of the first k, of all K if fewer."""
    best: Float = error[:, :k].min(axis=1)
    return best


def brier_min_fde(fde: Float, probability: Float) -> Float:
    """(N, K) FDE and probability of the modes kept -> (N,) least FDE + (1 - that mode's p)^2.

    Argoverse 2 demands that the probabilities of the (at most 6) submitted modes sum to 1, so they
    are scaled to do so here. Not all of an agent's may be 0.
    """
    agent, best = np.arange(len(fde)), fde.argmin(axis=1)
    share = probability[agent, best] / probability.sum(axis=1)
    brier: Float = fde[agent, best] + np.square(1.0 - share)
    return brier


def is_moving(start: Float, end: Float) -> Bool:
    """(N, 2) first positions of windows, (N, 2) last true ones -> (N,) farther apart than MOVING_MIN_M."""
    moving: Bool = np.hypot(*(end - start).T) > MOVING_MIN_M
    return moving


def true_heading(batch: Batch) -> Float:
    """(N,) rad: direction of the truth when it last moved, or the current heading if it never did.

    To move is to be faster than HEADING_MIN_MPS between successive valid positions, the current
    one included.
    """
    points, seen, time_s = _true_points(batch)
    agent = np.arange(len(batch))
    # (N, T) index of the last position seen before each step
    before = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), 0), axis=1)[:, :-1]
    shift = points[:, 1:] - points[agent[:, None], before]
    moved = np.hypot(shift[..., 0], shift[..., 1]) > HEADING_MIN_MPS * (time_s[1:] - time_s[before])
    moved &= batch.truth_valid
    x, y = shift[agent, last_step(moved)].T
    heading: Float = np.where(moved.any(axis=1), np.arctan2(y, x), batch.heading)
    return heading


def motion_type(batch: Batch) -> NDArray[np.uint8]:
    """(N,) MotionType of agents that all have a valid step: the first of these that fits.

    waiting: still now and at the end and never farther than MOVING_MIN_M from here, or still at one of the
    two and never farther than STAY_MAX_M;
    starting: still now, but not at the end, or not on the way to more than MOVING_MIN_M from here;
    stopping: still only at the end;
    turning: the truth ends in a direction that is more than TURN_MIN_RAD off the one it sets out in;
    moving: the rest.

    Still is slower than STILL_MPS by the truth; now, slower than that by Batch.speed is enough, if the agent
    is soon no farther than START_MPS2 explains. The past does not count, unlike in is_moving: an agent that
    walked up and now stands is waiting.
    """
    points, _, _ = _true_points(batch)
    agent, last = np.arange(len(batch)), last_step(batch.truth_valid)
    away = _distance(points, batch.origin)[:, 1:]  # (N, T), 0 where not known
    farthest, speed = away.max(axis=1), true_speed(batch)
    lasting = batch.truth_valid & (batch.offset_s >= SPEED_OVER_S)
    soon = np.where(lasting.any(axis=1), lasting.argmax(axis=1), last)
    soon_s = batch.offset_s[soon]
    gain = np.where(batch.speed < STILL_MPS, START_MPS2 * soon_s / 2, 0.0)

    still_now = away[agent, soon] < (STILL_MPS + gain) * soon_s
    still_later = speed[agent, last] < STILL_MPS
    went = (farthest > MOVING_MIN_M) & (speed.max(axis=1) >= STILL_MPS)
    stay_max = np.where(still_now & still_later, MOVING_MIN_M, STAY_MAX_M)
    types = {
        MotionType.WAITING: (still_now | still_later) & (farthest <= stay_max),
        MotionType.STARTING: still_now & (~still_later | went),
        MotionType.STOPPING: ~still_now & still_later,
        MotionType.TURNING: np.abs(true_turn(batch)) > TURN_MIN_RAD,
    }
    return np.select(list(types.values()), list(types), MotionType.MOVING).astype(np.uint8)


def true_speed(batch: Batch) -> Float:
    """(N, T) m/s at each valid step, 0 at others: the mean since the last known position SPEED_OVER_S before.

    Where none is known that long before, it is the mean since now.
    """
    points, seen, time_s = _true_points(batch)
    early = np.searchsorted(time_s, time_s[1:] - SPEED_OVER_S, side="right") - 1
    known = np.maximum.accumulate(np.where(seen, np.arange(seen.shape[1]), 0), axis=1)
    before = known[:, np.maximum(early, 0)]  # (N, T)
    shift = points[:, 1:] - points[np.arange(len(batch))[:, None], before]
    speed = np.hypot(shift[..., 0], shift[..., 1]) / (time_s[1:] - time_s[before])
    return np.where(batch.truth_valid, speed, 0.0)


def true_turn(batch: Batch) -> Float:
    """(N,) rad in [-pi, pi]: from the direction in which the truth sets out to the one in which it ends.

    The first leads from here to the first position DIRECTION_OVER_M away, or is the heading now if there is
    none; the last leads to the end from the last position that far from it. 0 if there is none.
    """
    points, seen, _ = _true_points(batch)
    agent = np.arange(len(batch))
    end = points[agent, last_step(seen)]
    off = seen & (_distance(points, batch.origin) >= DIRECTION_OVER_M)
    heading = np.cos(batch.heading), np.sin(batch.heading)
    x, y = np.where(off.any(axis=1), (points[agent, off.argmax(axis=1)] - batch.origin).T, heading)
    off = seen & (_distance(points, end) >= DIRECTION_OVER_M)
    end_x, end_y = np.where(off.any(axis=1), (end - points[agent, last_step(off)]).T, (x, y))
    turn: Float = np.arctan2(x * end_y - y * end_x, x * end_x + y * end_y)
    return turn


def _true_points(batch: Batch) -> tuple[Float, Bool, Float]:
    """(N, T + 1, 2) m where each agent is, now first, (N, T + 1) whether that is known, (T + 1,) s after now.

    What is not known is where it is now.
    """
    seen = np.concatenate([np.ones((len(batch), 1), bool), batch.truth_valid], axis=1)
    points = np.concatenate([batch.origin[:, None], batch.truth], axis=1)
    points = np.where(seen[..., None], points, batch.origin[:, None])
    return points, seen, np.concatenate([[0.0], batch.offset_s])


def _distance(points: Float, place: Float) -> Float:
    """(N, P, 2) and (N, 2) -> (N, P), in their unit."""
    delta = points - place[:, None]
    distance: Float = np.hypot(delta[..., 0], delta[..., 1])
    return distance


def waymo_miss(delta: Float, heading: Float, horizon_s: Float, speed: Float) -> Bool:
    """Waymo's miss: off by more than a threshold along or across the true heading at the last step.

    The benchmark states thresholds at 3, 5 and 8 s; they are linear in time in between and constant
    outside. They are halved below 1.4 m/s of current speed, whole above 11 m/s, linear in between.

    Args:
        delta: (N, K, 2) m, predicted minus true position.
        heading: (N,) rad, of the truth.
        horizon_s: (N,) s, time of the last valid step.
        speed: (N,) m/s, now.

    Returns:
        (N, K).
    """
    cos, sin = np.cos(heading)[:, None], np.sin(heading)[:, None]
    longitudinal = np.abs(cos * delta[..., 0] + sin * delta[..., 1])
    lateral = np.abs(cos * delta[..., 1] - sin * delta[..., 0])
    scale = np.interp(speed, WAYMO_SPEED_MPS, WAYMO_SPEED_SCALE)
    lateral_limit = scale * np.interp(horizon_s, WAYMO_MISS_S, WAYMO_LATERAL_M)
    longitudinal_limit = scale * np.interp(horizon_s, WAYMO_MISS_S, WAYMO_LONGITUDINAL_M)
    missed: Bool = (lateral > lateral_limit[:, None]) | (longitudinal > longitudinal_limit[:, None])
    return missed


def score(batch: Batch) -> AgentScores:
    """Score every agent that has a valid true position; the others are counted as excluded.

    The values of an agent depend on its own row only. Where the predictor has fewer than k valid
    modes, the best of k is the best of all; minADE and minFDE are each minimised on their own.

    Raises InputError on an agent without a valid mode, on probabilities that are negative or sum to
    0, and on values that are not finite where a mask says valid; the message names the row.
    """
    _check_values(batch)
    rows = np.flatnonzero(batch.truth_valid.any(axis=1))
    starts = range(0, max(len(rows), 1), _CHUNK)
    parts = [_score_chunk(batch.take(rows[start : start + _CHUNK])) for start in starts]
    return replace(AgentScores.concatenate(parts), excluded=len(batch) - len(rows))


def _check_values(batch: Batch) -> None:
    hidden = ~batch.mode_valid
    probability = np.where(hidden, 0.0, batch.probability)
    probability_fine = np.isfinite(probability) & (probability >= 0.0)
    path_finite = np.isfinite(batch.paths).all(axis=(2, 3))
    spread_finite = np.isfinite(batch.spread).all(axis=2)
    usable = {
        "no mode is valid": batch.mode_valid.any(axis=1),
        "paths is not finite": (path_finite | hidden).all(axis=1),
        "spread is not finite": (spread_finite | hidden).all(axis=1),
        "single is not finite": np.isfinite(batch.single).all(axis=(1, 2)),
        "probability is negative or not finite": probability_fine.all(axis=1),
        "probability sums to 0": probability.any(axis=1),
        "truth is not finite": (np.isfinite(batch.truth).all(axis=2) | ~batch.truth_valid).all(axis=1),
        "start is not finite": np.isfinite(batch.start).all(axis=1),
        "origin is not finite": np.isfinite(batch.origin).all(axis=1),
        "heading is not finite": np.isfinite(batch.heading),
        "speed is not finite": np.isfinite(batch.speed),
        "label is not one of trajpred.types.Label": batch.label < len(Label),
        "m_per_px is neither positive nor NaN": (batch.m_per_px > 0.0) | np.isnan(batch.m_per_px),
    }
    for fault, fine in usable.items():
        if not fine.all():
            raise InputError(f"Batch row {int(np.argmin(fine))}: {fault}")


def _ranked(batch: Batch) -> Batch:
    """Modes by falling probability, those that are not valid last; what a mask hides becomes 0."""
    rank = np.where(batch.mode_valid, -batch.probability, 1.0).argsort(axis=1, kind="stable")
    agent = np.arange(len(batch))[:, None]
    valid = batch.mode_valid[agent, rank]
    probability = np.where(valid, batch.probability[agent, rank], 0.0)
    ranked = {
        "paths": np.where(valid[..., None, None], batch.paths[agent, rank], 0.0),
        "probability": probability / probability.sum(axis=1, keepdims=True),
        "mode_valid": valid,
        "spread": np.where(valid[..., None], batch.spread[agent, rank], 0.0),
        "truth": np.where(batch.truth_valid[..., None], batch.truth, 0.0),
    }
    return Batch(**{f.name: ranked.get(f.name, getattr(batch, f.name)) for f in fields(batch)})


def _score_chunk(batch: Batch) -> AgentScores:
    """AgentScores of agents that all have a valid step."""
    batch = _ranked(batch)
    agent, last = np.arange(len(batch)), last_step(batch.truth_valid)
    end, path_end = batch.truth[agent, last], batch.paths[agent, :, last]
    # A mode that is not valid is infinitely far off: no minimum finds it and it always misses.
    distance = np.where(batch.mode_valid[..., None], displacement(batch.paths, batch.truth), np.inf)
    ade = average_error(distance, batch.truth_valid)
    fde = final_error(distance, batch.truth_valid)
    largest = largest_error(distance, batch.truth_valid)
    waymo = waymo_miss(path_end - end[:, None], true_heading(batch), batch.offset_s[last], batch.speed)
    share = region_share(end, path_end, batch.spread[agent, :, last], batch.probability)
    single = displacement(batch.single[:, None], batch.truth)
    values = {
        "ade_single": average_error(single, batch.truth_valid)[:, 0],
        "fde_single": final_error(single, batch.truth_valid)[:, 0],
        "ade_1": ade[:, 0],
        "fde_1": fde[:, 0],
        **{f"min_ade_{k}": best_of(ade, k) for k in TOP_K},
        **{f"min_fde_{k}": best_of(fde, k) for k in TOP_K},
        "miss_rate_av2": best_of(fde, 6) > MISS_M,
        "miss_rate_nuscenes_5": best_of(largest, 5) > MISS_M,
        "miss_rate_nuscenes_10": best_of(largest, 10) > MISS_M,
        "miss_rate_waymo": (waymo | ~batch.mode_valid)[:, :6].all(axis=1),
        "brier_min_fde": brier_min_fde(fde[:, :6], batch.probability[:, :6]),
        "nll": mixture_nll(distance, batch.probability, batch.spread, batch.truth_valid),
        "coverage_50": share <= 0.5,
        "coverage_90": share <= 0.9,
    }
    horizon = _horizon_steps(batch.offset_s)
    at_horizon = distance[:, :, horizon]
    at = [single[:, 0, horizon], *(best_of(at_horizon, k) for k in (1, 6, 20))]
    return AgentScores(
        values=np.stack([values[name] for name in METRICS], axis=1).astype(np.float64),
        horizon_s=batch.offset_s[horizon],
        horizon_error=np.stack(at, axis=2),
        horizon_valid=batch.truth_valid[:, horizon],
        reliability=reliability_counts(batch.probability, ade, batch.mode_valid),
        moving=is_moving(batch.start, end),
        motion=motion_type(batch),
        label=batch.label,
        track=batch.track,
        m_per_px=batch.m_per_px,
        excluded=0,
    )


def _horizon_steps(offset_s: Float) -> Int:
    """(T,) -> (H,) every step of at most 20, else those nearest to whole seconds and the last."""
    steps = len(offset_s)
    if steps <= 20:
        return np.arange(steps)
    seconds = np.arange(1, int(offset_s[-1]) + 1)
    nearest = np.abs(offset_s - seconds[:, None]).argmin(axis=1)
    return np.unique(np.append(nearest, steps - 1))


def summarise(scores: AgentScores, bootstrap: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Means over all agents and over groups of them, as plain numbers that JSON can hold.

    Keys: n; excluded; metrics: METRICS and calibration_error; reliability: the bins behind it;
    per_class: by lower-case label; per_horizon: by time in s, the error of the single path, and each mode's
    minimised, at that moment and over agents whose true position is known then; per_class_horizon: the same
    by label; moving and waiting, see
    is_moving; per_motion: by lower-case MotionType, of those that occur; pixels: LENGTHS of the agents
    whose m_per_px is known, in pixels; interval: [low, high] of INTERVALS by bootstrap_interval, empty
    with bootstrap=0 and with fewer than two tracks.
    Every group states its n; an empty group states nothing else.

    Raises InputError if there is no agent.
    """
    if not len(scores):
        raise InputError(
            f"nothing to score: no agent has a known position after its prediction "
            f"({scores.excluded} had a prediction)"
        )
    classes = {Label(label): scores.label == label for label in np.unique(scores.label).tolist()}
    motions = {MotionType(motion): scores.motion == motion for motion in np.unique(scores.motion).tolist()}
    return {
        "n": len(scores),
        "excluded": scores.excluded,
        "metrics": _means(scores),
        "reliability": reliability_bins(scores.reliability.sum(axis=0)),
        "per_class": {label.name.lower(): _group(scores.take(rows)) for label, rows in classes.items()},
        "per_horizon": _per_horizon(scores),
        "per_class_horizon": {
            label.name.lower(): _per_horizon(scores.take(rows)) for label, rows in classes.items()
        },
        "moving": _group(scores.take(scores.moving)),
        "waiting": _group(scores.take(~scores.moving)),
        "per_motion": {motion.name.lower(): _group(scores.take(rows)) for motion, rows in motions.items()},
        "pixels": _pixels(scores),
        "interval": _intervals(scores, bootstrap, seed),
    }


def _means(scores: AgentScores) -> dict[str, float]:
    means = dict(zip(METRICS, scores.values.mean(axis=0).tolist(), strict=True))
    return {**means, "calibration_error": expected_calibration_error(scores.reliability.sum(axis=0))}


def _group(scores: AgentScores) -> dict[str, float]:
    n = len(scores)
    return {"n": n, **_means(scores)} if n else {"n": 0}


def _per_horizon(scores: AgentScores) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for step, offset_s in enumerate(scores.horizon_s.tolist()):
        errors = scores.horizon_error[scores.horizon_valid[:, step], step]
        key = str(round(offset_s, 3))
        table[key] = {"n": len(errors)}
        if len(errors):
            table[key] |= zip(HORIZON_ERRORS, errors.mean(axis=0).tolist(), strict=True)
    return table


def _pixels(scores: AgentScores) -> dict[str, float]:
    known = scores.take(~np.isnan(scores.m_per_px))
    if not len(known):
        return {"n": 0}
    means = {name: float((known.column(name) / known.m_per_px).mean()) for name in LENGTHS}
    return {"n": len(known), **means}


def _intervals(scores: AgentScores, replicates: int, seed: int) -> dict[str, list[float]]:
    if not replicates or len(np.unique(scores.track)) < 2:
        return {}
    values = np.stack([scores.column(name) for name in INTERVALS], axis=1)
    low_high = bootstrap_interval(values, scores.track, replicates, seed)
    return dict(zip(INTERVALS, low_high.T.tolist(), strict=True))


def bootstrap_interval(values: Float, track: Int, replicates: int, seed: int) -> Float:
    """(N, M) values, (N,) tracks -> (2, M) 2.5 % and 97.5 % percentile of the mean's bootstrap.

    Whole tracks are drawn with replacement, since windows of one track overlap and resemble each other.
    """
    names, index = np.unique(track, return_inverse=True)
    tracks = len(names)
    rows = np.concatenate([values, np.ones((len(values), 1))], axis=1)
    # (tracks, M + 1) sums over each track and, in the last column, its rows
    totals = np.stack([np.bincount(index, column, tracks) for column in rows.T], axis=1)
    rng = np.random.default_rng(seed)
    block = max(1, 2_000_000 // tracks)  # replicates at once: 16 MB of draws, or one replicate's
    sums = []
    for start in range(0, replicates, block):
        count = min(block, replicates - start)
        drawn = rng.integers(tracks, size=(count, tracks)) + tracks * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * tracks).reshape(count, tracks)
        sums.append(times @ totals)
    summed = np.concatenate(sums)
    interval: Float = np.percentile(summed[:, :-1] / summed[:, -1:], [2.5, 97.5], axis=0)
    return interval
