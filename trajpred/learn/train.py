"""Training with Lightning: back-propagation through time, checkpointed and calibrated by `val`, resumable.

A run folder holds run.json (what is trained on what), last.ckpt (to resume from), best.ckpt (lowest
validation score, averaged weights) and the log.
"""

from __future__ import annotations

import json
import logging
import math
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader

from trajpred import __version__
from trajpred.config import ModelConfig, NeighbourConfig, Protocol, TrainingConfig
from trajpred.errors import InputError, MissingExtraError
from trajpred.learn.calibrate import Calibration, calibrate, fold
from trajpred.learn.data import Batch, Batches, augment, fit_grid, fit_place, some_moments
from trajpred.learn.losses import distance, distances, losses
from trajpred.learn.model import Futures, Grid, Inputs, State, TrajectoryModel, coast
from trajpred.memory import keep_freed_memory
from trajpred.place import PLACE, Place
from trajpred.types import Label
from trajpred.windows import Windows

RUN_FILE = "run.json"
GRID_ROWS = 200_000
"""What the grid of futures is fitted to at most: more would say the same and take gigabytes."""


@dataclass(frozen=True, slots=True)
class Run:
    """What run.json says: the data, its classes, how it was cut, all settings; at the end seconds and score.

    protocol, model, training and calibration are those dataclasses as JSON has them; calibration is None
    until the training is over. start: what run.json says of the run whose weights it started from. place: the
    Place that the model learns, as JSON has it.
    """

    data: str
    protocol: dict[str, Any]
    model: dict[str, Any]
    training: dict[str, Any]
    classes: list[str]
    code_version: str
    start: dict[str, Any] | None = None
    place: dict[str, Any] | None = None
    seconds: float | None = None
    score: float | None = None
    calibration: dict[str, float] | None = None

    @property
    def known_place(self) -> Place | None:
        """The one whose ways the model learns."""
        return Place(**self.place | {"seen": tuple(self.place["seen"])}) if self.place else None

    @classmethod
    def read(cls, out: Path) -> Run:
        """Raises InputError if the folder is not a run."""
        path = out / RUN_FILE
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, json.JSONDecodeError, TypeError) as error:
            raise InputError(
                f"{path}: not a training run ({error}): make one with `trajpred train`"
            ) from None

    @classmethod
    def finished(cls, folder: Path) -> Run:
        """One to start from; raises InputError if the folder is not a run, or its training is not over."""
        run = cls.read(folder)
        if run.calibration is None:
            raise InputError(
                f"{folder}: is not finished, so nothing can start from it: let it run to its end"
            )
        return run

    def write(self, out: Path) -> None:
        """Written whole or not at all."""
        draft = out / (RUN_FILE + ".tmp")
        draft.write_text(json.dumps(asdict(self), indent=2) + "\n")
        draft.replace(out / RUN_FILE)

    def same_work(self, other: Run) -> bool:
        """Whether the other run can be resumed as this one: how fast it goes does not matter."""

        def what(run: Run) -> tuple[object, ...]:
            training = {k: v for k, v in run.training.items() if k not in ("threads", "log")}
            start = what(Run(**run.start)) if run.start else None
            return run.data, run.protocol, {"place": "", **run.model}, training, start

        return what(self) == what(other)


