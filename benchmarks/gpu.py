"""Time of `Predictor.step` and of the network's call on an NVIDIA GPU, beside the processor and torch.

    python benchmarks/gpu.py

Simulated traffic as a tracker sees it; the store is warm. All predictors are given the same frames in turn;
how far each answer is from the processor's is in the result. The call: features to the GPU, forecasts back.
torch is the network alone with random weights of the same sizes, its state on the GPU, beside onnxruntime on
the processor with the same weights; it is compiled for each number of agents, with CUDA graphs. Without a GPU
it says so and fails. Written to benchmarks/results/gpu.json, the figures fill docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from pages import fill, table
from rounds import machine, quantiles
from town import town

from trajpred.config import DEFAULT_MODEL
from trajpred.errors import TrajpredError
from trajpred.predictor import Predictor
from trajpred.runtime import PROVIDERS, OnnxModel, Provider, start
from trajpred.types import TrackFrame

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/gpu.json"
RATE_HZ = 10.0
WARM_UP, CALLS = 40, 300
CLOSE_M = 1e-3
ON_GPU: Mapping[str, tuple[Provider, bool]] = {
    "CUDA": ("cuda", True),
    "CUDA, state in the store": ("cuda", False),
    "TensorRT": ("tensorrt", True),
}
"""Provider, and whether the state stays on the GPU."""
_SOURCES = re.compile(r"/\S+: |/\S+\.cc:\d+ .*?\(.*?\) ")
"""Files, and functions of onnxruntime, in what it says."""


def predictors(artefact: str, skipped: list[str]) -> dict[str, Predictor]:
    """On the processor and, by each way, on the GPU; SystemExit where CUDA is not to be had."""

    def on(provider: Provider, resident: bool) -> Predictor:
        return Predictor(OnnxModel.load(artefact, provider=provider, resident=resident))

    found = {"CPU": on("cpu", False)}
    for name, how in ON_GPU.items():
        try:
            found[name] = on(*how)
            continue
        except TrajpredError as error:
            fault = _SOURCES.sub("", " ".join(str(error).split()))
        if how[0] == "cuda":
            raise SystemExit(f"not measured, there is no GPU to be used: {fault}")
        skipped.append(f"{name}: {fault}")
    return found


@contextmanager
def timed_calls(predictor: Predictor) -> Iterator[list[float]]:
    """Ms of each call of the network."""
    owner: Any = predictor._resident or predictor.model
    took: list[float] = []
    run = owner.run

    def timed(*given: Any) -> Any:
        begun = time.perf_counter()
        said = run(*given)
        took.append(1e3 * (time.perf_counter() - begun))
        return said

    with patch.object(owner, "run", timed):
        yield took


def timed_steps(those: Mapping[str, Predictor], frames: Sequence[TrackFrame]) -> dict[str, Any]:
    """Of each predictor: ms of steps and calls, and how far it is from the first, m."""
    steps: dict[str, list[float]] = {name: [] for name in those}
    calls: dict[str, list[float]] = {name: [] for name in those}
    apart = dict.fromkeys(those, 0.0)
    for one in those.values():
        one.reset()
    for number, frame in enumerate(frames):
        answers = []
        for name, predictor in those.items():
            with timed_calls(predictor) as took:
                begun = time.perf_counter()
                answers.append(predictor.step(frame))
                spent = 1e3 * (time.perf_counter() - begun)
            if number >= WARM_UP:
                steps[name].append(spent)
                calls[name] += took
            apart[name] = max(apart[name], float(np.abs(answers[-1].paths - answers[0].paths).max()))
    return {
        name: {
            "step_ms": quantiles(steps[name]),
            "call_ms": quantiles(calls[name]),
            "furthest_from_cpu_m": apart[name],
        }
        for name in those
    }


def timed_torch(
    given: argparse.Namespace, frames: Mapping[int, Sequence[TrackFrame]], skipped: list[str]
) -> dict[int, Any]:
    """By number of agents: ms of a call of torch, as it is and compiled; how far from the processor, m."""
    try:
        import torch
        from backends import _feeds, _models
    except ModuleNotFoundError as error:
        skipped.append(f"torch: {error.name} is not installed: pip install -e '.[train]'")
        return {}
    if not torch.cuda.is_available():
        skipped.append(f"torch: {torch.__version__} finds no GPU")
        return {}
    from trajpred.learn.export import INPUTS

    found: dict[int, Any] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        network, _ = _models(given, path)
        session = start(path.read_bytes(), 1, PROVIDERS["cpu"])
        known = {one.name for one in session.get_inputs()}
        network = network.cuda()
        for count in given.agents:
            feeds = _feeds(path, frames[count])
            (paths,) = session.run(["paths"], {name: one for name, one in feeds.items() if name in known})
            nothing = np.zeros(0, np.float32)  # for inputs that a model without neighbours has not
            inputs = [torch.from_numpy(np.ascontiguousarray(feeds.get(name, nothing))) for name in INPUTS]
            state = [torch.from_numpy(feeds[name]).cuda() for name in network.model.state_shapes]
            torch.compiler.reset()
            for name, module in (
                ("torch", network),
                ("torch.compile", torch.compile(network, dynamic=False, mode="reduce-overhead")),
            ):

                def call(module: Any = module, inputs: Any = inputs, state: Any = state) -> Any:
                    with torch.inference_mode():
                        return [part.cpu() for part in module(*(one.cuda() for one in inputs), *state)[:4]]

                try:
                    apart = float(np.abs(call()[0].numpy() - paths).max())
                    found[count][name] = {"call_ms": quantiles(_times(call)), "furthest_from_cpu_m": apart}
                    continue
                except Exception as error:  # of many kinds: no compiler, or what the compiler does not know
                    said = f"{type(error).__name__}: {str(error).strip().splitlines()[0]:.200}"
                skipped.append(f"{name}: {said}")
    return found


def _times(call: Callable[[], Any]) -> list[float]:
    took = []
    for _ in range(WARM_UP + CALLS):
        begun = time.perf_counter()
        call()
        took.append(1e3 * (time.perf_counter() - begun))
    return took[WARM_UP:]


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Everything, as it goes into the file."""
    skipped: list[str] = []
    those = predictors(given.model, skipped)
    asked = ("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader", "--id=0")
    about = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    frames = {n: town(n, (WARM_UP + given.ticks - 1) / RATE_HZ, RATE_HZ) for n in given.agents}
    agents: dict[int, Any] = {}
    for count in given.agents:
        agents[count] = timed_steps(those, frames[count])
        for name, one in agents[count].items():
            print(f"{count} agents, {name}: step p50 {one['step_ms']['p50']:.3f} ms", file=sys.stderr)
    for count, found in timed_torch(given, frames, skipped).items():
        agents[count] |= found
    captured = {name: one._resident.captured for name, one in those.items() if one._resident}
    return {
        "machine": machine(),
        "gpu": about,
        "cuda_graphs": captured,
        "skipped": sorted(set(skipped)),
        "agents": agents,
    }


