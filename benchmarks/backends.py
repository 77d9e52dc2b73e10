"""The network's call alone: onnxruntime against torch as it is and compiled, with one thread and with two.

All are given what the predictor gives to onnxruntime: one step of agents whose store is warm. The model is
that of a training run, else one of the artefact's size with random weights, exported for onnxruntime. Torch
does what one tick needs and no more (no scan over steps), and is compiled for each number of agents and
threads.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from floor import start
from parts import Feeds, Watch
from rounds import calmest, loop_times, quantiles

from trajpred.config import ModelConfig, NeighbourConfig
from trajpred.errors import TrajpredError
from trajpred.predictor import Predictor
from trajpred.runtime import ModelInfo, OnnxModel, seal
from trajpred.types import TrackFrame

WARM_UP, CALLS, BLOCKS = 10, 20, 5
CLOSE_M = 1e-3
Call = Callable[[], Any]


def compare(
    given: argparse.Namespace, frames: Mapping[int, Sequence[TrackFrame]], say: Any
) -> dict[str, Any]:
    """By number of agents, threads and backend: ms a call. What cannot be measured is said in `skipped`."""
    if not given.torch_agents:
        return {"skipped": ["torch was not asked for"]}
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        return {"skipped": ["torch is not installed: pip install -e '.[train]'"]}
    found: dict[str, Any] = {"agents": {}, "skipped": []}
    everywhere = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            network, found["model"] = _models(given, path)
        except TrajpredError as error:
            return {"skipped": [str(error)]}
        for count in given.torch_agents:
            feeds = _feeds(path, frames[count])
            rows: dict[int, Any] = {}
            for threads in (1, 2):
                cores = {given.core} if threads == 1 else set(given.cores)
                if len(cores) < threads:
                    continue
                os.sched_setaffinity(0, cores)  # before threads are started, which inherit it
                calls = _calls(network, path, feeds, threads, found["skipped"])
                rows[threads] = _rounds(calls, given)
                said = ", ".join(f"{name} {row['ms']['p50']:.2f}" for name, row in rows[threads].items())
                say(f"{count} agents, {threads} threads: {said} ms")
            found["agents"][count] = rows
    os.sched_setaffinity(0, everywhere)
    found["skipped"] = sorted(set(found["skipped"]))
    return found


def _models(given: argparse.Namespace, path: Path) -> tuple[Any, str]:
    """The torch module of one tick and what it is called; the same for onnxruntime is written to path."""
    import torch

    from trajpred.learn.export import export, to_onnx
    from trajpred.learn.model import TrajectoryModel
    from trajpred.learn.train import load_model

    if given.run:
        export(given.run, path)
        return _tick(load_model(given.run)[0]), "/".join(given.run.parts[-2:])
    info = OnnxModel.load(given.model, provider="cpu").info
    by = info.trained_by["model"]
    torch.manual_seed(0)
    model = TrajectoryModel(
        ModelConfig(**{**by, "neighbours": NeighbourConfig(**by["neighbours"])}), _grid(info, by["basis"])
    ).eval()
    path.write_bytes(seal(to_onnx(model, info)))
    return _tick(model), "random weights, settings of the artefact"


def _grid(info: ModelInfo, rank: int) -> Any:
    """Any grid of the right size."""
    import torch

    from trajpred.learn.model import Grid

    steps = len(info.offset_s)
    basis, _ = torch.linalg.qr(torch.randn(2 * steps, rank))
    return Grid(
        mean=torch.tensor(info.mean),
        std=torch.tensor(info.std),
        offset_s=torch.tensor(info.offset_s),
        basis=basis.T.reshape(rank, steps, 2).contiguous(),
        anchors=torch.randn(info.modes, rank),
        centre=torch.zeros(rank),
    )


def _tick(model: Any) -> Any:
    """What the graph does with one step that everybody made."""
    import torch

    from trajpred.learn.model import Inputs

    class Tick(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *flat: torch.Tensor) -> tuple[torch.Tensor, ...]:
            given, state = Inputs(*flat[: len(Inputs._fields)]), flat[len(Inputs._fields) :]
            encoder = self.model.encoder
            x = (given.steps[:, 0] - self.model.mean) / self.model.std
            state = encoder.step(encoder.input(x), state)
            futures = self.model.decode(given, state)
            probability = torch.softmax(futures.logits, dim=-1)
            return futures.paths, probability, futures.spread, futures.single, *state

    return Tick().eval()


def _feeds(path: Path, frames: Sequence[TrackFrame]) -> Feeds:
    """What the predictor gives to the network at the last of some frames."""
    predictor = Predictor(OnnxModel.load(path, provider="cpu"))
    watch = Watch(predictor)
    with watch.on():
        for frame in frames[: WARM_UP + 1]:
            predictor.step(frame)
    return watch.feeds


def _calls(network: Any, path: Path, feeds: Feeds, threads: int, skipped: list[str]) -> dict[str, Call]:
    """By backend; each has been called, and torch says what onnxruntime says."""
    import torch

    from trajpred.learn.export import INPUTS, OUTPUTS

    session = start(path.read_bytes(), threads)
    outputs = [value.name for value in session.get_outputs()]
    known = {value.name for value in session.get_inputs()}
    state = network.model.state_shapes
    nothing = np.zeros(0, np.float32)  # for inputs that a model without neighbours has not
    tensors = [torch.from_numpy(np.ascontiguousarray(feeds.get(k, nothing))) for k in (*INPUTS, *state)]
    mine = {name: value for name, value in feeds.items() if name in known}
    torch.set_num_threads(threads)
    torch.compiler.reset()
    compiled = torch.compile(network, dynamic=False)

    def on_torch(module: Any) -> Call:
        def call() -> Any:
            with torch.inference_mode():
                return module(*tensors)

        return call

    calls: dict[str, Call] = {
        "onnxruntime": lambda: session.run(outputs, mine),
        "torch": on_torch(network),
        "torch.compile": on_torch(compiled),
    }
    told = dict(zip(outputs, calls["onnxruntime"](), strict=True))
    for name in ("torch", "torch.compile"):
        try:
            said = calls[name]()
        except Exception as error:  # of many kinds: no compiler, or what the compiler does not know
            skipped.append(f"{name}: {type(error).__name__}: {str(error).strip().splitlines()[0]:.200}")
            del calls[name]
            continue
        off = max(
            float(np.abs(ours.numpy() - told[key]).max(initial=0.0))
            for key, ours in zip(OUTPUTS, said, strict=False)
        )
        if not off < CLOSE_M:
            raise SystemExit(f"{name} and onnxruntime differ by {off:.2g}")
    return calls


def _rounds(calls: Mapping[str, Call], given: argparse.Namespace) -> dict[str, Any]:
    """Backends take turns within a round, so that all have the same share of the machine."""
    rounds: dict[str, list[dict[str, Any]]] = {name: [] for name in calls}
    for _ in range(given.rounds):
        loop: list[float] = []
        took: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(BLOCKS):
            loop += loop_times(given.core)
            for name, call in calls.items():
                for number in range(WARM_UP // 2 + CALLS):
                    begun = time.perf_counter()
                    call()
                    if number >= WARM_UP // 2:
                        took[name].append(1e3 * (time.perf_counter() - begun))
        for name, times in took.items():
            rounds[name].append({"loop_ms": float(np.median(loop)), "ms": quantiles(times)})
    return {name: {**calmest(found), "rounds": found} for name, found in rounds.items()}