class Training(LightningModule):
    """One training run of a TrajectoryModel on windows."""

    def __init__(
        self,
        model: TrajectoryModel,
        train: Windows,
        val: Windows,
        config: TrainingConfig,
        place: Place | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.config = config
        near = model.config.neighbours
        self._train = Batches(train, near, config, place)
        self._val = Batches(val, near, None, place)
        self.epochs = max(config.epochs, math.ceil(config.min_steps / len(self._train)))
        self.total_steps = len(self._train) * self.epochs
        self._seconds_before, self._begun = 0.0, time.monotonic()
        self._ended: State | None = None

    @property
    def seconds(self) -> float:
        """Of training so far, those before an interruption included, up to the checkpoint it went on from."""
        return self._seconds_before + time.monotonic() - self._begun

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        checkpoint["seconds"], checkpoint["ended"] = self.seconds, self._ended

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        self._seconds_before, self._ended = checkpoint["seconds"], checkpoint.get("ended")

    def train_dataloader(self) -> DataLoader[Batch]:
        """The epoch's batches, the same ones after a resume."""
        self._train.epoch = self.current_epoch
        return DataLoader(self._train, batch_size=None)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Every window of val, as it is."""
        return DataLoader(self._val, batch_size=None)

    def temperature(self) -> float:
        """Winner-takes-all temperature: falls quadratically to zero over anneal_share of the run."""
        left = 1.0 - self.global_step / max(1.0, self.config.anneal_share * self.total_steps)
        return self.config.anneal_from * max(0.0, left) ** 2

    def _futures(self, batch: Batch) -> Futures:
        futures: Futures = self.model(batch.inputs, self.model.new_state(len(batch.inputs.steps)))[0]
        return futures

    def _carry(self, inputs: Inputs) -> tuple[Inputs, State]:
        """carry_share of the N agents begin with a state (N, ...) with which one of the last batch ended.

        Their first observation is hidden: it says of itself that it is the first.
        """
        state = self.model.new_state(len(inputs.steps))
        if not self.config.carry_share or self._ended is None:
            return inputs, state
        dice = torch.Generator().manual_seed(self.config.seed + 1_000_003 * self.global_step)
        drawn = torch.rand(len(inputs.steps), generator=dice) < self.config.carry_share
        rows = torch.randint(len(self._ended[0]), (len(inputs.steps),), generator=dice)
        drawn, rows = drawn.to(inputs.mask.device), rows.to(inputs.mask.device)
        drawn &= inputs.mask.sum(dim=1) > 1
        mask = inputs.mask.clone()
        mask[drawn, inputs.mask.to(torch.uint8).argmax(dim=1)[drawn]] = False
        old = zip(self._ended, state, strict=True)
        state = tuple(torch.where(drawn.view(-1, *[1] * (n.ndim - 1)), o[rows], n) for o, n in old)
        return inputs._replace(mask=mask), state

    def training_step(self, batch: Batch, _index: int) -> Tensor:
        """The weighted sum of the four losses."""
        config = self.config
        futures, ended = self.model(*self._carry(batch.inputs))
        if config.carry_share:
            self._ended = tuple(part.detach() for part in ended)
        parts = losses(futures, batch.truth, self.temperature(), config.endpoint_weight)
        for name, value in parts._asdict().items():
            self.log(f"train/{name}", value, prog_bar=name == "path", batch_size=len(batch.truth))
        paths = parts.path + parts.single
        if config.coasting_weight:
            straight = coast(batch.inputs.steps[batch.inputs.select], self.model.offset_s)
            paths = paths + config.coasting_weight * distance(futures.single, straight).mean()
        return paths + config.classify_weight * parts.classify + config.spread_weight * parts.spread

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Log the gradient norm before clipping: where it explodes, clipping is what saves the run."""
        norms = [p.grad.norm() for p in self.model.parameters() if p.grad is not None]
        self.log("train/gradient_norm", torch.linalg.vector_norm(torch.stack(norms)))

    def validation_step(self, batch: Batch, _index: int) -> None:
        """Errors in metres; `val/score` is what checkpoints are picked by."""
        futures = self._futures(batch)
        gap = distances(futures, batch.truth)  # (M, K + 1, S)
        gap, single = gap[:, :-1], gap[:, -1]
        first = gap[torch.arange(len(gap)), futures.logits.argmax(dim=1)]
        best_path, best_end = gap.mean(-1).amin(1).mean(), gap[..., -1].amin(1).mean()
        values = {
            "min_ade": best_path,
            "min_fde": best_end,
            "ade_single": single.mean(),
            "fde_single": single[:, -1].mean(),
            "ade_1": first.mean(),
            "fde_1": first[:, -1].mean(),
            "score": best_path + self.config.endpoint_weight * best_end,
        }
        for name, value in values.items():
            self.log(f"val/{name}", value, prog_bar=name.startswith("min"), batch_size=len(gap))

    def configure_optimizers(self) -> Any:
        """AdamW, one cycle of the learning rate."""
        config = self.config
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, config.learning_rate, total_steps=self.total_steps + 1, pct_start=0.05
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    name: str,
    train: Windows,
    val: Windows,
    model_config: ModelConfig,
    config: TrainingConfig,
    out: Path,
    *,
    start_from: Path | None = None,
    progress: bool = True,
) -> Run:
    """Train, then calibrate, or go on with either; a finished run is returned as it is.

    name says what the windows are. start_from: the folder of a finished run whose weights, normalisation and
    anchors are those to start with, e.g. of a model of all recordings that shall know one place better.
    Raises InputError if `out` holds a run with other settings, or if the one to start from is not finished or
    has another network or other times.
    """
    classes = [Label(label).name for label in np.unique(train.label[train.target]).tolist()]
    parts = (train.protocol, model_config, config)
    protocol, model_settings, training_settings = (json.loads(json.dumps(asdict(part))) for part in parts)
    begun = _to_start_from(start_from, model_settings, train.protocol) if start_from else None
    place = _to_learn(train, model_config, config, begun)
    run = Run(
        name,
        protocol,
        model_settings,
        training_settings,
        classes,
        __version__,
        start=asdict(begun) if begun else None,
        place=json.loads(json.dumps(asdict(place))) if place else None,
    )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    if (out / RUN_FILE).exists():
        earlier = Run.read(out)
        if not run.same_work(earlier):
            raise InputError(f"{out}: holds a run with other settings: choose another --out or remove it")
        if earlier.seconds is not None:
            run = earlier
    if run.calibration is not None:
        return run
    run.write(out)
    _prepare(config)
    if run.seconds is None:
        if start_from:
            model = _learned(start_from, model_config, place)
        else:
            model = _new_model(train, model_config, config)
        seconds, score = _train(Training(model.train(), train, val, config, place), out, progress)
        run = replace(run, seconds=seconds, score=score)
        run.write(out)
    model, _ = load_model(out, calibrated=False)
    run = replace(run, calibration=asdict(calibrate(model, val, config.endpoint_weight, place)))
    run.write(out)
    return run


