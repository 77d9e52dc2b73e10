"""Training: it learns, it resumes to the same numbers, it refuses to mix runs."""

from __future__ import annotations

import copy
import csv
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.learn.conftest import crowd
from trajpred.cli import main
from trajpred.config import ModelConfig, NeighbourConfig, Protocol, TrainingConfig
from trajpred.errors import InputError
from trajpred.evaluate import make_predictor, score_windows
from trajpred.features import VELOCITY
from trajpred.learn.ablate import ablate
from trajpred.learn.calibrate import Calibration
from trajpred.learn.data import Batches, fit_grid, make_batch
from trajpred.learn.export import export
from trajpred.learn.losses import losses
from trajpred.learn.model import TrajectoryModel
from trajpred.learn.train import Run, Training, fit, load_model
from trajpred.metrics import summarise
from trajpred.place import PLACE
from trajpred.types import Scene, ids_from_int
from trajpred.windows import cut

MODEL = ModelConfig(hidden=16, modes=3, neighbours=NeighbourConfig(count=2, radius_m=8.0))
TRAINING = TrainingConfig(epochs=4, batch_agents=64, ema_decay=0.9, threads=1, learning_rate=5e-3)


def windows(seed=0):
    return cut((crowd(agents=10, seed=seed),), Protocol())


def circling(seed=0, agents=10, steps=40):
    """Windows of agents who go in circles, each its own: where to is to be learned from the history."""
    rng = np.random.default_rng(seed)
    ranges = (-3.0, 3.0), (-0.3, 0.3), (0.5, 2.0)  # rad, rad per step, m/s
    first, each, speed = (rng.uniform(low, high, (agents, 1)) for low, high in ranges)
    course = first + each * np.arange(steps)
    xy = np.cumsum(0.4 * speed[..., None] * np.stack([np.cos(course), np.sin(course)], axis=-1), axis=1)
    agent, step = np.divmod(np.arange(agents * steps), steps)
    scene = Scene.build("circling", step * 400_000_000, ids_from_int(agent), xy.reshape(-1, 2))
    return cut((scene,), Protocol())


def logged(out):
    with (out / "log" / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def test_training_lowers_the_error_logs_gradients_and_writes_a_run(tmp_path):
    run = fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path / "run", progress=False)
    scores = [float(row["val/score"]) for row in logged(tmp_path / "run") if row.get("val/score")]
    assert len(scores) == TRAINING.epochs
    assert scores[-1] < scores[0]
    assert run.score == pytest.approx(min(scores), rel=1e-5)
    assert run.seconds > 0
    names = set(logged(tmp_path / "run")[0])
    assert {"val/min_ade", "val/min_fde", "val/ade_1"} <= names
    assert Run.read(tmp_path / "run") == run


def test_a_single_path_that_is_held_to_constant_velocity_goes_straight_on(tmp_path):
    (batch,) = Batches(circling(1), MODEL.neighbours, None)
    off = []
    for weight in (0.0, 2.0):
        training, out = replace(TRAINING, epochs=20, coasting_weight=weight), tmp_path / str(weight)
        fit("circling", circling(), circling(1), MODEL, training, out, progress=False)
        model, _ = load_model(out)
        with torch.no_grad():
            futures, _ = model(batch.inputs, model.new_state(len(batch.inputs.steps)))
        last = batch.inputs.steps[batch.inputs.select, -1][:, VELOCITY]
        straight = last[:, None] * 0.4 * torch.arange(1, 13)[:, None]
        off.append(float(torch.linalg.norm(futures.single - straight, dim=-1).mean()))
    assert off[1] < 0.5 * off[0]


def test_a_small_recording_gets_more_epochs_until_its_steps_are_enough(tmp_path):
    fewer = replace(TRAINING, epochs=1, min_steps=1)
    more = replace(fewer, min_steps=3 * len(Batches(windows(), MODEL.neighbours, TRAINING)) - 1)
    for training, epochs in ((fewer, 1), (more, 3)):
        out = tmp_path / str(epochs)
        fit("crowd", windows(), windows(1), MODEL, training, out, progress=False)
        assert len([row for row in logged(out) if row.get("val/score")]) == epochs


def test_the_best_checkpoint_scores_what_the_run_says(tmp_path):
    """The averaged weights that were validated are those that are saved."""
    val = windows(1)
    training = replace(TRAINING, epochs=2)
    run = fit("crowd", windows(), val, MODEL, training, tmp_path / "run", progress=False)
    export(tmp_path / "run", tmp_path / "m.onnx")
    metrics = summarise(score_windows(make_predictor(str(tmp_path / "m.onnx")), val), bootstrap=0)["metrics"]
    found = metrics["min_ade_20"] + training.endpoint_weight * metrics["min_fde_20"]
    assert found == pytest.approx(run.score, rel=1e-3)


