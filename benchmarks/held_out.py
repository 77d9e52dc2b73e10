"""Settings for ETH/UCY compared on scenes not seen: each is held out of another fold, and scored.

    python benchmarks/held_out.py --runs runs/held_out/as_it_is
    python benchmarks/held_out.py --runs runs/held_out/longer -- --training.epochs 24

`val` is of the scenes that are trained on, and cannot show a new one. Training is that of
configs/eth_ucy.yaml, with what follows --, of fold zara1; zara01 is held out of hotel's. All seeds go on from
one run, runs/sdd_trajnet if no --start-from follows. What is there in --runs is kept, so that it may be
interrupted; other settings want another folder.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

from accuracy_scores import scores
from pages import table

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "eth_ucy.yaml"
SCENES = {
    "eth": "biwi_eth*",
    "hotel": "biwi_hotel*",
    "univ": "students*",
    "zara1": "crowds_zara01*",
    "zara2": "crowds_zara02*",
}
"""The recordings that are scored in the test of each fold."""
SHOWN = ("min_ade_20", "min_fde_20", "ade_single")


def do(runs: Path, changes: list[str], job: tuple[str, int]) -> list[float]:
    """Train without the scene, with the seed, and score on it: SHOWN, metres."""
    scene, seed = job
    folder = runs / f"{scene}_{seed}"
    run, artefact, found = folder / "run", folder / "model.onnx", folder / "scores.json"
    asked = folder / "changes.json"
    if asked.exists() and json.loads(asked.read_text()) != changes:
        raise SystemExit(f"{folder}: holds a model with other settings: choose another --runs or remove it")
    if not found.exists():
        folder.mkdir(parents=True, exist_ok=True)
        asked.write_text(json.dumps(changes))
        train = ["train", "--config", str(CONFIG), "--fold", "hotel" if scene == "zara1" else "zara1"]
        train += ["--hold-out", f"[{SCENES[scene]}]", "--training.seed", str(seed), "--out", str(run)]
        with (folder / "log.txt").open("a") as log:
            for words in ([*train, *changes], ["export", str(run), "--out", str(artefact)]):
                command = [sys.executable, "-m", "trajpred.cli", *words]
                if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
                    raise SystemExit(f"{scene}, seed {seed}: failed, see {folder / 'log.txt'}")
        found.write_text(json.dumps(scores(str(artefact), f"eth_ucy:{scene}:test")["metrics"]))
    metrics: dict[str, Any] = json.loads(found.read_text())
    print(f"{scene}, seed {seed}: " + ", ".join(f"{name} {metrics[name]:.3f}" for name in SHOWN), flush=True)
    return [metrics[name] for name in SHOWN]


def main() -> None:
    """Train and score each scene with each seed; print best of 20 and single path, means over seeds."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, required=True, help="folder for the models of these settings")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--jobs", type=int, default=2, help="models trained side by side, one core each")
    parser.add_argument("changes", nargs="*", help="options of trajpred train, after --")
    given = parser.parse_args()
    jobs = list(product(given.scenes, given.seeds))
    with ThreadPoolExecutor(given.jobs) as pool:
        done = dict(zip(jobs, pool.map(partial(do, given.runs, given.changes), jobs), strict=True))
    columns = [
        [mean(done[scene, seed][at] for seed in given.seeds) for at in range(len(SHOWN))]
        for scene in given.scenes
    ]
    columns.append([mean(values) for values in zip(*columns, strict=True)])
    cells = ["{:.3f}/{:.3f}, {:.3f}".format(*values) for values in columns]
    print(table([*given.scenes, "mean"], [cells]))


if __name__ == "__main__":
    main()
