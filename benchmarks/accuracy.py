"""Accuracy on every benchmark: trains, exports, scores through the streaming ONNX predictor, writes tables.

    python benchmarks/accuracy.py --runs runs/accuracy --json benchmarks/results/accuracy.json

Three seeds of every model (one of each universal model for a fold, and of the models without neighbours), two
side by side, one core each; what others start from comes first. It may be interrupted at any time: a
training goes on in its run folder, and a model whose results are in the JSON file, with the same settings, is
not trained again, wherever that file came from, unless another has to start from it.
Checkpoints and calibration come from `val`; `test` is scored once for each model. The tables go into
README.md and docs/accuracy.md, pictures of the first seed's models into docs/pictures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock
from typing import Any

import yaml
from accuracy_scores import histories, milliseconds, parameters, scores
from accuracy_tables import BOTH_WAYS, HIDDEN, write_tables

from data_tools.catalog import FOLDS, KEPT_VARIABLE, open_data
from trajpred.cases import Pick, pick_cases
from trajpred.config import ModelConfig, Protocol, TrainingConfig
from trajpred.evaluate import make_predictor
from trajpred.viz import draw_predictions, draw_reliability

ROOT = Path(__file__).resolve().parents[1]
BRIEF = (
    "min_ade_20",
    "min_fde_20",
    "min_ade_6",
    "min_fde_6",
    "ade_single",
    "fde_single",
    "calibration_error",
)


DEFAULTS = json.loads(json.dumps([asdict(part) for part in (Protocol(), ModelConfig(), TrainingConfig())]))
"""Of all that a configuration does not say."""


@dataclass(frozen=True, slots=True)
class Task:
    """One model: its configuration, what is changed in it, and the data that it is scored on."""

    name: str
    config: str
    data: tuple[str, ...]
    fold: str | None = None
    changes: tuple[str, ...] = ()
    seeds_at_most: int | None = None
    start: Task | None = None
    """The one whose weights it starts from, seed by seed."""
    shortened: tuple[str, ...] = ()
    """The data that it is scored on once more with less of the history, or more of it, see histories."""

    def seeds(self, asked: Sequence[int]) -> list[int]:
        """Those of the seeds that are asked for that it is trained with."""
        return list(asked[: self.seeds_at_most])

    def on(self, split: str) -> Task:
        """The same model, scored on another split; what has no splits is left out."""
        data = tuple(d.replace(":test", f":{split}") for d in self.data if ":test" in d)
        return self if split == "test" else replace(self, data=data)

    def words(self, out: Path, start: Path | None, seed: int) -> list[str]:
        """The arguments of `trajpred` that train it."""
        fold = ("--fold", self.fold) if self.fold else ()
        config = ("--config", str(ROOT / "configs" / f"{self.config}.yaml"))
        since = ("--start-from", str(start)) if start else ()
        changes = (*fold, *self.changes, *since, "--training.seed", str(seed))
        return ["train", *config, *changes, "--out", str(out)]

    def identity(self) -> dict[str, Any]:
        """What makes a recorded result one of this task: command but for the seed, settings, defaults."""
        start = Path("runs", self.start.name) if self.start else None
        command = shlex.join(["trajpred", *self.words(Path("RUN"), start, 0)]).replace(f"{ROOT}/", "")
        settings = yaml.safe_load((ROOT / "configs" / f"{self.config}.yaml").read_text())
        known = {"command": command, "settings": settings, "data": list(self.data), "defaults": DEFAULTS}
        return known | ({"start": self.start.identity()} if self.start else {})


Job = tuple[Task, int]
"""A model and its seed."""


def folder_of(runs: Path, task: Task, seed: int) -> Path:
    """Of everything of one model; its run is in `run`."""
    return runs / f"{task.name}_{seed}"


def _eth_ucy(fold: str) -> tuple[str, ...]:
    return f"eth_ucy:{fold}:test", f"eth_ucy:{fold}:test:min2"


ALONE = ("--model.neighbours.count", "0")
CYCLISTS = ("vru:test", f"vru:test{HIDDEN}")
WANDERERS = (*CYCLISTS, "sdd:test:Biker", "sdd:test", "kitti")
SIMULATED = Task("simulated", "simulated", ("vru:test", "sdd:test:Biker", "sdd:test", "kitti"))
PEOPLE_DATA = (*(f"eth_ucy:{fold}:test" for fold in FOLDS), "sdd_trajnet:test")
PEOPLE = Task("simulated_people", "simulated_people", PEOPLE_DATA)
PEOPLE_ALONE = Task("simulated_people_alone", "simulated_people", (), None, ALONE, seeds_at_most=1)
SDD_TRAJNET = Task("sdd_trajnet", "sdd_trajnet", ("sdd_trajnet:test",), start=PEOPLE)
SDD_ALONE = Task("sdd_trajnet_alone", "sdd_trajnet", (), None, ALONE, seeds_at_most=1, start=PEOPLE_ALONE)
UNIVERSAL = Task(
    "universal",
    "universal",
    WANDERERS,
    "zara1",
    ("--model.place", "vru"),
    start=SIMULATED,
    shortened=CYCLISTS,
)
TASKS = (
    SIMULATED,
    PEOPLE,
    PEOPLE_ALONE,
    *(
        Task(
            f"universal20_{f}",
            "universal20",
            (*_eth_ucy(f), "sdd_trajnet:test"),
            f,
            seeds_at_most=1,  # five models with five sets of training data
            start=PEOPLE,
        )
        for f in FOLDS
    ),
    UNIVERSAL,
    SDD_TRAJNET,
    SDD_ALONE,
    *(Task(f"eth_ucy_{f}", "eth_ucy", _eth_ucy(f), f, start=SDD_TRAJNET) for f in FOLDS),
    *(Task(f"alone_{f}", "eth_ucy", _eth_ucy(f), f, ALONE, seeds_at_most=1, start=SDD_ALONE) for f in FOLDS),
    Task("vru", "vru", (*CYCLISTS, "kitti"), start=UNIVERSAL),
    Task("sdd_bikers", "sdd_bikers", ("sdd:test:Biker", "sdd:test"), start=SIMULATED),
)
"""The longest first, so that both cores end together."""


class Records:
    """The results in a JSON file, in which each stands as soon as it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        self._lock = Lock()

    def has(self, task: Task, seed: int) -> bool:
        """Whether all that belongs to it was measured with these settings."""
        known = self.content.get("models", {}).get(task.name)
        if known is None or not is_of(known, task.identity()):
            return False
        wanted = {
            "scores": task.data,
            "uncalibrated": _both_ways(task),
            "histories": task.shortened,
        }
        rows = [row for row in known["seeds"] if row["seed"] == seed]
        return any(all(set(row.get(k, {})) >= set(data) for k, data in wanted.items()) for row in rows)

    def add(self, task: Task, row: dict[str, Any]) -> None:
        """Of one seed; what was measured with other settings goes."""
        with self._lock:
            models = self.content.setdefault("models", {})
            identity = task.identity()
            known = models.get(task.name, {})
            kept = known["seeds"] if known and is_of(known, identity) else []
            rows = [r for r in kept if r["seed"] != row["seed"]]
            models[task.name] = {**identity, "seeds": sorted([*rows, row], key=lambda r: int(r["seed"]))}
            self.put()

    def put(self, **parts: Any) -> None:
        """Write, with other parts beside the models."""
        self.content.update(parts)
        _write(self.path, self.content)