@pytest.mark.parametrize("carry_share", [0.0, 0.5])
def test_a_run_cut_off_goes_on_to_the_same_weights(tmp_path, monkeypatch, carry_share):
    training = replace(TRAINING, carry_share=carry_share)
    whole = tmp_path / "whole"
    fit("crowd", windows(), windows(1), MODEL, training, whole, progress=False)

    from trajpred.learn import train as room

    class CutOff(RuntimeError):
        pass

    def cut_off(self):
        if self.current_epoch == 2:
            raise CutOff

    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr(room.Training, "on_train_epoch_start", cut_off, raising=False)
        with pytest.raises(CutOff):
            fit("crowd", windows(), windows(1), MODEL, training, part, progress=False)
    assert Run.read(part).seconds is None
    before = torch.load(part / "last.ckpt", weights_only=True)["seconds"]
    began = time.monotonic()
    fit("crowd", windows(), windows(1), MODEL, training, part, progress=False)
    assert before < Run.read(part).seconds <= before + time.monotonic() - began
    assert Run.read(part).calibration == Run.read(whole).calibration
    a, b = (torch.load(p / "last.ckpt", weights_only=True)["state_dict"] for p in (whole, part))
    for name, weight in a.items():
        torch.testing.assert_close(b[name], weight, msg=name)


def test_an_interrupt_while_an_epoch_begins_is_an_interrupt(tmp_path, monkeypatch):
    from trajpred.learn import train as room

    class Interrupted(room.DataLoader):
        def __iter__(self):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(room, "DataLoader", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path, progress=False)
    assert fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path, progress=False).score > 0


def test_a_run_goes_on_after_its_last_epoch_not_after_its_best(tmp_path, monkeypatch):
    from trajpred.learn import train as room

    def ever_worse(self, *_):
        self.log("val/score", float(self.current_epoch), batch_size=1)

    monkeypatch.setattr(room.Training, "validation_step", ever_worse)
    fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path, progress=False)
    epochs = {
        name: torch.load(tmp_path / f"{name}.ckpt", weights_only=True)["epoch"] for name in ("best", "last")
    }
    assert epochs == {"best": 0, "last": TRAINING.epochs - 1}


def test_a_run_cut_off_before_its_calibration_is_calibrated_and_not_trained_again(tmp_path, monkeypatch):
    training = replace(TRAINING, epochs=1)

    def work(out):
        return fit("crowd", windows(), windows(1), MODEL, training, out, progress=False)

    whole = work(tmp_path / "whole")

    from trajpred.learn import train as room

    def cut_off(*_):
        raise KeyboardInterrupt

    part = tmp_path / "part"
    with monkeypatch.context() as patch:
        patch.setattr(room, "calibrate", cut_off)
        with pytest.raises(KeyboardInterrupt):
            work(part)
    trained = Run.read(part)
    assert trained.calibration is None
    monkeypatch.setattr(room, "_train", cut_off)
    found = work(part)
    assert found == Run.read(part) == replace(trained, calibration=whole.calibration)


def test_calibration_on_val_is_that_of_the_best_checkpoint_and_worsens_nothing(tmp_path):
    val = windows(1)
    run = fit("crowd", windows(), val, MODEL, TRAINING, tmp_path, progress=False)
    told = Calibration(**run.calibration)
    assert told.classify_after <= told.classify_before
    assert told.spread_after <= told.spread_before
    assert told.temperature != 1.0 != told.spread_factor
    for calibrated, classify, spread in (
        (False, told.classify_before, told.spread_before),
        (True, told.classify_after, told.spread_after),
    ):
        model, _ = load_model(tmp_path, calibrated=calibrated)
        batch = make_batch(val, MODEL.neighbours)
        with torch.no_grad():
            futures, _ = model(batch.inputs, model.new_state(len(batch.inputs.steps)))
            found = losses(futures, batch.truth, 0.0, TRAINING.endpoint_weight)
        assert float(found.classify) == pytest.approx(classify, abs=1e-5)
        assert float(found.spread) == pytest.approx(spread, abs=1e-5)


def test_a_finished_run_is_not_trained_again_and_another_is_refused(tmp_path):
    training = replace(TRAINING, epochs=1)
    first = fit("crowd", windows(), windows(1), MODEL, training, tmp_path / "run", progress=False)
    again = fit("crowd", windows(), windows(1), MODEL, training, tmp_path / "run", progress=False)
    assert again == first
    with pytest.raises(InputError, match="other settings"):
        fit(
            "crowd",
            windows(),
            windows(1),
            replace(MODEL, modes=4),
            training,
            tmp_path / "run",
            progress=False,
        )