def _to_start_from(folder: Path, model: dict[str, Any], protocol: Protocol) -> Run:
    """The run in the folder, if one of this network and these times can go on from it."""
    run = Run.finished(folder)
    others = [
        f"{key} {value} (not {model[key]})"
        for key, value in run.model.items()
        if value != model[key] and key != "place"  # that is for this run to learn
    ]
    if others:
        raise InputError(
            f"{folder}: its network has {', '.join(others)}: give the same settings of the model here"
        )
    if Protocol(**run.protocol).offset_s != protocol.offset_s:
        raise InputError(f"{folder}: predicts other times than those of this data: give its protocol here")
    return run


def _new_model(train: Windows, model: ModelConfig, config: TrainingConfig) -> TrajectoryModel:
    """Random weights; normalisation, futures and anchors from the training data."""
    rng = np.random.default_rng(config.seed)
    seen, _ = augment(some_moments(train, GRID_ROWS, rng), config, rng)
    return TrajectoryModel(model, fit_grid(seen, model, config.seed))


def _to_learn(train: Windows, model: ModelConfig, config: TrainingConfig, begun: Run | None) -> Place | None:
    """The place of the settings, as far as the run that it starts from knows it, and train does."""
    if not model.place:
        return None
    if not config.flip or config.bend_per_m:
        raise InputError(
            f"model.place {model.place!r} takes training.flip, since the place is hidden where a moment is "
            "mirrored, and no training.bend_per_m: where it is bent, nobody went like that"
        )
    return fit_place(train, model.place, begun.known_place if begun else None)