def is_of(known: Mapping[str, Any], identity: Mapping[str, Any]) -> bool:
    """Whether what is recorded is of this task; an option that has come since is off by default."""
    if "start" in identity and not is_of(known.get("start", {}), identity["start"]):
        return False
    then, now = known.get("defaults", ()), identity["defaults"]
    if len(then) != len(now) or any({**new, **old} != new for old, new in zip(then, now, strict=True)):
        return False
    rest = identity.keys() - {"start", "defaults"}
    return all(known.get(key) == identity[key] for key in rest)


def do(task: Task, split: str, seed: int, runs: Path, core: SimpleQueue[int], records: Records) -> None:
    """Train, export and score one model in a process of its own on a free core; record it if on `test`."""
    mine = core.get()
    begun = time.monotonic()
    folder = folder_of(runs, task, seed)
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--runs", str(runs), "--split", split]
    try:
        with (folder / "log.txt").open("a") as log:
            of = ["--one", task.name, str(seed), str(mine)]
            done = subprocess.run([*command, *of], stdout=log, stderr=subprocess.STDOUT)
        if done.returncode:
            raise SystemExit(f"{task.name}, seed {seed}: failed, see {folder / 'log.txt'}")
    finally:
        core.put(mine)
    row = measured(task, seed, folder)
    if split == "test":
        records.add(task, row)
        if seed == 0 and task.name in DRAWN:
            draw(folder, *DRAWN[task.name], ROOT / "docs" / "pictures")
    lines = [f"{task.name}, seed {seed}: {time.monotonic() - begun:.0f} s"]
    for data, found in row["scores"].items():
        lines.append(f"  {data}: " + ", ".join(f"{name} {found['metrics'][name]:.3f}" for name in BRIEF))
    print("\n".join(lines), flush=True)