def test_a_run_starts_from_another_and_knows_what_that_knew(tmp_path):
    def run(name, *others, model=MODEL, **changes):
        training = replace(TRAINING, **changes)
        start = tmp_path / others[0] if others else None
        out = tmp_path / name
        ours, others = circling(), circling(1)
        return fit("circling", ours, others, model, training, out, start_from=start, progress=False)

    first = run("first", epochs=20)
    gently = {"epochs": 1, "learning_rate": 1e-9, "anneal_from": 0.0, "ema_decay": 0.0}
    assert run("cold", **gently).score > 1.1 * first.score
    warm = run("warm", "first", **gently)
    assert warm.score == pytest.approx(first.score, rel=1e-3)
    assert run("better", "first", **gently | {"epochs": 10, "learning_rate": 1e-3}).score < first.score
    old, new = (load_model(tmp_path / name, calibrated=False)[0].state_dict() for name in ("first", "warm"))
    for name, weight in old.items():
        torch.testing.assert_close(new[name], weight, rtol=0, atol=1e-5, msg=name)

    assert Run(**warm.start) == first  # where it comes from is told, and told again
    assert run("warm", "first", **gently) == warm
    with pytest.raises(InputError, match="other settings"):
        run("warm", **gently)
    with pytest.raises(InputError, match=r"first: its network has modes 3 \(not 4\): give the same settings"):
        run("more", "first", model=replace(MODEL, modes=4))
    with pytest.raises(InputError, match="not a training run"):
        run("more", "nowhere")
    replace(first, calibration=None).write(tmp_path / "first")
    with pytest.raises(InputError, match="first: is not finished"):
        run("more", "first")
    later = replace(first, protocol=first.protocol | {"predict": 5})
    later.write(tmp_path / "first")
    with pytest.raises(InputError, match="first: predicts other times"):
        run("more", "first")


def test_a_run_learns_a_place_that_the_one_it_starts_from_does_not_know(tmp_path):
    still = replace(TRAINING, epochs=1, learning_rate=1e-9, anneal_from=0.0, ema_decay=0.0)

    def run(name, place, start=None, training=still, data=windows):
        model = replace(MODEL, place=place)
        start = start and tmp_path / start
        return fit(
            "crowd", data(), data(1), model, training, tmp_path / name, start_from=start, progress=False
        )

    def answers(name, told=True):
        model, about = load_model(tmp_path / name, calibrated=False)
        (batch,) = Batches(windows(1), MODEL.neighbours, None, about.known_place if told else None)
        with torch.no_grad():
            return model(batch.inputs, model.new_state(len(batch.inputs.steps)))[0].paths

    def close(ours, theirs):
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=0)

    first = run("first", "", training=replace(TRAINING, epochs=5))
    assert first.known_place is None
    there = run("there", "map", "first")
    assert there.score == pytest.approx(first.score, rel=1e-3)
    close(answers("there"), answers("first"))
    assert run("there", "map", "first") == there
    learned = run("learned", "map", "there", replace(TRAINING, epochs=5))
    assert learned.known_place == there.known_place == Run.read(tmp_path / "there").known_place
    assert (answers("learned") - answers("learned", told=False)).abs().max() > 0.01
    # The place is forgotten again, nothing else is; so it is for another site whose frame has the same name.
    run("nowhere", "", "learned")
    close(answers("nowhere"), answers("learned", told=False))

    def away(seed=0):
        return replace(windows(seed), xy=windows(seed).xy + 1000.0)

    other = run("other", "map", "learned", data=away)
    assert other.known_place.x_m == pytest.approx(there.known_place.x_m + 1000.0)
    assert not load_model(tmp_path / "other")[0].trunk[0].weight[:, -len(PLACE) :].abs().gt(1e-6).any()


def test_settings_that_no_place_can_be_learned_with_are_refused_before_anything_is_written(tmp_path):
    def refused(match, place="map", **changes):
        model, training = replace(MODEL, place=place), replace(TRAINING, **changes)
        with pytest.raises(InputError, match=match):
            fit("crowd", windows(), windows(1), model, training, tmp_path / "run", progress=False)
        assert not (tmp_path / "run").exists()

    refused("there are: map", place="town")
    refused("takes training.flip", flip=False)
    refused("no training.bend_per_m", bend_per_m=0.1)


def test_a_run_of_before_there_were_places_is_still_one(tmp_path):
    done = fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path / "run", progress=False)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    del told["place"], told["model"]["place"]
    (tmp_path / "run" / "run.json").write_text(json.dumps(told))
    again = fit("crowd", windows(), windows(1), MODEL, TRAINING, tmp_path / "run", progress=False)
    assert (again.score, again.calibration) == (done.score, done.calibration)
    assert load_model(tmp_path / "run")[1].known_place is None


