"""Why the LSTM is there: every encoder trained with the same budget, and what sets them apart.

Three questions, one picture: how large is the error; what does it do with a short history; how much of
the gradient reaches each past step (it vanishes in a tanh RNN, an LSTM keeps it).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
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


def ablate(
    name: str,
    windows: Mapping[str, Windows],
    encoders: list[str],
    model: ModelConfig,
    training: TrainingConfig,
    out: Path,
) -> str:
    """Train each encoder on windows["train"], pick by ["val"], score through ONNX on ["test"].

    Writes ablation.json, ablation.md and ablation.png to `out` and returns the table. Runs that are
    finished are not trained again. Raises InputError for an encoder that does not exist.
    """
    rows: dict[str, dict[str, Any]] = {}
    for encoder in encoders:
        try:
            config = replace(model, encoder=encoder)  # type: ignore[arg-type]
            folder = out / encoder
            run = fit(name, windows["train"], windows["val"], config, training, folder)
        except KeyError:
            raise InputError(f"no encoder {encoder!r}: see `trajpred train --help`") from None
        artefact = folder / f"{encoder}.onnx"
        export(folder, artefact)
        rows[encoder] = {
            **_errors(artefact, windows["test"], encoder),
            "parameters": sum(p.numel() for p in load_model(folder)[0].parameters()),
            "gradient": gradient_by_step(folder, windows["val"]),
            "seconds": run.seconds,
        }
    table = _table(rows, len(windows["test"].target.nonzero()[0]))
    (out / "ablation.json").write_text(json.dumps({"data": name, "encoders": rows}, indent=2) + "\n")
    (out / "ablation.md").write_text(table)
    draw_ablation(rows, out / "ablation.png")
    return table


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
        "ade_1": metrics["ade_1"],
        "fde_1": metrics["fde_1"],
        "by_history": {"observations": shown, "min_ade": by_history},
    }


def gradient_by_step(run_folder: Path, windows: Windows) -> dict[str, list[float]]:
    """How strongly each past step moves the loss of the best path.

    steps_back (T,), 0 is the last step; norm (T,): mean over agents of the norm of the loss's gradient with
    respect to that step's features, each in units of its own spread over the data (m).
    """
    model, _ = load_model(run_folder)
    past = windows.protocol.observe
    full = windows.target & windows.valid[:, :past].all(axis=1)
    probed = replace(windows, target=full).take(np.arange(min(len(windows), PROBED_AGENTS)))
    batch = make_batch(probed, model.config.neighbours)
    steps = batch.inputs.steps.clone().requires_grad_(True)
    futures, _ = model(batch.inputs._replace(steps=steps), model.new_state(len(steps)))
    distances(futures, batch.truth).mean(-1).amin(dim=1).sum().backward()
    assert steps.grad is not None
    norm = torch.linalg.vector_norm(steps.grad[batch.inputs.select] * model.std, dim=-1).mean(0)
    return {"steps_back": list(range(past)), "norm": norm.flip(0).tolist()}


def _table(rows: Mapping[str, Mapping[str, Any]], n: int) -> str:
    lines = [
        "| encoder | parameters | best of K, ADE/FDE (m) | most probable, ADE/FDE (m) | "
        "best of K, ADE after 1 observation | gradient at the first step / at the last | training |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        norm = row["gradient"]["norm"]
        lines.append(
            f"| {name} | {row['parameters']:,} | {row['min_ade']:.3f}/{row['min_fde']:.3f} | "
            f"{row['ade_1']:.3f}/{row['fde_1']:.3f} | {row['by_history']['min_ade'][0]:.3f} | "
            f"{norm[-1] / max(norm[0], 1e-12):.1e} | {row['seconds']:.0f} s |"
        )
    return "\n".join([*lines, "", f"n = {n} windows.", ""])
