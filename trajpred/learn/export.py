"""From a training run to the artefact that the runtime loads: one ONNX file, checked against torch."""

from __future__ import annotations

import copy
import logging
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from torch import Tensor, nn
from torch.export import Dim

from trajpred import __version__
from trajpred.config import Protocol
from trajpred.errors import ArtefactError, InputError
from trajpred.features import FEATURES, RELATION, Neighbours
from trajpred.learn.data import FLAGS
from trajpred.learn.model import Inputs, State, TrajectoryModel
from trajpred.learn.train import Run, load_model
from trajpred.place import PLACE
from trajpred.runtime import FORMAT, METADATA_KEY, ModelInfo, OnnxModel, seal
from trajpred.types import Label

TOLERANCE_M = 1e-4
ROUNDING = 3.0
INPUTS = Inputs._fields
OUTPUTS = ("paths", "probability", "spread", "single")


class _Graph(nn.Module):
    """The model with flat inputs and outputs, as ONNX wants them."""

    def __init__(self, model: TrajectoryModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, *flat: Tensor) -> tuple[Tensor, ...]:
        """Inputs in their order, then the parts of the state; probability instead of logits."""
        futures, after = self.model(Inputs(*flat[: len(INPUTS)]), flat[len(INPUTS) :])
        probability = torch.softmax(futures.logits, dim=-1)
        return futures.paths, probability, futures.spread, futures.single, *after


def export(run_folder: Path, out: Path, *, calibrated: bool = True) -> ModelInfo:
    """Write the run's best model to `out`, whole or not at all; calibrated, unless told otherwise.

    Raises ArtefactError if ONNX and torch disagree by more than TOLERANCE_M anywhere, InputError if the
    folder is not a run or `out` cannot be written.
    """
    model, run = load_model(run_folder, calibrated=calibrated)
    info = describe(model, run if calibrated else replace(run, calibration=None))
    sealed = seal(to_onnx(model, info))
    draft = out.with_name(out.name + ".tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(sealed)
        check_parity(model, OnnxModel.load(draft, provider="cpu"))
        draft.replace(out)
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror})") from None
    except ArtefactError as error:
        raise ArtefactError(f"{run_folder}: not exported: {error}") from None
    finally:
        if draft.exists():  # where a folder of its path is a file, to ask is no error, and to unlink is one
            draft.unlink()
    return info


def describe(model: TrajectoryModel, run: Run) -> ModelInfo:
    """What the artefact will say of itself."""
    config = model.config
    shortened = run.training["history_dropout"] > 0
    return ModelInfo(
        format=FORMAT,
        code_version=__version__,
        encoder=config.encoder,
        features=FEATURES,
        relation=RELATION,
        classes=tuple(label.name for label in Label),
        trained_classes=tuple(run.classes),
        offset_s=tuple(Protocol(**run.protocol).offset_s),
        modes=config.modes,
        min_observations=1 if shortened else 2,
        neighbours=config.neighbours.count,
        neighbour_radius_m=config.neighbours.radius_m,
        place=run.known_place,
        state=model.state_shapes,
        mean=tuple(model.mean.tolist()),
        std=tuple(model.std.tolist()),
        trained_on=run.data,
        trained_by={
            "protocol": run.protocol,
            "model": run.model,
            "training": run.training,
            "seconds": run.seconds,
            "score": run.score,
            "calibration": run.calibration,
        },
    )


def sample(model: TrajectoryModel, agents: int, steps: int, seed: int = 0) -> tuple[Inputs, State]:
    """Random inputs with partly empty masks, and a state that the model came to by such inputs."""
    draw = torch.Generator().manual_seed(seed)
    before = _random(model, agents, steps, draw)
    with torch.no_grad():
        state = _Graph(model)(*before, *model.new_state(agents))[len(OUTPUTS) :]
    return _random(model, agents, steps, draw), state


