"""What training minimises: winner-takes-all over K paths, a single path, a mode classifier, a spread."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from trajpred.learn.model import Futures


class Losses(NamedTuple):
    """Scalars: path and single in metres, classify in nats, spread in nats per step."""

    path: Tensor
    single: Tensor
    classify: Tensor
    spread: Tensor


def distances(futures: Futures, truth: Tensor) -> Tensor:
    """(M, K + 1, S) m between each path, and last the single one, and the truth (M, S, 2)."""
    return distance(torch.cat([futures.paths, futures.single[:, None]], dim=1), truth[:, None])


def distance(path: Tensor, other: Tensor) -> Tensor:
    """(..., S) m between points (..., S, 2), with a gradient where they are the same."""
    return torch.sqrt(((path - other) ** 2).sum(-1) + 1e-8)


def losses(futures: Futures, truth: Tensor, temperature: float, endpoint_weight: float) -> Losses:
    """Annealed winner-takes-all (Xu et al., "Annealed multiple choice learning", 2024).

    At a high temperature every path is pulled towards the truth in proportion to a soft-min of
    the costs, so that no mode dies early; at zero only the winner is. It is in units of an agent's mean cost
    over the modes: the futures of someone who waits differ by centimetres, a car's by tens of metres.
    The classifier learns which mode wins; the spread maximises the likelihood of the mixture
    (calibration.mixture_nll); neither moves the paths, nor the spread the classifier. The single path
    minimises its mean error.
    """
    gap = distances(futures, truth)
    gap, single = gap[:, :-1], gap[:, -1]
    cost = gap.mean(-1) + endpoint_weight * gap[..., -1]  # (M, K)
    winner = cost.argmin(dim=1)
    if temperature > 1e-3:
        fixed = cost.detach()
        weight = torch.softmax(-fixed / (temperature * fixed.mean(dim=1, keepdim=True)), dim=1)
        path = (weight * cost).sum(1).mean()
    else:
        path = cost.gather(1, winner[:, None]).mean()
    classify = cross_entropy(futures.logits, winner)
    share = torch.log_softmax(futures.logits.detach(), dim=1)[..., None]
    spread = futures.spread
    density = share - gap.detach() ** 2 / (2.0 * spread**2) - 2.0 * torch.log(spread)  # (M, K, S), a log
    return Losses(path, single.mean(), classify, -torch.logsumexp(density, dim=1).mean())