def page(result: Mapping[str, Any]) -> str:
    """What docs/performance.md says of it."""
    agents = result["agents"]
    names = list(dict.fromkeys(name for found in agents.values() for name in found))

    def cells(found: Mapping[str, Any], part: str) -> list[str]:
        times = [found.get(name, {}).get(part) for name in names]
        return [f"{one['p50']:.2f} / {one['p99']:.2f}" if one else "-" for one in times]

    def rows(part: str) -> list[list[str]]:
        return [[str(count), *cells(found, part)] for count, found in agents.items()]

    apart = [one["furthest_from_cpu_m"] for found in agents.values() for one in found.values()]
    graphs = ", ".join(f"{name}: {'yes' if on else 'no'}" for name, on in result["cuda_graphs"].items())
    lines = [
        f"{result['gpu']}; {result['machine']['processor']}; onnxruntime {result['machine']['onnxruntime']}. "
        f"CUDA graphs: {graphs}. Furthest from the processor's paths: {max(apart):.1e} m.",
        *(f"Not measured: {one}" for one in result["skipped"]),
        "`Predictor.step`, p50 / p99, ms:",
        table(["agents", *names], rows("step_ms")),
        "The network's call alone, p50 / p99, ms:",
        table(["agents", *names], rows("call_ms")),
    ]
    return "\n\n".join(lines)


def main() -> None:
    """Measure, write, fill the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL, help="an artefact; default: the model in the box")
    parser.add_argument("--agents", type=int, nargs="+", default=[1, 10, 50, 128, 256, 512, 1024])
    parser.add_argument("--ticks", type=int, default=500)
    parser.add_argument(
        "--run", type=Path, help="a training run's folder, for torch; default: random weights"
    )
    parser.add_argument("--json", type=Path, default=RESULTS)
    given = parser.parse_args()
    result = measure(given)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(result, indent=1) + "\n")
    said = page(result)
    print(said)
    if given.json == RESULTS:
        fill(ROOT / "docs/performance.md", {"gpu": said})
    far = {
        f"{name} at {count}: {one['furthest_from_cpu_m']:.2g} m"
        for count, found in result["agents"].items()
        for name, one in found.items()
        if not one["furthest_from_cpu_m"] <= CLOSE_M
    }
    if far:
        raise SystemExit(f"further than {CLOSE_M} m from the processor: {', '.join(sorted(far))}")


if __name__ == "__main__":
    main()