def test_states_are_carried_from_one_batch_to_the_next_without_a_first_observation(tmp_path):
    training = Training(
        TrajectoryModel(MODEL, fit_grid(windows(), MODEL, 0)),
        windows(),
        windows(1),
        replace(TRAINING, carry_share=1.0),
    )
    batches = list(Batches(windows(), MODEL.neighbours, None))
    inputs = batches[0].inputs
    once = inputs._replace(mask=inputs.mask.clone())
    once.mask[0, :-1] = False  # seen once: nothing to go on from
    same, state = training._carry(once)
    assert same is once
    assert all(not part.any() for part in state)

    _, ended = training.model(once, state)
    training._ended = tuple(part.detach() for part in ended)
    carried, state = training._carry(once)
    going_on = once.mask.sum(dim=1) > 1
    assert not going_on[0]
    assert going_on[1:].any()
    assert not any(part[~going_on].any() for part in state)
    assert torch.equal(carried.mask[~going_on], once.mask[~going_on])
    for row in going_on.nonzero()[:, 0].tolist():
        (who,) = ((state[0][row] == ended[0]).all(dim=1)).nonzero()[:1, 0].tolist()
        assert all(torch.equal(part[row], old[who]) for part, old in zip(state, ended, strict=True))
        first, *others = once.mask[row].nonzero()[:, 0].tolist()
        assert carried.mask[row].nonzero()[:, 0].tolist() == others, first


def test_the_same_seed_gives_the_same_weights(tmp_path):
    training = replace(TRAINING, epochs=1)
    for name in ("a", "b"):
        fit("crowd", windows(), windows(1), MODEL, training, tmp_path / name, progress=False)
    a, b = (load_model(tmp_path / name)[0].state_dict() for name in ("a", "b"))
    for name, weight in a.items():
        assert torch.equal(b[name], weight), name


def test_a_folder_that_is_no_run_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="not a training run"):
        export(tmp_path, tmp_path / "m.onnx")
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(InputError, match="not a training run"):
        export(tmp_path, tmp_path / "m.onnx")
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize("name", ["best.ckpt", "last.ckpt"])
def test_a_checkpoint_that_is_cut_off_is_named_with_the_way_out(tmp_path, name):
    out = tmp_path / "run"
    fit("crowd", windows(), windows(1), MODEL, TRAINING, out, progress=False)
    content = (out / name).read_bytes()
    (out / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=rf"{name}: not a checkpoint, .*remove .*run and train again"):
        if name == "best.ckpt":
            export(out, tmp_path / "m.onnx")
        else:
            replace(Run.read(out), seconds=None, score=None, calibration=None).write(out)
            fit("crowd", windows(), windows(1), MODEL, TRAINING, out, progress=False)


def test_what_averages_the_weights_does_not_copy_the_windows():
    training = Training(
        TrajectoryModel(MODEL, fit_grid(windows(), MODEL, 0)), windows(), windows(1), TRAINING
    )
    copied = copy.deepcopy(training)
    assert copied.model is not training.model
    assert copied.train_dataloader().dataset is training.train_dataloader().dataset


def test_a_run_where_nothing_can_be_written_is_refused_before_anything_is_read(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "run"
    assert main(["train", "--data", "no:such:{split}", "--out", str(out)]) == 2
    assert f"{out}: cannot be written" in capsys.readouterr().err


def test_the_ablation_compares_encoders(tmp_path):
    splits = {"train": windows(), "val": windows(1), "test": windows(2)}
    training = replace(TRAINING, epochs=1)
    table = ablate("crowd", splits, ["lstm", "bag_of_steps"], MODEL, training, tmp_path)
    assert "| lstm |" in table
    assert "| bag_of_steps |" in table
    assert (tmp_path / "ablation.png").stat().st_size > 10_000
    import json

    rows = json.loads((tmp_path / "ablation.json").read_text())["encoders"]
    assert rows["lstm"]["by_history"]["observations"] == [1, 2, 3, 4, 6, 8]
    assert rows["lstm"]["by_history"]["min_ade"][-1] == pytest.approx(rows["lstm"]["min_ade"])
    assert np.isfinite(rows["lstm"]["gradient"]["norm"]).all()
    ablate("crowd", splits, ["lstm"], MODEL, training, tmp_path, [training.seed, 7])
    both = json.loads((tmp_path / "ablation.json").read_text())["encoders"]["lstm"]
    assert both["seeds"][0] == rows["lstm"]["seeds"][0]
    errors = [row["ade_single"] for row in both["seeds"]]
    assert errors[0] != errors[1]
    assert both["ade_single"] == pytest.approx(np.mean(errors))
    assert both["spread"]["ade_single"] == pytest.approx(np.std(errors))
    curves = [row["by_history"]["min_ade"] for row in both["seeds"]]
    np.testing.assert_allclose(both["by_history"]["min_ade"], np.mean(curves, axis=0))
    with pytest.raises(InputError, match="no encoder"):
        ablate("crowd", splits, ["transformer"], MODEL, training, tmp_path)
