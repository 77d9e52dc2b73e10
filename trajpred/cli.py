"""The command line: `trajpred train | export | evaluate | replay | plot | view | ablate | demo`.

Nothing heavy is imported before a command runs, so that `--help` is instant.
"""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trajpred.config import (
    DEFAULT_MODEL,
    ModelConfig,
    OutputConfig,
    PredictorConfig,
    Protocol,
    TrainingConfig,
)
from trajpred.errors import InputError, MissingExtraError, TrajpredError

if TYPE_CHECKING:
    from trajpred.lanes import Lanes
    from trajpred.windows import DataSource, Windows


def train(
    data: str,
    out: Path,
    fold: str | None = None,
    model: ModelConfig = ModelConfig(),  # noqa: B008 - frozen
    training: TrainingConfig = TrainingConfig(),  # noqa: B008
    protocol: Protocol | None = None,
    data_root: Path | None = None,
    val: str | None = None,
    start_from: Path | None = None,
    hold_out: list[str] = [],  # noqa: B006
) -> None:
    """Train a model; an interrupted run goes on where it was.

    Args:
        data: Data name with {fold} and {split} to fill in, e.g. eth_ucy:{fold}:{split}.
        out: Folder of the run: checkpoints, log, settings.
        fold: What replaces {fold} in the data name.
        model: The network.
        training: The training run.
        protocol: Time grid and lengths of windows, for tables and logs; a benchmark has its own.
        data_root: Folder of the recordings; default $TRAJPRED_DATA, else ../shared/data.
        val: Name of the data that the checkpoint is picked and calibrated by, e.g. one class alone; default
            `data` with val for {split}.
        start_from: Folder of a finished run whose weights it starts with, of the same network. A low
            training.learning_rate, and training.anneal_from 0, keep what they know.
        hold_out: Recordings, by name or pattern (biwi_eth*, quad/*), that neither the network nor the
            choice of the checkpoint sees, to compare settings on: --hold-out '[biwi_eth*]'.
    """
    learn = _learn()
    names = {split: _fill(data, fold, split) for split in ("train", "val")}
    names["val"] = val or names["val"]
    # What is wrong is said now, not after minutes of reading and simulating.
    there = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        raise InputError(f"{out}: cannot be written: {there} is no folder to write in")
    if start_from:
        learn.Run.finished(start_from)
    sources = {split: _held_out(_open(name, data_root), hold_out, split) for split, name in names.items()}
    without = f", without {', '.join(hold_out)}" if hold_out else ""
    run = learn.fit(
        names["train"] + without + (f", picked by {val}" if val else ""),
        _to_train_on(sources["train"], protocol, training),
        _windows(sources["val"], protocol.coarse if protocol else None),
        model,
        training,
        out,
        start_from=start_from,
    )
    print(f"{out}: trained on {run.data} in {run.seconds:.0f} s, best score on val {run.score:.4f} m")
    print(f"next: trajpred export {out} --out {out.name}.onnx")


def export(run: Path, out: Path, calibrated: bool = True) -> None:
    """Export a run's best checkpoint to an artefact, checked against torch.

    Args:
        run: Folder of a training run.
        out: The artefact to write.
        calibrated: With the temperature and the factor on the spreads that the run found on val.
    """
    _learn()
    from trajpred.learn.export import export as to_onnx

    info = to_onnx(run, out, calibrated=calibrated)
    print(f"{out}: {info.encoder}, K = {info.modes}, {len(info.offset_s)} steps to {info.offset_s[-1]:g} s")
    if info.place:
        print(f"knows the place {info.place.frame_id!r}, {info.place.reach_m:.0f} m round its middle")
    if found := info.trained_by["calibration"]:
        print(f"calibrated: temperature {found['temperature']:.2f}, spreads x {found['spread_factor']:.2f}")


