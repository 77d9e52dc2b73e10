"""After training, on val: one temperature for the logits of the modes and one factor for the spreads.

A network trained to the end is surer than it is right; a single number, fitted on data that it was not
trained on, mends most of that and moves neither a path nor the order of the modes (Guo, Pleiss, Sun,
Weinberger, "On calibration of modern neural networks", ICML 2017). The factor does the same for the spreads.

Shapes: M decoded agents, K modes, S steps of the future.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from trajpred.calibration import SPREAD_FLOOR_M
from trajpred.learn.data import Batches
from trajpred.learn.losses import losses
from trajpred.learn.model import LOG_SPREAD_BOUNDS, Futures, TrajectoryModel
from trajpred.place import Place
from trajpred.windows import Windows

REACH = 10.0
"""Neither number is sought beyond a factor of this: on few windows nothing else would bound it."""

TOLERANCE = 1e-3
"""Relative, of both numbers; the losses are flat there."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """temperature divides the logits, spread_factor multiplies what of a spread is above the floor.

    The losses are those of losses.losses over all of val, before (with 1 and 1) and after: classify in
    nats, spread in nats per step. classify never rises. Nor does spread by its factor, but the
    temperature, which is not chosen by it, comes first.
    """

    temperature: float
    spread_factor: float
    classify_before: float
    classify_after: float
    spread_before: float
    spread_after: float


class Answers(NamedTuple):
    """Futures with their truth (M, S, 2) m, and log_spread (M, K, S) as it was before it was bounded."""

    futures: Futures
    truth: Tensor
    log_spread: Tensor


def calibrate(
    model: TrajectoryModel, windows: Windows, endpoint_weight: float, place: Place | None = None
) -> Calibration:
    """Both numbers for a model, which stays as it is, on all of the windows; place: the one that it knows."""
    return solve(answers(model, windows, place), endpoint_weight)


@torch.no_grad()
def answers(model: TrajectoryModel, windows: Windows, place: Place | None = None) -> list[Answers]:
    """The model's answers for the targets of all windows, batch by batch."""
    raw: list[Tensor] = []
    hook = model.log_spread.register_forward_hook(lambda _layer, _given, out: raw.append(out))
    found = []
    try:
        for batch in Batches(windows, model.config.neighbours, None, place):
            futures, _ = model(batch.inputs, model.new_state(len(batch.inputs.steps)))
            log_spread = raw.pop().unflatten(-1, (-1, 2)) @ model.growth
            found.append(Answers(futures, batch.truth, log_spread))
    finally:
        hook.remove()
    return found


def apply(given: Answers, temperature: float, factor: float) -> Futures:
    """The futures that a model with both numbers folded into it would give."""
    futures, log_spread = given.futures, given.log_spread
    grown = (log_spread + math.log(factor)).clamp(*LOG_SPREAD_BOUNDS) - log_spread.clamp(*LOG_SPREAD_BOUNDS)
    spread = (futures.spread - SPREAD_FLOOR_M) * torch.exp(grown) + SPREAD_FLOOR_M
    return futures._replace(logits=futures.logits / temperature, spread=spread)


@torch.no_grad()
def solve(given: Sequence[Answers], endpoint_weight: float) -> Calibration:
    """The temperature of least classify loss, then with it the factor of least spread loss.

    endpoint_weight is that of losses.losses: it says which mode wins.
    """
    agents = sum(len(part.truth) for part in given)

    def at(temperature: float, factor: float) -> tuple[float, float]:
        """(classify, spread), the means over all agents."""
        classify = spread = 0.0
        for part in given:
            found = losses(apply(part, temperature, factor), part.truth, 0.0, endpoint_weight)
            share = len(part.truth) / agents
            classify += share * float(found.classify)
            spread += share * float(found.spread)
        return classify, spread

    temperature = _lowest(lambda temperature: at(temperature, 1.0)[0])
    factor = _lowest(lambda factor: at(temperature, factor)[1])
    before, after = at(1.0, 1.0), at(temperature, factor)
    return Calibration(temperature, factor, before[0], after[0], before[1], after[1])


def _lowest(loss: Callable[[float], float]) -> float:
    """Where the loss is lowest between 1 / REACH and REACH; 1 where it is nowhere found below that of 1.

    Golden-section search over the logarithm. The classify loss has a single minimum in the temperature: it
    is convex in its inverse.
    """
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    low, high = -math.log(REACH), math.log(REACH)
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = loss(math.exp(left)), loss(math.exp(right))
    while high - low > TOLERANCE:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = loss(math.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = loss(math.exp(right))
    best = math.exp((low + high) / 2.0)
    return best if loss(best) < loss(1.0) else 1.0


@torch.no_grad()
def fold(model: TrajectoryModel, calibration: Calibration) -> None:
    """Change the model's last layers so that it answers calibrated, at no cost.

    The first of a mode's two numbers of log_spread is the same at all steps (the first row of `growth` is
    ones), so that the factor's logarithm is added there.
    """
    for weights in model.logits.parameters():
        weights.div_(calibration.temperature)
    model.log_spread.bias[0::2].add_(math.log(calibration.spread_factor))
