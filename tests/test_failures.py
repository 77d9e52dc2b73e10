"""What the machine and its files can do to the predictor with the model in the box, and to a replay."""

from __future__ import annotations

import resource
import tracemalloc
from contextlib import contextmanager

import numpy as np
import onnxruntime
import pytest

from data_tools.convert import write_log
from tests.riders import ahead, at_10_hz, checked, frame, riders
from tests.street import demo_scene
from tests.test_predictor import assert_same
from trajpred.cli import main
from trajpred.config import DEFAULT_MODEL, PredictorConfig
from trajpred.errors import ArtefactError
from trajpred.predictor import Predictor
from trajpred.runtime import OnnxModel, artefact
from trajpred.types import Label, Source


def test_memory_does_not_grow_while_all_ids_are_new_every_frame(model):
    """At most five frames of them are young enough to be remembered."""
    predictor, bytes_held = Predictor(model, PredictorConfig(max_age_s=0.45)), []
    tracemalloc.start()
    try:
        for tick in range(150):
            numbers = np.arange(100) + 100 * tick
            predictor.step(
                frame(0.1 * tick, numbers, np.zeros((100, 2)) + 0.1 * tick, label=Label.PEDESTRIAN)
            )
            assert len(predictor) <= 500
            bytes_held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert max(bytes_held[100:]) < max(bytes_held[20:50]) + 50_000


class Failing(onnxruntime.InferenceSession):
    """The session of the model in the box, but for some of its calls."""

    def __init__(self, fail, calls):
        super().__init__(artefact(DEFAULT_MODEL), providers=["CPUExecutionProvider"])
        self._fail, self._calls, self._call = fail, calls, -1

    def run(self, names, feeds):
        self._call += 1
        return super().run(names, self._fail(feeds) if self._call in self._calls else feeds)


def refused(feeds):
    """What onnxruntime itself raises for."""
    return feeds | {"steps": feeds["steps"][..., :-1]}


def out_of_memory(feeds):
    raise MemoryError("bad allocation")


def failing_predictor(model, fail, calls):
    return Predictor(OnnxModel(Failing(fail, calls), model.info))


@pytest.mark.parametrize(("fail", "says"), [(refused, "steps"), (out_of_memory, "bad allocation")])
def test_where_the_call_of_the_model_fails_the_baseline_answers_and_the_next_is_as_before(model, fail, says):
    failing, plain = failing_predictor(model, fail, {20}), Predictor(model)
    for tick in range(41):
        answer, expected = checked(failing, riders(0.1 * tick)), plain.step(riders(0.1 * tick))
        if tick == 20:
            assert answer.source.tolist() == [Source.MODEL_FAULT] * 3
            np.testing.assert_allclose(ahead(answer, 3.0), [(15.0, 0.0)] * 3, atol=1e-6)
            continue
        assert answer.source.tolist() == [Source.MODEL] * 3
        np.testing.assert_allclose(answer.single, expected.single, atol=0.05 if tick == 40 else 1.0)
    assert failing.counts.failed_calls == 1
    assert says in failing.counts.last_failure
    assert failing.counts.answers[Source.MODEL_FAULT] == 3


def test_a_call_that_fails_while_only_looking_on_is_counted_too(model):
    failing = failing_predictor(model, refused, {1})
    for one in at_10_hz(0, 3):
        failing.observe(one)
    assert failing.counts.failed_calls == 1
    assert checked(failing, riders(0.3)).source.tolist() == [Source.MODEL] * 3


def test_a_model_that_always_fails_leaves_the_baseline(model):
    failing = failing_predictor(model, refused, range(1000))
    for one in at_10_hz(0, 20):
        answer = checked(failing, one)
        assert answer.source.tolist() == [Source.MODEL_FAULT] * 3
    np.testing.assert_allclose(ahead(answer, 3.0), [(15.0, 0.0)] * 3, atol=1e-6)
    assert failing.counts.failed_calls == 20


@pytest.mark.parametrize("damage", [b"", b"another file", None], ids=["emptied", "swapped", "removed"])
def test_a_model_file_that_changes_while_it_runs_changes_nothing_until_it_is_loaded(model, tmp_path, damage):
    path = tmp_path / "m.onnx"
    path.write_bytes(artefact(DEFAULT_MODEL).read_bytes())
    running, plain = Predictor(OnnxModel.load(path)), Predictor(model)
    for tick in range(10):
        if tick == 5:
            path.unlink() if damage is None else path.write_bytes(damage)
        assert_same(checked(running, riders(0.1 * tick)), plain.step(riders(0.1 * tick)))
    with pytest.raises(ArtefactError, match=r"m\.onnx"):
        OnnxModel.load(path)


@contextmanager
def files_of_at_most(size):
    """What a full disk does to a writer."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("name", ["out.mcap", "out.db3"])
def test_a_disk_that_is_full_while_replay_writes_is_said_and_leaves_nothing(tmp_path, name, capsys):
    write_log(demo_scene(seconds=3.0, seed=1), tmp_path / "street.mcap")
    log, out = tmp_path / "street.mcap", tmp_path / name
    with files_of_at_most(200_000):
        assert main(["replay", str(log), "--model", "cv", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert name in line
    assert [path.name for path in tmp_path.iterdir()] == ["street.mcap"]