def one(task: Task, seed: int, runs: Path) -> None:
    """Train, export, score; without calibration, too, where a table shows it.

    What is there is kept, unless it was made of an earlier run in this folder.
    """
    from trajpred.cli import main as trajpred

    folder = folder_of(runs, task, seed)
    run = folder / "run" / "run.json"
    if not run.exists():
        for made in (*folder.glob("*.onnx"), *folder.glob("*.json")):
            made.unlink()
        _write(folder / "begun.json", {"commit": _commit()})
    elif not (folder / "begun.json").exists():
        raise SystemExit(f"{folder}: of an earlier version, which did not say of what commit: remove it")
    start = folder_of(runs, task.start, seed) / "run" if task.start else None
    if trajpred(task.words(run.parent, start, seed)):
        raise SystemExit(1)
    for calibrated, data in (("true", task.data), ("false", _both_ways(task))):
        if calibrated == "false" and not data:
            continue
        artefact = folder / f"calibrated_{calibrated}.onnx"
        if not artefact.exists() and trajpred(
            ["export", str(run.parent), "--out", str(artefact), "--calibrated", calibrated]
        ):
            raise SystemExit(1)
        for each in data:
            _make(folder, each, calibrated, partial(scores, str(artefact), each))
    artefact = folder / "calibrated_true.onnx"
    for each in task.shortened:
        _make(folder, each, "histories", partial(histories, str(artefact), each))
    latency = folder / "latency.json"
    if not latency.exists():
        _write(latency, {"ms": milliseconds(artefact), "parameters": parameters(run.parent)})


def _make(folder: Path, data: str, what: str, measure: Callable[[], Any]) -> None:
    """If it is not there yet; _read reads it."""
    out = folder / f"{data.replace(':', '_')}_{what}.json"
    if not out.exists():
        _write(out, measure())


def _both_ways(task: Task) -> list[str]:
    """The data that it is scored on without calibration, too."""
    return [data for data in task.data if (task.name, data) in BOTH_WAYS]


def _write(out: Path, values: Any) -> None:
    """Six digits of each number, without blanks: there are a hundred thousand of them."""
    draft = out.with_name(out.name + ".tmp")
    draft.write_text(json.dumps(_short(values), separators=(",", ":"), allow_nan=False) + "\n")
    draft.replace(out)