def evaluate(
    data: str,
    model: str = DEFAULT_MODEL,
    data_root: Path | None = None,
    json: str | None = None,
    report: Path | None = None,
    predictor: PredictorConfig = PredictorConfig(),  # noqa: B008
) -> None:
    """Score an artefact or a baseline on recordings, through the streaming predictor.

    Args:
        data: Data name (eth_ucy:zara1:test, vru:test, ...) or the path of a table or log.
        model: An artefact's path, cv, ctrv, kalman, or a log of the PredictedObjects that anyone published;
            default: the model in the box.
        data_root: Folder of the recordings; default $TRAJPRED_DATA, else ../shared/data.
        json: Write the scores as JSON to this file, or to standard output with "-".
        report: Write a page to this .html file: scores beside baselines, curves, calibration, worst cases.
        predictor: Bounds of the streaming predictor.
    """
    from trajpred.evaluate import evaluate as score
    from trajpred.progress import bar
    from trajpred.report import examine, page

    if report and report.suffix not in (".html", ".htm"):
        raise InputError(f"{report}: a report is a page: name it something.html")
    for out in (report, Path(json) if json not in (None, "-") else None):
        if out and not out.parent.is_dir():  # said now, not after all the work
            raise InputError(f"{out}: cannot be written (no such folder)")
    source = _open(data, data_root)
    road = _road(Path(data), None)
    found = examine(model, source, config=predictor, progress=bar, lanes=road) if report else None
    scores = dict(found.scores[model]) if found else score(model, source, config=predictor, progress=bar)
    if json == "-":
        print(_json(scores))
    else:
        _print_scores(scores)
    if json not in (None, "-"):
        _write_text(Path(str(json)), _json(scores) + "\n")
    if report and found:
        _write_text(report, page(found, _evaluation(model, data, data_root, report, predictor)))


def replay(
    log: Path,
    out: Path,
    model: str = DEFAULT_MODEL,
    topic: str | None = None,
    markers: bool = True,
    overwrite: bool = False,
    output: OutputConfig = OutputConfig(),  # noqa: B008
    predictor: PredictorConfig = PredictorConfig(),  # noqa: B008
) -> None:
    """Predict every message of a recorded rosbag2 log into a new log, as the live node would; needs no ROS.

    Args:
        log: rosbag2 folder, .mcap or .db3 with a topic of TrackedObjects, or simulated traffic (its folder).
        model: An artefact's path, or cv, ctrv, kalman; default: the model in the box.
        out: The log to write: .mcap, .db3, or a folder.
        topic: Which topic, if the log has several.
        markers: Beside the predictions, what RViz and Foxglove draw of them; without, a third is saved of
            time and space.
        overwrite: Replace `out` if it exists.
        output: The published paths: a pose every step_s up to horizon_s; by default every 0.5 s to 10 s.
        predictor: Bounds of the streaming predictor.
    """
    from data_tools.catalog import log_of
    from trajpred.evaluate import make_predictor
    from trajpred.memory import keep_freed_memory
    from trajpred.replay import replay as run

    keep_freed_memory()
    answering = make_predictor(model, predictor)
    done = run(
        answering, log_of(log), out, topic=topic, output=output, with_markers=markers, overwrite=overwrite
    )
    by = ", ".join(f"{name} {count}" for name, count in sorted(done.sources.items()))
    print(f"{out}: {done.messages} messages, {done.objects} objects answered ({by})")
    print("one message, from bytes to bytes: p50 {:.2f} ms, p99 {:.2f} ms".format(*done.p50_p99_ms))
    if markers:
        print("RViz and Foxglove show it: docs/looking.md")


