"""Small models and windows for the tests of the training room."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from trajpred.config import ModelConfig, NeighbourConfig, Protocol
from trajpred.learn.data import fit_grid, fit_place
from trajpred.learn.export import describe, to_onnx
from trajpred.learn.model import TrajectoryModel
from trajpred.learn.train import Run
from trajpred.runtime import seal
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import Windows, cut

ENCODERS = ("lstm", "gru", "rnn_tanh", "rnn_relu", "window_mlp", "bag_of_steps")


def crowd(agents: int = 12, steps: int = 40, seed: int = 0) -> Scene:
    """Agents that walk, each with its own speed, slowly turning; some are seen late, with holes."""
    rng = np.random.default_rng(seed)
    speed, course = rng.uniform(0.0, 2.0, agents), rng.uniform(-np.pi, np.pi, agents)
    course = course[:, None] + np.cumsum(rng.normal(scale=0.1, size=(agents, steps)), axis=1)
    move = 0.4 * speed[:, None, None] * np.stack([np.cos(course), np.sin(course)], axis=-1)
    xy = rng.uniform(-5, 5, (agents, 1, 2)) + np.cumsum(move, axis=1)
    seen = np.ones((agents, steps), bool)
    for agent in range(0, agents, 3):
        seen[agent, : rng.integers(1, steps // 2)] = False
        seen[agent, rng.integers(steps // 2, steps)] = False
    agent, step = np.nonzero(seen)
    label = np.where(agent % 2, Label.PEDESTRIAN, Label.BICYCLE)
    return Scene.build("crowd", step * 400_000_000, ids_from_int(agent), xy[seen], label=label)


@pytest.fixture(scope="session")
def windows() -> Windows:
    return cut((crowd(),), Protocol())


def small_model(windows: Windows, encoder: str, attention: int = 0, **settings) -> TrajectoryModel:
    """An untrained model whose every weight is random: nothing is zero by initialisation."""
    torch.manual_seed(0)
    settings = {"neighbours": NeighbourConfig(count=3, radius_m=8.0), "window": 5, **settings}
    config = ModelConfig(encoder=encoder, attention=attention, hidden=32, modes=4, **settings)
    grid = fit_grid(windows, config, seed=0)
    if config.place:
        grid = grid._replace(place=fit_place(windows, config.place))
    model = TrajectoryModel(config, grid)
    with torch.no_grad():
        model.residual.weight.normal_(std=0.1)
    return model.eval()


def random_artefact(path: Path, **settings) -> Path:
    """A small artefact of random weights that knows every class: 12 steps of 0.4 s, 4 paths."""
    model = small_model(cut((crowd(),), Protocol()), "lstm", **settings)
    classes = [label.name for label in Label]
    run = Run("crowd", asdict(Protocol()), {}, {"history_dropout": 0.5}, classes, "0")
    path.write_bytes(seal(to_onnx(model, describe(model, run))))
    return path
