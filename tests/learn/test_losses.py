"""Losses by hand."""

from __future__ import annotations

import math

import torch

from trajpred.learn.losses import distances, losses
from trajpred.learn.model import Futures

TRUTH = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
PATHS = torch.tensor([[[[1.0, 0.0], [2.0, 1.0]], [[1.0, 3.0], [2.0, 4.0]]]])  # errors 0, 1 and 3, 4
SINGLE = torch.tensor([[[1.0, 0.0], [2.0, 2.0]]])  # errors 0, 2


def futures(logits=(0.0, 0.0), spread=1.0):
    return Futures(PATHS, torch.tensor([logits]), torch.full((1, 2, 2), spread), SINGLE)


def test_distances():
    torch.testing.assert_close(
        distances(futures(), TRUTH), torch.tensor([[[1e-4, 1.0], [3.0, 4.0], [1e-4, 2.0]]])
    )


def test_winner_takes_all_at_zero_temperature():
    # cost of mode 0: mean 0.5 + endpoint 0.5 * 1 = 1; of mode 1: 3.5 + 0.5 * 4 = 5.5
    found = losses(futures(), TRUTH, temperature=0.0, endpoint_weight=0.5)
    assert math.isclose(found.path, 1.0, abs_tol=1e-3)


def test_soft_winner_at_a_high_temperature_is_the_mean():
    found = losses(futures(), TRUTH, temperature=1e6, endpoint_weight=0.5)
    assert math.isclose(found.path, (1.0 + 5.5) / 2, abs_tol=1e-3)


def test_temperature_weighs_by_softmin_in_units_of_the_mean_cost():
    weight = 1 / (1 + math.exp(-4.5 / (2.0 * (1.0 + 5.5) / 2)))
    found = losses(futures(), TRUTH, temperature=2.0, endpoint_weight=0.5)
    assert math.isclose(found.path, weight * 1.0 + (1 - weight) * 5.5, abs_tol=1e-3)


def test_single_path_is_judged_by_its_mean_error():
    assert math.isclose(losses(futures(), TRUTH, 1.0, 0.5).single, 1.0, abs_tol=1e-3)


def test_classifier_learns_the_winner():
    found = losses(futures(logits=(math.log(3.0), 0.0)), TRUTH, 0.0, 0.5)
    assert math.isclose(found.classify, -math.log(0.75), abs_tol=1e-5)


def test_spread_maximises_the_likelihood_of_the_mixture():
    # 2 log s - log of the mean of exp(-d^2 / (2 s^2)) over the modes: errors 0 and 3, then 1 and 4, s = 2
    found = losses(futures(spread=2.0), TRUTH, 0.0, 0.5)
    steps = [math.log((math.exp(-a / 8) + math.exp(-b / 8)) / 2) for a, b in ((0, 9), (1, 16))]
    assert math.isclose(found.spread, 2 * math.log(2) - sum(steps) / 2, abs_tol=1e-3)


def test_only_the_path_loss_moves_the_paths():
    paths = PATHS.clone().requires_grad_(True)
    found = losses(Futures(paths, torch.zeros(1, 2), torch.ones(1, 2, 2), SINGLE), TRUTH, 0.0, 0.5)
    assert not found.classify.requires_grad
    assert not found.spread.requires_grad
    found.path.backward()
    assert (paths.grad[0, 0].abs().sum() > 0) and (paths.grad[0, 1] == 0).all()