def plot(
    data: str,
    out: Path,
    model: str = DEFAULT_MODEL,
    pick: Literal["typical", "worst", "best", "random"] = "typical",
    count: int = 6,
    seed: int = 0,
    from_s: float = 0.0,
    to_s: float | None = None,
    fps: float = 10.0,
    scene: str | None = None,
    lanes: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Draw predictions, or a whole recording as it plays: history, paths by probability, what then happened.

    Args:
        model: An artefact's path, cv, ctrv, kalman, or a log of PredictedObjects; default: that in the box.
        data: Data name or the path of a table or log.
        out: Picture to write: .png, .svg or .pdf; or animation: .gif, or .mp4, which needs ffmpeg.
        pick: In a picture: which agents, by the error of their best path among those that move.
        count: In a picture: how many.
        seed: In a picture: for random picks.
        from_s: In an animation: where it begins, in seconds after the start of the recording.
        to_s: In an animation: where it ends; default 20 s later.
        fps: In an animation: pictures per second, of which there are not more than ticks in the recording.
        scene: In an animation: which recording, if the data have several; default the first.
        lanes: The road as GeoJSON; default LOG.lanes.geojson beside a log or table, if it is there.
        data_root: Folder of the recordings; default $TRAJPRED_DATA, else ../shared/data.
    """
    from trajpred.animate import FILM_SUFFIXES, Film, draw_film
    from trajpred.cases import pick_cases
    from trajpred.evaluate import make_predictor
    from trajpred.figures import SUFFIXES
    from trajpred.moments import choose_scene
    from trajpred.viz import draw_predictions

    if out.suffix.lower() not in SUFFIXES + FILM_SUFFIXES:
        known = f"one of {', '.join(SUFFIXES)}, that of an animation {' or '.join(FILM_SUFFIXES)}"
        raise InputError(f"{out}: the suffix of a picture is {known}")
    source, road = _open(data, data_root), _road(Path(data), lanes)
    predictor = make_predictor(model, protocol=source.protocol)
    title = f"{Path(model).name} on {data}"
    if out.suffix.lower() in FILM_SUFFIXES:
        chosen = choose_scene(source, scene)
        draw_film(predictor, chosen, Film.of(chosen, from_s, to_s, fps), out, title, road)
    else:
        cases = pick_cases(predictor, source, pick, count, seed)
        draw_predictions(cases, out, f"{title}: {pick}", lanes=road)
    print(out)


def view(
    log: Path,
    out: Path | None = None,
    model: str | None = None,
    from_s: float = 0.0,
    to_s: float | None = None,
    scene: str | None = None,
    lanes: Path | None = None,
    data_root: Path | None = None,
) -> None:
    """Look around in a recording and its predictions, in space and time, with rerun.

    Args:
        log: A log with a topic of TrackedObjects, a table, or a data name.
        out: Write an .rrd file for `rerun FILE` instead of opening the viewer.
        model: An artefact's path, cv, ctrv, kalman, or a log of PredictedObjects; default: those in the log
            itself, or the model in the box if there are none.
        from_s: Where it begins, in seconds after the start of the recording.
        to_s: Where it ends; default the end of the recording.
        scene: Which recording, if the data have several; default the first.
        lanes: The road as GeoJSON; default LOG.lanes.geojson beside a log or table, if it is there.
        data_root: Folder of the recordings; default $TRAJPRED_DATA, else ../shared/data.
    """
    from trajpred.evaluate import make_predictor
    from trajpred.moments import choose_scene, default_model, ticks_between
    from trajpred.view import Show, open_viewer, write_recording

    model, road = model or default_model(log), _road(log, lanes)
    source = _open(str(log), data_root)
    chosen = choose_scene(source, scene)
    predictor = make_predictor(model, protocol=source.protocol)
    show = Show(predictor, chosen, ticks_between(chosen, from_s, to_s), road)
    if out is None:
        open_viewer(show)
    else:
        write_recording(show, out)
        print(out)


def ablate(
    data: str,
    out: Path,
    fold: str | None = None,
    encoders: list[str] = ["lstm", "gru", "rnn_tanh", "rnn_relu", "window_mlp", "bag_of_steps"],  # noqa: B006
    model: ModelConfig = ModelConfig(),  # noqa: B008
    training: TrainingConfig = TrainingConfig(),  # noqa: B008
    protocol: Protocol | None = None,
    data_root: Path | None = None,
    seeds: list[int] = [],  # noqa: B006
) -> None:
    """Train every encoder with the same budget and show what sets them apart.

    Args:
        data: Data name with {fold} and {split} to fill in.
        out: Folder for the runs, ablation.json, ablation.md and ablation.png.
        fold: What replaces {fold} in the data name.
        encoders: Which encoders.
        model: The network, but for its encoder.
        training: The training run, the same for each.
        protocol: Time grid and lengths of windows; default: those of the data.
        data_root: Folder of the recordings; default $TRAJPRED_DATA, else ../shared/data.
        seeds: Each encoder is trained with each of them; default: that of `training`.
    """
    _learn()
    from trajpred.learn.ablate import ablate as run

    sources = {split: _open(_fill(data, fold, split), data_root) for split in ("train", "val", "test")}
    windows = {split: _windows(source, protocol) for split, source in sources.items() if split != "train"}
    windows["train"] = _to_train_on(sources["train"], protocol, training)
    print(run(_fill(data, fold, "train"), windows, encoders, model, training, out, seeds))


def demo(out: Path = Path("demo"), seed: int = 0) -> None:
    """Simulate a busy junction, predict it with the model in the box, score, film; needs no data and no ROS.

    Args:
        out: Folder for everything that is made.
        seed: Of the traffic.
    """
    from rich.console import Console

    if seed < 0:
        raise InputError(f"seed {seed}: a seed is 0 or more")
    from trajpred.demo import demo as run
    from trajpred.demo import summary

    shown = run(out, seed)
    Console().print(summary(shown))
    print(f"{out}/report.html  {out}/junction.gif  {out}/predictions.mcap")


COMMANDS: dict[Callable[..., None], tuple[str, ...]] = {
    train: (),
    export: ("run",),
    evaluate: (),
    replay: ("log",),
    plot: (),
    view: ("log",),
    ablate: (),
    demo: (),
}
"""Each command with its positional arguments; all others are options."""
FLAGS = {"overwrite": "Replace what is there."}
"""Options that are given without a value; `--overwrite true` is understood, too."""


def _learn() -> Any:
    """The training room; its libraries are an extra."""
    try:
        from trajpred.learn import train as room
    except ModuleNotFoundError as error:
        raise MissingExtraError(error.name or "torch", "train") from None
    return room


def _fill(data: str, fold: str | None, split: str) -> str:
    if "{fold}" in data and fold is None:
        raise InputError(f"{data}: which fold? Add --fold, e.g. --fold zara1")
    if "{split}" not in data:
        raise InputError(f"{data}: where does the split go? Write {{split}} in the name, e.g. vru:{{split}}")
    return data.replace("{fold}", fold or "").replace("{split}", split)


def _open(name: str, root: Path | None) -> DataSource:
    from data_tools.catalog import open_data

    return open_data(name, root)


def _held_out(source: DataSource, names: list[str], split: str) -> DataSource:
    """Without these recordings; train holds each of them, and neither split is left with none."""
    for name in names:
        if split == "train" and len(source.without([name]).scenes) == len(source.scenes):
            raise InputError(f"{source.name}: no recording {name!r} to hold out; there is {source.listed}")
    kept = source.without(names)
    if not kept.scenes:
        raise InputError(f"{source.name}: no recording is left without {', '.join(names)}")
    return kept


def _road(log: Path, named: Path | None) -> Lanes | None:
    from data_tools.catalog import log_of
    from trajpred.lanes import find_lanes

    return find_lanes(log_of(log), named)


def _windows(source: DataSource, protocol: Protocol | None) -> Windows:
    """As they are asked for; if they are not, as a benchmark has them, and as Protocol has them of logs."""
    from trajpred.evaluate import scored_only
    from trajpred.windows import cut

    protocol = protocol or (Protocol() if source.streamed else source.protocol)
    return scored_only(cut(source.scenes, protocol, source.truth), source)


def _to_train_on(source: DataSource, protocol: Protocol | None, training: TrainingConfig) -> Windows:
    from trajpred.types import Label

    windows = _windows(source, protocol)
    if not training.reverse:
        return windows
    backwards = _windows(source.reversed(), protocol)
    # Nobody went there like that: what is played backwards tells nothing of its place.
    backwards = replace(backwards, frame_ids=("",) * len(backwards.frame_ids))
    return windows.followed_by(backwards.of_interest(backwards.label == Label.PEDESTRIAN))


def _evaluation(
    model: str, data: str, data_root: Path | None, report: Path, predictor: PredictorConfig
) -> str:
    """The command line of an evaluation, with what is not as it is by default."""
    default = asdict(PredictorConfig())
    words = ["trajpred", "evaluate", "--model", model, "--data", data]
    words += ["--data-root", str(data_root)] if data_root else []
    for name, value in asdict(predictor).items():
        words += [f"--predictor.{name}", str(value)] if value != default[name] else []
    return shlex.join([*words, "--report", report.name])


def _json(values: Any) -> str:
    import json

    return json.dumps(values, indent=2, allow_nan=False)


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from None


def _print_scores(scores: dict[str, Any]) -> None:
    """The headline as a table: all, moving, waiting, each type of motion if several occur, each class."""
    from rich.console import Console
    from rich.table import Table

    from trajpred.report.tables import pairs

    reach = f"up to {scores['horizon_s']:g} s ahead"
    title = f"{scores['model']} on {scores['data']}: ADE/FDE in metres, {reach}"
    errors = pairs(scores["modes"])
    table = Table("", "n", *(name for name, *_ in errors), title=title)
    groups = {"all": {"n": scores["n"], **scores["metrics"]}}
    groups |= {name: scores[name] for name in ("moving", "waiting")}
    if len(scores["per_motion"]) > 1:
        groups |= {"by motion:": {}} | {f"  {name}": group for name, group in scores["per_motion"].items()}
    groups |= scores["per_class"]
    if scores["pixels"]["n"]:
        groups["all, in pixels"] = scores["pixels"]
    for name, group in groups.items():
        if not group:
            table.add_row(name)
        elif group["n"]:
            means = (f"{group[ade]:.3f}/{group[fde]:.3f}" for _, ade, fde in errors)
            table.add_row(name, str(group["n"]), *means)
    console = Console(emoji=False, markup=False)  # `eth_ucy:hotel:test` is a name
    console.print(table)
    changes = scores.get("flicker", {})
    for name in ("moving", "waiting"):
        if changes.get(name, {}).get("n"):
            told = changes[name]
            console.print(
                f"from one message to the next the single path of who is {name} changes by "
                f"{told['mean_m']:.3f} m, 99 % by less than {told['q99_m']:.3f} m"
            )


def parser() -> Any:
    """The argument parser of every command."""
    from jsonargparse import ArgumentParser

    from trajpred import __version__

    main_parser = ArgumentParser(prog="trajpred", description=__doc__.split("\n")[0], version=__version__)
    commands = main_parser.add_subcommands(required=True, dest="command")
    for function, positional in COMMANDS.items():
        summary = (function.__doc__ or "").split("\n")[0]
        sub = ArgumentParser(description=summary)
        sub.add_argument("--config", action="config", help="YAML file with any of these settings.")
        for name in positional:
            sub.add_argument(name, type=Path)
        skip: set[str | int] = {*positional, *FLAGS}
        sub.add_function_arguments(function, skip=skip, as_positional=False, as_group=False)
        for name in FLAGS.keys() & signature(function).parameters:
            sub.add_argument(f"--{name}", type=bool, nargs="?", const=True, default=False, help=FLAGS[name])
        commands.add_subcommand(function.__name__, sub, help=summary)
    return main_parser


def _underscored(word: str) -> str:
    """--data-root is --data_root: options may be spelt either way."""
    name, equals, value = word.partition("=")
    return (name[:2] + name[2:].replace("-", "_") if name.startswith("--") else name) + equals + value


def main(arguments: list[str] | None = None) -> int:
    """Run one command; a user's error is one line on standard error and exit code 2."""
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `trajpred ... | head` ends quietly
    reader = parser()
    given = sys.argv[1:] if arguments is None else arguments
    settings = reader.instantiate(reader.parse_args([_underscored(word) for word in given]))
    chosen = settings[settings.command].as_dict()
    chosen.pop("config", None)
    command = next(f for f in COMMANDS if f.__name__ == settings.command)
    try:
        command(**chosen)
    except TrajpredError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; training goes on from its last checkpoint when the same command is run again",
            file=sys.stderr,
        )
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
