"""Single predictions worth looking at: typical ones, the worst, the best."""

from __future__ import annotations

from typing import Literal

import numpy as np

from trajpred.errors import InputError
from trajpred.evaluate import Answer, Answers, answered
from trajpred.metrics import average_error, displacement, is_moving, last_step
from trajpred.types import Bool, Float, Int
from trajpred.viz import Case
from trajpred.windows import DataSource

Pick = Literal["typical", "worst", "best", "random"]
NEIGHBOURS_WITHIN_M = 15.0


def pick_cases(predictor: Answers, source: DataSource, pick: Pick, count: int, seed: int = 0) -> list[Case]:
    """`count` agents by the error of their best path, among those seen to the end that move, if any do.

    typical: spread evenly between the 20th and the 80th percentile. Raises InputError if there are none.
    """
    graded = [_grade(answer) for answer in answered(predictor, source)]
    error = np.concatenate([e for e, _ in graded]) if graded else np.zeros(0)
    complete = np.isfinite(error)
    if not complete.any():
        raise InputError(f"{source.name}: nobody to draw: no agent is seen until the horizon")
    moving = np.concatenate([m for _, m in graded]) & complete
    chosen = _choose(error, moving if moving.any() else complete, pick, count, np.random.default_rng(seed))
    cases: dict[int, Case] = {}
    first = 0
    for answer in answered(predictor, source):  # the same answers again: keeping all would not fit
        here = chosen[(chosen >= first) & (chosen < first + len(answer.rows))] - first
        cases |= {first + int(row): _case(answer, int(row)) for row in here}
        first += len(answer.rows)
    return [cases[int(row)] for row in chosen]


def _grade(answer: Answer) -> tuple[Float, Bool]:
    """(N,) m, mean distance of the best path, inf if not seen to the end; (N,) whether it moves."""
    batch = answer.batch
    distance = displacement(batch.paths, batch.truth)
    error = np.where(batch.mode_valid, average_error(distance, batch.truth_valid), np.inf)
    end = batch.truth[np.arange(len(batch)), last_step(batch.truth_valid)]
    error[~batch.truth_valid.all(axis=1)] = np.inf
    return error.min(axis=1, initial=np.inf), is_moving(batch.start, end)


def _choose(error: Float, allowed: Bool, pick: Pick, count: int, rng: np.random.Generator) -> Int:
    """Row numbers, all different."""
    rows = np.flatnonzero(allowed)
    rows = rows[np.argsort(error[rows], kind="stable")]
    count = min(count, len(rows))
    if pick == "worst":
        return rows[::-1][:count]
    if pick == "best":
        return rows[:count]
    if pick == "random":
        return rng.choice(rows, count, replace=False)
    return rows[np.unique(np.linspace(0.2, 0.8, count) * (len(rows) - 1)).astype(np.int64)]


def _case(answer: Answer, row: int) -> Case:
    prediction, batch, me = answer.prediction, answer.batch, int(answer.rows[row])
    valid = prediction.mode_valid[row]
    now = prediction.xy[row]
    others = np.flatnonzero((answer.group == answer.group[me]) & answer.known[:, -1])
    near = np.hypot(*(answer.history[others, -1] - now).T) < NEIGHBOURS_WITHIN_M
    others = others[near & (others != me)]
    return Case(
        name=f"track {_short(prediction.ids[row])}",
        label=int(batch.label[row]),
        history=answer.history[me, answer.known[me]],
        truth=batch.truth[row],
        paths=prediction.paths[row, valid],
        probability=prediction.probability[row, valid],
        heading=float(prediction.heading[row]),
        size=None,
        others=[answer.history[other, answer.known[other]] for other in others],
    )


def _short(name: bytes) -> str:
    """An id of a data set as its number, a UUID by its first digits."""
    number = int.from_bytes(name.ljust(16, b"\0"), "big")
    return str(number) if number < 1 << 63 else f"{number:032x}"[:8]
