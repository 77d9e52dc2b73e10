"""Single predictions worth looking at: typical ones, the worst, the best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np

from trajpred.config import NS_PER_S
from trajpred.errors import InputError
from trajpred.evaluate import Answer, Answers, answered
from trajpred.looks import outlines, short_id
from trajpred.metrics import average_error, displacement, is_moving, last_step
from trajpred.types import Bool, Float, Int, Scene
from trajpred.viz import Case
from trajpred.windows import DataSource

Pick = Literal["typical", "worst", "best", "random"]
NEIGHBOURS_WITHIN_M = 15.0


def pick_cases(predictor: Answers, source: DataSource, pick: Pick, count: int, seed: int = 0) -> list[Case]:
    """`count` agents by the error of their best path, among those seen to the end that move, if any do.

    typical: spread evenly between the 20th and 80th percentile. Of a track only the worst moment is among the
    worst, and its best among the best. Raises InputError if there are none.
    """
    graded = [_grade(answer) for answer in answered(predictor, source)]
    error = np.concatenate([e for e, _, _ in graded]) if graded else np.zeros(0)
    complete = np.isfinite(error)
    if not complete.any():
        raise InputError(f"{source.name}: nobody to draw: no agent is seen until the horizon")
    moving = np.concatenate([m for _, m, _ in graded]) & complete
    track = np.concatenate([t for _, _, t in graded])
    allowed = moving if moving.any() else complete
    chosen = _choose(error, allowed, track, pick, count, np.random.default_rng(seed))
    cases: dict[int, Case] = {}
    scenes = {scene.name: scene for scene in source.scenes}
    first = 0
    for answer in answered(predictor, source):  # the same answers again: keeping all would not fit
        here = chosen[(chosen >= first) & (chosen < first + len(answer.rows))] - first
        cases |= {first + int(row): _case(answer, int(row), scenes) for row in here}
        first += len(answer.rows)
    return [cases[int(row)] for row in chosen]


def _grade(answer: Answer) -> tuple[Float, Bool, Int]:
    """(N,) m, mean distance of the best path, inf if not seen to the end; whether it moves; its track."""
    batch = answer.batch
    distance = displacement(batch.paths, batch.truth)
    error = np.where(batch.mode_valid, average_error(distance, batch.truth_valid), np.inf)
    end = batch.truth[np.arange(len(batch)), last_step(batch.truth_valid)]
    error[~batch.truth_valid.all(axis=1)] = np.inf
    return error.min(axis=1, initial=np.inf), is_moving(batch.start, end), batch.track


def _choose(error: Float, allowed: Bool, track: Int, pick: Pick, count: int, rng: np.random.Generator) -> Int:
    """Row numbers, all different."""
    rows = np.flatnonzero(allowed)
    rows = rows[np.argsort(error[rows], kind="stable")]
    if pick in ("worst", "best"):
        rows = rows[::-1] if pick == "worst" else rows
        _, first = np.unique(track[rows], return_index=True)
        return rows[np.sort(first)][:count]
    count = min(count, len(rows))
    if pick == "random":
        return rng.choice(rows, count, replace=False)
    return rows[np.unique(np.linspace(0.2, 0.8, count) * (len(rows) - 1)).astype(np.int64)]


def _case(answer: Answer, row: int, scenes: Mapping[str, Scene]) -> Case:
    prediction, batch, me = answer.prediction, answer.batch, int(answer.rows[row])
    valid = prediction.mode_valid[row]
    now = prediction.xy[row]
    others = np.flatnonzero((answer.group == answer.group[me]) & answer.known[:, -1])
    near = np.hypot(*(answer.history[others, -1] - now).T) < NEIGHBOURS_WITHIN_M
    others = others[near & (others != me)]
    scene, stamp_ns = scenes[str(answer.scene[row])], int(answer.stamp_ns[row])
    size, others_outline = _footprints(scene, stamp_ns, answer.ids[row])
    at_s = (stamp_ns - int(scene.stamp_ns.min())) / NS_PER_S
    return Case(
        name=f"track {short_id(answer.ids[row])} at {at_s:.1f} s",
        label=int(batch.label[row]),
        history=answer.history[me, answer.known[me]],
        truth=batch.truth[row],
        paths=prediction.paths[row, valid],
        probability=prediction.probability[row, valid],
        heading=float(prediction.heading[row]),
        size=size,
        others=[answer.history[other, answer.known[other]] for other in others],
        others_outline=others_outline,
    )


def _footprints(scene: Scene, stamp_ns: int, me: bytes) -> tuple[Float | None, list[Float]]:
    """(2,) m, length and width of an agent, None if not known, and the corners (4, 2) of those near it."""
    first, last = np.searchsorted(scene.stamp_ns, [stamp_ns, stamp_ns + 1])
    rows = np.arange(first, last)
    mine = rows[scene.ids[rows] == me]
    if not mine.size:
        return None, []
    near = np.hypot(*(scene.xy[rows] - scene.xy[mine[0]]).T) < NEIGHBOURS_WITHIN_M
    shaped = rows[near & (rows != mine[0]) & scene.size_valid[rows] & scene.yaw_valid[rows]]
    size = scene.size[mine[0], :2] if scene.size_valid[mine[0]] else None
    return size, list(outlines(scene.xy[shaped], scene.yaw[shaped], scene.size[shaped, :2]))