def _learned(start_from: Path, config: ModelConfig, place: Place | None) -> TrajectoryModel:
    """The weights of the finished run, and of a place that is new to it none yet."""
    model, run = load_model(start_from, calibrated=False)
    old, weights = run.known_place, model.state_dict()
    if place and old and replace(old, seen=()) == replace(place, seen=()):
        return model
    for name in ("trunk.0.weight", "aside.0.weight"):  # they see the place last of all
        known = weights[name][:, : weights[name].shape[1] - len(PLACE) * bool(old)]
        weights[name] = torch.nn.functional.pad(known, (0, len(PLACE) * bool(place)))
    return _of(weights, config)


def _of(weights: dict[str, Tensor], config: ModelConfig) -> TrajectoryModel:
    model = TrajectoryModel(config, Grid(*(weights[name] for name in Grid._fields)))
    model.load_state_dict(weights)
    return model


def _train(training: Training, out: Path, progress: bool) -> tuple[float, float]:
    """From the last checkpoint, if there is one, to the end; returns the seconds and the best score in m."""
    config = training.config
    best = ModelCheckpoint(dirpath=out, filename="best", monitor="val/score", enable_version_counter=False)
    # Of its own: save_last would keep the last one that was saved for being the best.
    every = ModelCheckpoint(dirpath=out, filename="last", enable_version_counter=False)
    callbacks: list[Callback] = [best, every, EMAWeightAveraging(decay=config.ema_decay)]
    if progress:
        callbacks.append(RichProgressBar(refresh_rate=10, leave=False))
    trainer = Trainer(
        accelerator="auto",
        max_epochs=training.epochs,
        gradient_clip_val=config.clip_norm,
        callbacks=callbacks,
        logger=_logger(config, out),
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        reload_dataloaders_every_n_epochs=1,
        enable_progress_bar=progress,
        enable_model_summary=False,
        deterministic=True,
    )
    last = out / "last.ckpt"
    resume = str(last) if last.exists() and _checkpoint(last) else None
    try:
        trainer.fit(training, ckpt_path=resume, weights_only=True)
    except SystemExit:  # what Lightning makes of an interrupt; whether to exit is not for a library to say
        raise KeyboardInterrupt from None
    except RuntimeError as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # between two epochs Lightning trips over one
            raise KeyboardInterrupt from None
        raise
    score = float(best.best_model_score) if best.best_model_score is not None else float("nan")
    return training.seconds, score


def load_model(out: Path, *, calibrated: bool = True) -> tuple[TrajectoryModel, Run]:
    """The best checkpoint's model (averaged weights) of a run folder, ready for inference.

    calibrated: with the run's calibration, if it has one already, folded into the weights.
    """
    run = Run.read(out)
    path = out / "best.ckpt"
    if not path.exists():
        raise InputError(f"{path}: no checkpoint yet: let `trajpred train --out {out}` run for an epoch")
    weights = {name.removeprefix("model."): value for name, value in _checkpoint(path)["state_dict"].items()}
    settings = {**run.model, "neighbours": NeighbourConfig(**run.model["neighbours"])}
    model = _of(weights, ModelConfig(**settings))
    if calibrated and run.calibration is not None:
        fold(model, Calibration(**run.calibration))
    return model.eval(), run


def _checkpoint(path: Path) -> dict[str, Any]:
    """What Lightning wrote; raises InputError for what is cut off, or is none."""
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        content["state_dict"]
    except (OSError, RuntimeError, EOFError, UnpicklingError, LookupError, TypeError) as error:
        raise InputError(
            f"{path}: not a checkpoint, or cut off ({error}): remove {path.parent} and train again"
        ) from None
    return content


def _prepare(config: TrainingConfig) -> None:
    seed_everything(config.seed, verbose=False)
    torch.set_num_threads(config.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    for known in (
        "does not have many workers",
        "has `__len__`",
        "smaller than the logging interval",
        "exists and is not empty",
        "LeafSpec",
    ):
        warnings.filterwarnings("ignore", message=f".*{known}.*")
    keep_freed_memory()


def _logger(config: TrainingConfig, out: Path) -> Logger:
    if config.log == "tensorboard":
        try:
            return TensorBoardLogger(out, name="log", version="")
        except ModuleNotFoundError:
            raise MissingExtraError("tensorboard", "tensorboard") from None
    return CSVLogger(out, name="log", version="")
