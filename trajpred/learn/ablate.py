"""Why the LSTM is there: every encoder trained with the same budget, and what sets them apart.

Three questions, one picture: how large is the error; what does it do with a short history; how much of
the gradient reaches each past step (it vanishes in a tanh RNN, an LSTM keeps it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trajpred.config import ModelConfig, TrainingConfig
from trajpred.errors import InputError
from trajpred.evaluate import make_predictor, score_windows
from trajpred.learn.data import make_batch
from trajpred.learn.export import export
from trajpred.learn.losses import distances
from trajpred.learn.train import fit, load_model
from trajpred.metrics import summarise
from trajpred.progress import bar
from trajpred.viz import draw_ablation
from trajpred.windows import Windows

PROBED_AGENTS = 2000
HISTORIES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Numbers of observations whose error is looked at."""


ERRORS = ("min_ade", "min_fde", "ade_single", "fde_single")
"""What is said of each encoder with its spread over seeds, m."""


def ablate(
    name: str,
    windows: Mapping[str, Windows],
    encoders: Sequence[str],
    model: ModelConfig,
    training: TrainingConfig,
    out: Path,
    seeds: Sequence[int] = (),
) -> str:
    """Train each encoder on windows["train"], pick by ["val"], score through ONNX on ["test"].

    With each of the seeds; without any, with that of `training`. Writes ablation.json, ablation.md and
    ablation.png to `out`, means over the seeds, and returns the table. Runs that are finished are not trained
    again. Raises InputError for an encoder that does not exist.
    """
    rows: dict[str, dict[str, Any]] = {}
    for encoder in encoders:
        try:
            config = replace(model, encoder=encoder)  # type: ignore[arg-type]
            found = [
                _measured(name, windows, config, replace(training, seed=seed), out / f"{encoder}_{seed}")
                for seed in seeds or [training.seed]
            ]
        except KeyError:
            raise InputError(f"no encoder {encoder!r}: see `trajpred train --help`") from None
        rows[encoder] = {
            **_mean(found),
            "spread": {key: float(np.std([row[key] for row in found])) for key in ERRORS},
            "seeds": found,
        }
    table = _table(rows, len(windows["test"].target.nonzero()[0]))
    (out / "ablation.json").write_text(json.dumps({"data": name, "encoders": rows}, indent=2) + "\n")
    (out / "ablation.md").write_text(table)
    draw_ablation(rows, out / "ablation.png")
    return table


def _measured(
    name: str, windows: Mapping[str, Windows], model: ModelConfig, training: TrainingConfig, folder: Path
) -> dict[str, Any]:
    """Of one encoder and seed: errors in m, count of parameters, gradient by step, seconds of training."""
    run = fit(name, windows["train"], windows["val"], model, training, folder)
    artefact = folder / f"{folder.name}.onnx"
    export(folder, artefact)
    return {
        **_errors(artefact, windows["test"], folder.name),
        "parameters": sum(p.numel() for p in load_model(folder)[0].parameters()),
        "gradient": gradient_by_step(folder, windows["val"]),
        "seconds": run.seconds,
    }


def _mean(rows: Sequence[Any]) -> Any:
    """Of what has the same form: numbers, and numbers in lists and dictionaries."""
    first = rows[0]
    if isinstance(first, dict):
        return {key: _mean([row[key] for row in rows]) for key in first}
    if isinstance(first, list):
        return [_mean(values) for values in zip(*rows, strict=True)]
    return first if all(value == first for value in rows) else float(np.mean(rows))


def _errors(artefact: Path, windows: Windows, what: str) -> dict[str, Any]:
    """Errors with the whole history, and best-of-K ADE with only the last 1, 2, ... of HISTORIES."""
    predictor = make_predictor(str(artefact))
    past = windows.protocol.observe
    shown = sorted({n for n in HISTORIES if n < past} | {past})
    by_history = []
    metrics: dict[str, float] = {}
    for observations in bar(shown, len(shown), f"{what}: history lengths"):
        valid = windows.valid.copy()
        valid[:, : past - observations] = False
        scores = score_windows(predictor, replace(windows, valid=valid))
        metrics = summarise(scores, bootstrap=0)["metrics"]
        by_history.append(metrics["min_ade_20"])
    return {
        "min_ade": metrics["min_ade_20"],
        "min_fde": metrics["min_fde_20"],
        "ade_single": metrics["ade_single"],
        "fde_single": metrics["fde_single"],
        "by_history": {"observations": shown, "min_ade": by_history},
    }


def gradient_by_step(run_folder: Path, windows: Windows) -> dict[str, list[float]]:
    """How strongly each past step moves the loss of the best path.

    steps_back (T,), 0 is the last step; norm (T,): mean over agents of the norm of the loss's gradient with
    respect to that step's features, each in units of its own spread over the data (m).
    """
    model, run = load_model(run_folder)
    past = windows.protocol.observe
    full = windows.target & windows.valid[:, :past].all(axis=1)
    probed = replace(windows, target=full).take(np.arange(min(len(windows), PROBED_AGENTS)))
    batch = make_batch(probed, model.config.neighbours, run.known_place)
    steps = batch.inputs.steps.clone().requires_grad_(True)
    futures, _ = model(batch.inputs._replace(steps=steps), model.new_state(len(steps)))
    distances(futures, batch.truth).mean(-1).amin(dim=1).sum().backward()
    assert steps.grad is not None
    norm = torch.linalg.vector_norm(steps.grad[batch.inputs.select] * model.std, dim=-1).mean(0)
    return {"steps_back": list(range(past)), "norm": norm.flip(0).tolist()}


def _table(rows: Mapping[str, Mapping[str, Any]], n: int) -> str:
    lines = [
        "| encoder | parameters | best of K, ADE/FDE (m) | single path, ADE/FDE (m) | "
        "best of K, ADE after 1 observation | gradient at the first step / at the last | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        norm = row["gradient"]["norm"]
        best, single = (_with_spread(row, keys) for keys in (ERRORS[:2], ERRORS[2:]))
        lines.append(
            f"| {name} | {row['parameters']:,} | {best} | {single} | {row['by_history']['min_ade'][0]:.3f} | "
            f"{norm[-1] / max(norm[0], 1e-12):.1e} | {row['seconds']:.0f} s |"
        )
    seeds = len(next(iter(rows.values()))["seeds"])
    of = f", mean ± standard deviation of {seeds} seeds" if seeds > 1 else ", one seed"
    return "\n".join([*lines, "", f"n = {n} windows{of}.", ""])


def _with_spread(row: Mapping[str, Any], keys: Sequence[str]) -> str:
    if len(row["seeds"]) == 1:
        return "/".join(f"{row[key]:.3f}" for key in keys)
    return " / ".join(f"{row[key]:.3f} ± {row['spread'][key]:.3f}" for key in keys)