def _short(values: Any) -> Any:
    if isinstance(values, dict):
        return {name: _short(value) for name, value in values.items()}
    if isinstance(values, list):
        return [_short(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def measured(task: Task, seed: int, folder: Path) -> dict[str, Any]:
    """Of one model: the commit it was begun at, training time, parameters, milliseconds and all scores."""
    run = json.loads((folder / "run" / "run.json").read_text())
    return {
        "seed": seed,
        **json.loads((folder / "begun.json").read_text()),
        "training_s": run["seconds"],
        "val_score": run["score"],
        "calibration": run["calibration"],
        **json.loads((folder / "latency.json").read_text()),
        "histories": {d: _read(folder, d, "histories") for d in task.shortened},
        "scores": {d: _read(folder, d, "true") for d in task.data},
        "uncalibrated": {d: _read(folder, d, "false") for d in _both_ways(task)},
    }


def _commit() -> str:
    """What is measured; "-dirty" where anything but results and pictures was changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True).stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", ".", ":!benchmarks/results", ":!docs/pictures"
    )
    return git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")


def _read(folder: Path, data: str, what: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / f"{data.replace(':', '_')}_{what}.json").read_text())
    return content


def main() -> None:
    """Do what is not done, then write the results, the tables and the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/accuracy"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=2, help="models trained side by side, one core each")
    parser.add_argument("--only", nargs="+", default=[], help="tasks by name; then no table is written")
    parser.add_argument(
        "--split", choices=("val", "test"), default="test", help="val: to tune; no table then"
    )
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results/accuracy.json"))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    os.environ.setdefault(KEPT_VARIABLE, str(given.runs.resolve() / "simulated_traffic"))
    tasks = {task.name: task.on(given.split) for task in TASKS}
    if given.one:
        name, seed, core = given.one
        os.sched_setaffinity(0, {int(core)})
        one(tasks[name], int(seed), given.runs)
        return
    unknown = set(given.only) - set(tasks)
    if unknown:
        raise SystemExit(f"no such task: {', '.join(unknown)}; there are {', '.join(tasks)}")

    records = Records(given.json)
    waiting = [
        (task, seed)
        for seed in given.seeds
        for name, task in tasks.items()
        if (name in given.only or not given.only) and seed in task.seeds(given.seeds)
        if given.split != "test" or not records.has(task, seed)
    ]
    cores: SimpleQueue[int] = SimpleQueue()
    for core in sorted(os.sched_getaffinity(0))[: given.jobs]:
        cores.put(core)
    with ThreadPoolExecutor(given.jobs) as pool:
        for stage in stages(waiting, tasks):
            jobs = [
                pool.submit(partial(do, task, given.split, seed, given.runs, cores, records))
                for task, seed in stage
            ]
            for job in jobs:
                job.result()
    if given.only or given.split != "test":
        return
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    data = dict.fromkeys(d for task in TASKS for d in task.data)
    records.put(
        machine=machine,
        jobs=given.jobs,
        constant_velocity={d: scores("cv", d) for d in data},
        constant_velocity_histories={d: histories("cv", d) for task in TASKS for d in task.shortened},
    )
    for page in (ROOT / "README.md", ROOT / "docs" / "accuracy.md"):
        write_tables(records.content, page)
    print(given.json)


def stages(waiting: Sequence[Job], known: Mapping[str, Task]) -> list[list[Job]]:
    """What others start from, measured before or not, ahead of what starts from it."""
    depth: dict[tuple[str, int], int] = {}
    for task, seed in waiting:
        line = [task]
        while line[-1].start:
            line.append(known[line[-1].start.name])
        depth |= {(each.name, seed): at for at, each in enumerate(reversed(line))}
    return [
        [(known[name], seed) for (name, seed), at in depth.items() if at == stage]
        for stage in range(max(depth.values(), default=-1) + 1)
    ]


DRAWN = {"vru": ("vru:test", "cyclists"), "sdd_bikers": ("sdd:test:Biker", "bikers")}
"""Of whose first seed cases are drawn: on what, and what the pictures are called."""


def draw(folder: Path, data: str, name: str, pictures: Path) -> None:
    """Typical and worst cases; how far probabilities can be believed before and after calibration."""
    predictor, source = make_predictor(str(folder / "calibrated_true.onnx")), open_data(data)
    picks: tuple[Pick, ...] = ("typical", "worst")
    for pick in picks:
        title = f"{data}, {pick}: what was seen, six futures, what came"
        draw_predictions(pick_cases(predictor, source, pick, 6), pictures / f"{name}_{pick}.png", title)
    if name == "cyclists":
        panels = {
            title: _read(folder, data, calibrated)["reliability"]
            for title, calibrated in (("before calibration", "false"), ("after calibration", "true"))
        }
        draw_reliability(panels, pictures / "reliability.png")


if __name__ == "__main__":
    main()