def _random(model: TrajectoryModel, agents: int, steps: int, draw: torch.Generator) -> Inputs:
    width = max(model.config.neighbours.count, 1)

    def rand(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=draw)

    def rows(*shape: int) -> Tensor:
        return torch.randint(0, agents, shape, generator=draw)

    features = model.mean + (rand(agents, steps, len(FEATURES)) - 0.5) * 4 * model.std
    # What no feature can be takes paths to where single precision has no digits left for the tolerance.
    flags = [FEATURES.index(name) for name in FLAGS]
    features[..., flags] = (features[..., flags] > 0.0).to(features)
    features[..., FEATURES.index("elapsed_s")].abs_()
    relation = (rand(agents, width, len(RELATION)) - 0.5) * 10
    relation[..., RELATION.index("heading_sin") :] /= 5.0
    relation[..., RELATION.index("inverse_gap")].abs_()
    return Inputs(
        features,
        rand(agents, steps) < 0.7,
        torch.randint(0, len(Label), (agents,), generator=draw),
        features[:, -1, 0].abs(),  # m/s forward
        rows(agents),
        rows(agents, width),
        rand(agents, width) < 0.5,
        relation,
        2.0 * rand(agents, len(PLACE)) - 1.0,
    )


def to_onnx(model: TrajectoryModel, info: ModelInfo) -> bytes:
    """The serialised graph with its metadata, not yet sealed."""
    agents, steps, decoded = Dim("agents"), Dim("steps"), Dim("decoded")
    inputs, state = sample(model, agents=5, steps=3)
    per_step, per_agent, per_decoded = inputs[:2], inputs[2:4], inputs[4:]
    shapes = (
        *({0: agents, 1: steps} for _ in per_step),
        *({0: agents} for _ in per_agent),
        *({0: decoded} for _ in per_decoded),
        *({0: agents} for _ in state),
    )
    fewer = tuple(part[:4] for part in per_decoded)  # so that the exporter tells agents from decoded
    names = list(model.state_shapes)
    for chatty in ("torch.onnx", "onnx_ir", "onnxscript"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about the exporter's own internals
        program = torch.onnx.export(
            _Graph(model),
            (*per_step, *per_agent, *fewer, *state),
            dynamo=True,
            dynamic_shapes=(shapes,),
            input_names=[*INPUTS, *names],
            output_names=[*OUTPUTS, *(f"{name}_next" for name in names)],
            verbose=False,
        )
    assert program is not None
    # The exporter notes for every node where in whose source tree it came from.
    ClearMetadataAndDocStringPass()(program.model)
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA_KEY, info.to_json()
    content: bytes = proto.SerializeToString()
    return content


def _double(part: Tensor) -> Tensor:
    return part.double() if part.is_floating_point() else part


def check_parity(model: TrajectoryModel, onnx: OnnxModel) -> float:
    """The largest difference between ONNX and torch, over 1, 7 and 300 agents with partly empty masks.

    Paths in metres, probability and state without unit; spread, which is an exponential, relative to
    itself where it is above 1 m. ArtefactError above TOLERANCE_M, or above ROUNDING times what torch itself
    loses to single precision on these inputs, which are wilder than any traffic.
    """
    worst, rounding = 0.0, 0.0
    exact_model = _Graph(copy.deepcopy(model).double())
    for agents, steps in ((1, 1), (7, 3), (300, 8)):
        inputs, state = sample(model, agents, steps, seed=agents)
        with torch.no_grad():
            expected = _Graph(model)(*inputs, *state)
            exact = exact_model(*map(_double, inputs), *map(_double, state))
        steps_in, mask, label, speed, select, *near, place = (part.numpy() for part in inputs)
        forecast, after = onnx.run(
            steps_in,
            mask,
            label.astype(np.uint8),
            speed,
            {name: part.numpy() for name, part in zip(model.state_shapes, state, strict=True)},
            select,
            Neighbours(*near),
            place,
        )
        found = (*forecast, *(after[name] for name in model.state_shapes))
        for ours, *torchs in zip(found, expected, exact, strict=True):
            theirs, true = (part.numpy() for part in torchs)
            unit = np.maximum(np.abs(theirs), 1.0) if ours is forecast.spread else 1.0
            worst = max(worst, float((np.abs(ours - theirs) / unit).max(initial=0.0)))
            rounding = max(rounding, float((np.abs(theirs - true) / unit).max(initial=0.0)))
    if not worst <= max(TOLERANCE_M, ROUNDING * rounding):
        raise ArtefactError(f"ONNX and torch differ by {worst:.2g} m, more than {TOLERANCE_M} m")
    return worst
