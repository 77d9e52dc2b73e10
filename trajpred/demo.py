"""The whole line on a small generated street: tracks, training, artefact, replayed log, scores, picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from data_tools.convert import convert
from data_tools.demo_scene import PROTOCOL, demo_scene
from trajpred.cases import pick_cases
from trajpred.config import ModelConfig, NeighbourConfig, TrainingConfig
from trajpred.evaluate import evaluate, make_predictor
from trajpred.learn.export import export
from trajpred.learn.train import RUN_FILE, fit
from trajpred.progress import bar
from trajpred.replay import replay
from trajpred.tables import write_table
from trajpred.types import Label, Scene
from trajpred.viz import draw_predictions
from trajpred.windows import DataSource, Windows, cut

MODEL = ModelConfig(modes=6, hidden=64, neighbours=NeighbourConfig(count=4, radius_m=15.0))
TRAINING = TrainingConfig(
    epochs=10, batch_agents=128, history_dropout=0.4, learning_rate=4e-3, ema_decay=0.99
)


def demo(out: Path, seed: int = 0) -> None:
    """Make everything in `out`, and say where it is. A model of the same seed is not trained again."""
    console = Console()
    out.mkdir(parents=True, exist_ok=True)
    console.print("1/5 a street with cyclists, pedestrians and cars (generated, seeded)")
    table = out / "street.parquet"
    test = demo_scene(seconds=60.0, seed=seed + 2)
    write_table(test, table)
    convert("table", table, out / "street.mcap", overwrite=True)

    console.print("2/5 training on another street, about a minute")
    run = out / "run"
    training = replace(TRAINING, seed=seed)
    if (run / RUN_FILE).exists():
        console.print(f"    {run} goes on where it was, if its settings are the same")
    fit(
        f"demo street, seed {seed}",
        _windows(demo_scene(seconds=400.0, seed=seed)),
        _windows(demo_scene(seconds=60.0, seed=seed + 1)),
        MODEL,
        training,
        run,
    )

    console.print("3/5 export to ONNX, checked against torch")
    model = out / "demo.onnx"
    export(run, model)

    console.print("4/5 replay of the recorded log, tick by tick")
    done = replay(make_predictor(str(model)), out / "street.mcap", out / "predictions.mcap", overwrite=True)
    console.print(f"    {done.messages} messages, {done.objects} objects, every one answered")

    console.print("5/5 scores and picture")
    source = DataSource("street.parquet", (test,), PROTOCOL, streamed=True)
    _report(source, model, out)
    draw_predictions(
        pick_cases(make_predictor(str(model)), replace(source, scored_label=Label.BICYCLE), "typical", 6),
        out / "predictions.png",
        "Cyclists on the demo street: what was seen, six futures, what came",
    )
    for name in ("predictions.png", "scores.md", "predictions.mcap", "demo.onnx"):
        console.print(f"    {out / name}")


def _windows(scene: Scene) -> Windows:
    return cut((scene,), PROTOCOL)


def _report(source: DataSource, model: Path, out: Path) -> None:
    """The table on the screen and in scores.md: ADE/FDE over 4 s, per class, against constant velocity."""
    scores = {
        name: evaluate(model_name, source, progress=bar)
        for name, model_name in (("constant velocity", "cv"), ("trajpred", str(model)))
    }
    header = ["", "n", "constant velocity", "most probable path", "best of 6"]
    rows = []
    for group in ("all", *sorted(scores["trajpred"]["per_class"])):
        cv, ours = (
            s["metrics"] | {"n": s["n"]} if group == "all" else s["per_class"][group] for s in scores.values()
        )
        pairs = ((cv, "ade_1", "fde_1"), (ours, "ade_1", "fde_1"), (ours, "min_ade_6", "min_fde_6"))
        rows.append([group, str(ours["n"]), *(f"{s[a]:.2f}/{s[f]:.2f}" for s, a, f in pairs)])
    table = Table(*header, title="ADE/FDE over 4 s, metres")
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for row in rows:
        table.add_row(*row)
        lines.append("| " + " | ".join(row) + " |")
    Console().print(table)
    (out / "scores.md").write_text("ADE/FDE over 4 s, metres\n\n" + "\n".join(lines) + "\n")
