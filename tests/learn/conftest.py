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
from trajpred.place import CELL_M, SECTORS
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
    model = TrajectoryModel(config, fit_grid(windows, config, seed=0))
    with torch.no_grad():
        model.residual.weight.normal_(std=0.1)
    return model.eval()


def run_of(windows: Windows, place: str = "") -> Run:
    """What a run's folder would say that learned the place of the windows, all of it, or none."""
    learned = None
    if place:
        axis, turns = np.arange(-30.0, 30.0, CELL_M), np.arange(SECTORS) * 2 * np.pi / SECTORS
        grid = np.meshgrid(axis, axis, turns, [label.value for label in Label], indexing="ij")
        x, y, heading, label = (part.ravel() for part in grid)
        learned = fit_place(windows, place)
        middle = np.array([learned.x_m, learned.y_m]) + CELL_M / 2
        learned = learned.seeing(middle + np.stack([x, y], axis=1), heading, label.astype(np.uint8))
    classes, training = [label.name for label in Label], {"history_dropout": 0.5}
    about = asdict(learned) if learned else None
    return Run("crowd", asdict(Protocol()), {}, training, classes, "0", place=about)


def random_artefact(path: Path, **settings) -> Path:
    """A small artefact of random weights that knows every class: 12 steps of 0.4 s, 4 paths."""
    windows = cut((crowd(),), Protocol())
    model = small_model(windows, "lstm", **settings)
    run = run_of(windows, settings.get("place", ""))
    path.write_bytes(seal(to_onnx(model, describe(model, run))))
    return path
