"""The command line as a user meets it: results on standard output, errors as one line and code 2."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from data_tools.cli import main as data_main
from tests.street import demo_scene
from trajpred.cli import _road, _to_train_on, main, parser
from trajpred.config import Protocol, TrainingConfig
from trajpred.tables import write_table
from trajpred.windows import DataSource

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "street.parquet"
    write_table(demo_scene(seconds=12.0, seed=3), path)
    return path


def refused(capsys, *arguments: str) -> str:
    """The single line of a user's error."""
    assert main(list(arguments)) == 2
    out = capsys.readouterr()
    assert out.out == ""
    (line,) = out.err.strip().splitlines()
    assert line.startswith("error: ")
    return line


def test_help_is_complete_and_imports_nothing_heavy():
    code = (
        "import sys; from trajpred.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'onnxruntime', 'pyarrow', 'matplotlib', 'rosbags', 'shapely'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip().endswith("[]")
    for command in ("train", "export", "evaluate", "replay", "plot", "ablate", "demo"):
        assert command in out


def test_the_runtime_never_imports_torch(table):
    code = (
        "import sys; from trajpred.cli import main\n"
        f"main(['evaluate', '--model', 'cv', '--data', {str(table)!r}])\n"
        "assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_evaluate_prints_a_table_and_writes_json(table, tmp_path, capsys):
    out = tmp_path / "scores.json"
    assert main(["evaluate", "--model", "cv", "--data", str(table), "--json", str(out)]) == 0
    scores = json.loads(out.read_text())
    assert {"model", "data", "n", "metrics", "per_class", "per_motion", "per_horizon"} <= scores.keys()
    wanted = {
        "ade_1", "fde_1", "min_ade_6", "min_fde_6", "min_ade_20", "min_fde_20",
        "miss_rate_av2", "brier_min_fde", "nll", "calibration_error",
    }  # fmt: skip
    assert wanted <= scores["metrics"].keys()
    printed = capsys.readouterr().out
    assert "bicycle" in printed
    assert len(scores["per_motion"]) > 1
    assert all(f"│   {name} " in printed for name in scores["per_motion"])


def test_a_baseline_is_scored_as_far_ahead_as_the_model_in_the_box(table, capsys):
    """A title says how far, and a column is there for each number of paths that there is."""
    times = {}
    for model, best in (("cv", False), ("default", True)):
        assert main(["evaluate", "--model", model, "--data", str(table)]) == 0
        printed = " ".join(capsys.readouterr().out.split())
        assert "up to 8 s ahead" in printed
        assert ("best of 6" in printed) is best
        assert "best of 20" not in printed
        assert main(["evaluate", "--model", model, "--data", str(table), "--json", "-"]) == 0
        scores = json.loads(capsys.readouterr().out)
        times[model] = [scores["horizon_s"], scores["n"], *scores["per_horizon"]]
    assert times["cv"] == times["default"]


def test_the_name_of_the_data_is_printed_as_it_is(table, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = "[b]a:hotel:b.parquet"  # what rich reads as bold and as a picture of a hotel
    Path(name).write_bytes(table.read_bytes())
    assert main(["evaluate", "--model", "cv", "--data", name]) == 0
    assert f"cv on {name}: ADE/FDE" in capsys.readouterr().out


def test_evaluate_writes_json_to_standard_output(table, capsys):
    assert main(["evaluate", "--model", "ctrv", "--data", str(table), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == "ctrv"


def test_a_log_is_replayed_scored_and_drawn(table, tmp_path, capsys):
    log, answers = tmp_path / "street.mcap", tmp_path / "predictions.mcap"
    assert data_main(["convert", "table", str(table), str(log)]) == 0
    assert main(["replay", "--model", "kalman", str(log), "--out", str(answers)]) == 0
    assert "objects answered (baseline" in capsys.readouterr().out
    assert main(["evaluate", "--model", "kalman", "--data", str(log), "--json", "-"]) == 0
    from_log = json.loads(capsys.readouterr().out)
    assert main(["evaluate", "--model", "kalman", "--data", str(table), "--json", "-"]) == 0
    from_table = json.loads(capsys.readouterr().out)
    assert from_log["n"] == from_table["n"]
    assert from_log["metrics"]["ade_1"] == pytest.approx(from_table["metrics"]["ade_1"], rel=1e-6)
    picture = tmp_path / "p.png"
    assert (
        main(["plot", "--model", "cv", "--data", str(table), "--out", str(picture), "--pick", "worst"]) == 0
    )
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_a_folder_of_simulated_traffic_is_understood_everywhere(tmp_path, capsys):
    made, answers = tmp_path / "made", tmp_path / "p.mcap"
    words = ["simulate", "--scenario", "cyclist_cut_in", "--seconds", "3", "--seed", "2", str(made)]
    assert data_main(words) == 0
    assert f"trajpred evaluate --data {made}" in capsys.readouterr().out
    assert main(["replay", str(made), "--out", str(answers), "--model", "cv", "--markers", "false"]) == 0
    assert main(["evaluate", "--data", str(made), "--model", str(answers)]) == 0
    again = ["replay", str(made), "--out", str(answers), "--model", "cv"]
    assert main(again) == 2
    for overwrite in (["--overwrite"], ["--overwrite", "true"], ["--overwrite=true"]):
        assert main([*again, *overwrite]) == 0
    road = _road(made, None)
    assert road is not None
    assert len(road.lines) == len(_road(made / "tracks.mcap", None).lines) > 0


@pytest.mark.parametrize(
    ("words", "says"), [(["--seed", "-1"], "seed -1"), (["--seconds", "0.01"], "the tracker sees nobody")]
)
def test_a_recording_of_nothing_is_not_written(tmp_path, capsys, words, says):
    assert data_main(["simulate", str(tmp_path / "made"), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["evaluate", "--data", "TABLE", "--report", "nowhere/x.html"], "nowhere/x.html: cannot be written"),
        (["evaluate", "--data", "TABLE", "--json", "nowhere/x.json"], "nowhere/x.json: cannot be written"),
        (["evaluate", "--data", "TABLE", "--report", "x.txt"], "something.html"),
        (["demo", "--seed", "-1"], "seed -1"),
        (["evaluate", "--model", "none.onnx", "--data", "TABLE"], "none.onnx: cannot be read"),
        (["evaluate", "--model", "cv", "--data", "eth_ucy:paris:test"], "known are"),
        (["evaluate", "--model", "cv", "--data", "nowhere.mcap"], "nowhere.mcap"),
        (["train", "--data", "x:{split}", "--out", "OUT"], "unknown data"),
        (["train", "--data", "eth_ucy:{fold}:{split}", "--out", "OUT"], "--fold"),
        (["train", "--data", "vru:train", "--out", "OUT"], "{split}"),
        (["export", "OUT", "--out", "OUT.onnx"], "not a training run"),
        (["replay", "--model", "cv", "TABLE", "--out", "OUT.mcap"], "rosbag2"),
        (["plot", "--model", "cv", "--data", "TABLE", "--out", "OUT.bmp"], ".png"),
    ],
    ids=lambda a: a[0] if isinstance(a, list) else None,
)
def test_a_users_error_is_one_line(arguments, says, table, tmp_path, capsys):
    filled = [a.replace("TABLE", str(table)).replace("OUT", str(tmp_path / "out")) for a in arguments]
    assert says in refused(capsys, *filled)
    assert not list(tmp_path.iterdir())


def test_an_unknown_setting_is_refused_with_its_name(tmp_path, capsys):
    config = tmp_path / "c.yaml"
    config.write_text("data: vru:{split}\nmodel:\n  hiden: 3\n")
    with pytest.raises(SystemExit) as stopped:
        main(["train", "--config", str(config), "--out", str(tmp_path / "run")])
    assert stopped.value.code == 2
    assert "hiden" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_configuration_loads_and_a_misspelt_key_fails(path, tmp_path):
    command = "ablate" if path.stem == "ablation" else "train"
    arguments = [command, "--config", str(path), "--out", str(tmp_path)]
    parser().parse_args(arguments)
    values = yaml.safe_load(path.read_text())
    values["modle"] = 1
    broken = tmp_path / "broken.yaml"
    broken.write_text(yaml.safe_dump(values))
    with pytest.raises(SystemExit):
        parser().parse_args([command, "--config", str(broken), "--out", str(tmp_path)])


def test_what_cannot_be_started_from_is_said_before_any_data_is_read(tmp_path, capsys):
    nowhere, recordings = tmp_path / "nowhere", tmp_path / "not there either"
    words = ("--data", "vru:{split}", "--data-root", str(recordings), "--out", str(tmp_path / "run"))
    line = refused(capsys, "train", *words, "--start-from", str(nowhere))
    assert str(nowhere) in line and "not a training run" in line
    assert str(recordings) not in line


def test_recordings_are_held_out_of_train_and_of_val(tmp_path, capsys):
    for split, seeds in (("train", (0, 1, 2)), ("val", (0, 1))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            write_table(demo_scene(seconds=20.0, seed=seed), tmp_path / split / f"{seed}.parquet")
    words = ["train", "--data", str(tmp_path / "{split}"), "--out", str(tmp_path / "run")]
    words += ["--protocol.step_ns", "200000000", "--protocol.observe", "5", "--protocol.predict", "5"]
    words += ["--model.hidden", "16", "--model.modes", "2", "--training.epochs", "1"]
    line = refused(capsys, *words, "--hold-out", "[road*]")
    assert "no recording 'road*'" in line and "street_0, street_1, street_2" in line
    for everything in ("['*']", "[street_0, street_1]"):  # of both, of val alone
        assert "no recording is left" in refused(capsys, *words, "--hold-out", everything)
    assert not (tmp_path / "run").exists()
    assert main([*words, "--hold-out", "[street_1]"]) == 0
    run = json.loads((tmp_path / "run" / "run.json").read_text())
    assert run["data"] == f"{tmp_path / 'train'}, without street_1"


def test_options_may_be_spelt_with_dashes(tmp_path, capsys):
    line = refused(capsys, "evaluate", "--model", "cv", "--data", "vru:test", "--data-root", str(tmp_path))
    assert str(tmp_path) in line


def test_interrupted_training_says_so_goes_on_and_is_exported(tmp_path, capsys):
    for name, seed in (("train", 0), ("other", 1)):  # there is no val: --val says what takes its place
        write_table(demo_scene(seconds=30.0, seed=seed), tmp_path / f"{name}.parquet")
    run = tmp_path / "run"
    settings = {
        "data": str(tmp_path / "{split}.parquet"),
        "val": str(tmp_path / "other.parquet"),
        "out": str(run),
        "protocol": {"step_ns": 200_000_000, "observe": 5, "predict": 5},
        "model": {"hidden": 16, "modes": 2, "neighbours": {"count": 0}},
        "training": {"epochs": 6, "batch_agents": 16},
    }
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "trajpred.cli", "train", "--config", str(config)]
    first = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore interrupts, and so would this one if the tests run in one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while not (run / "last.ckpt").exists() and first.poll() is None:
        time.sleep(0.05)
    first.send_signal(signal.SIGINT)
    _, err = first.communicate()
    assert first.returncode == 130, err
    assert "goes on from its last checkpoint" in err
    assert json.loads((run / "run.json").read_text())["seconds"] is None
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "next: trajpred export" in again.stdout
    done = json.loads((run / "run.json").read_text())
    assert done["seconds"] > 0
    assert done["data"] == f"{tmp_path / 'train.parquet'}, picked by {tmp_path / 'other.parquet'}"
    for calibrated, says in (("true", True), ("false", False)):
        assert main(["export", str(run), "--out", str(tmp_path / "m.onnx"), "--calibrated", calibrated]) == 0
        assert ("calibrated: temperature" in capsys.readouterr().out) == says


def test_a_model_learns_the_place_that_a_table_was_recorded_in(tmp_path, capsys):
    for name, seed in (("train", 0), ("val", 1)):
        scene = replace(demo_scene(seconds=20.0, seed=seed), frame_id="street")
        write_table(scene, tmp_path / f"{name}.parquet")
    run, model, page = tmp_path / "run", tmp_path / "m.onnx", tmp_path / "page.html"
    settings = {
        "data": str(tmp_path / "{split}.parquet"),
        "out": str(run),
        "protocol": {"step_ns": 200_000_000, "observe": 5, "predict": 5},
        "model": {"hidden": 16, "modes": 2, "neighbours": {"count": 0}, "place": "street"},
        "training": {"epochs": 1, "reverse": True},
    }
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(settings))
    assert main(["train", "--config", str(config)]) == 0
    assert main(["export", str(run), "--out", str(model)]) == 0
    assert "knows the place 'street'" in capsys.readouterr().out
    ask = ["evaluate", "--model", str(model), "--data", str(tmp_path / "val.parquet"), "--json", "-"]
    errors = []
    for told in ("true", "false"):
        assert main([*ask, "--predictor.place", told, "--report", str(page)]) == 0
        errors.append(json.loads(capsys.readouterr().out)["metrics"]["ade_single"])
    assert errors[0] != errors[1]
    assert "knows the place" in page.read_text()
    elsewhere = refused(capsys, "train", "--config", str(config), "--model.place", "town", "--out", f"{run}2")
    assert "there are: street" in elsewhere


def test_what_is_played_backwards_tells_nothing_of_its_place():
    scene = demo_scene(seconds=20.0, seed=0)
    source = DataSource("street", (scene,), Protocol(step_ns=200_000_000, observe=5, predict=5))
    once = _to_train_on(source, None, TrainingConfig())
    both = _to_train_on(source, None, TrainingConfig(reverse=True))
    assert once.frame_ids == ("map",)
    assert both.frame_ids == ("map", "")
    assert (both.scene[: len(once)] == 0).all()
    assert (both.scene[len(once) :] == 1).all()
    assert len(both) > len(once)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("data", "n", "ade", "fde"),
    [
        ("eth_ucy:eth:test", 364, 1.08, 2.28),
        ("eth_ucy:eth:test:min2", 181, 1.00, 2.23),  # 0.9954, which the table cuts to 0.99
        ("eth_ucy:hotel:test", 1197, 0.32, 0.61),
        ("eth_ucy:zara1:test", 2356, 0.43, 0.95),
        ("eth_ucy:zara1:test:min2", 2253, 0.43, 0.96),
        ("eth_ucy:zara2:test:min2", 5833, 0.33, 0.73),
        ("vru:test", 4387, 0.972, 2.009),
    ],
)
def test_constant_velocity_reproduces_the_published_table(data, n, ade, fde, data_root, capsys):
    """The figures of the recordings' own description, to their printed digits."""
    arguments = ["evaluate", "--model", "cv", "--data", data, "--data-root", str(data_root), "--json", "-"]
    assert main(arguments) == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["n"] == n
    digits = 3 if data.startswith("vru") else 2
    found = (round(scores["metrics"]["ade_1"], digits), round(scores["metrics"]["fde_1"], digits))
    assert found == (ade, fde)
    if data == "vru:test":
        assert scores["moving"]["n"] == 1581
        assert round(scores["moving"]["ade_1"], 3) == 1.876
        assert round(scores["moving"]["fde_1"], 3) == 4.108


@pytest.mark.real_data
def test_constant_velocity_in_pixels(data_root, capsys):
    arguments = ["evaluate", "--model", "cv", "--data", "sdd_trajnet:test", "--data-root", str(data_root)]
    assert main([*arguments, "--json", "-"]) == 0
    pixels = json.loads(capsys.readouterr().out)["pixels"]
    assert pixels["n"] == 2829
    np.testing.assert_allclose([pixels["ade_1"], pixels["fde_1"]], [19.74, 40.05], atol=0.005)
