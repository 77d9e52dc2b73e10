"""What a log of answers says is what whoever wrote it said, object by object; and it is scored like it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from data_tools.catalog import open_data
from data_tools.convert import convert
from tests.street import demo_scene
from trajpred import messages
from trajpred.bags import LogWriter, read_raw
from trajpred.cdr import PREDICTED, TRACKED
from trajpred.config import HorizonConfig, OutputConfig, PredictorConfig, Protocol
from trajpred.errors import InputError
from trajpred.evaluate import evaluate, make_predictor
from trajpred.messages import decode_predicted, decode_tracked, encode_predicted, encode_tracked
from trajpred.recorded import Recorded
from trajpred.replay import replay
from trajpred.tables import write_table
from trajpred.types import Label, TrackFrame, ids_from_int
from trajpred.windows import DataSource

GRID = OutputConfig(0.4, HorizonConfig(4.8, 4.8, 4.8))


@pytest.fixture
def street(tmp_path):
    """A recorded street."""
    write_table(demo_scene(seconds=4.0, seed=1), tmp_path / "street.parquet")
    convert("table", tmp_path / "street.parquet", tmp_path / "street.mcap")
    return tmp_path / "street.mcap"


def frame(number, ids, label=Label.CAR, **kwargs):
    xy = np.stack([np.asarray(ids, float), np.zeros(len(ids))], axis=1)
    return TrackFrame.build(number * 10**8, ids_from_int(ids), xy, label=label, velocity=[1.0, 0.0], **kwargs)


def answers(path, *frames, output=GRID):
    """A log of what constant velocity says to each of these frames."""
    predictor = make_predictor("cv")
    with LogWriter(path) as log:
        log.add_topic("/objects", PREDICTED)
        for number, one in enumerate(frames):
            tracked = decode_tracked(encode_tracked(one))[1]
            log.write("/objects", number, encode_predicted(tracked, predictor.step(one), output))
    return path


@pytest.mark.parametrize("name", ["said.mcap", "said.db3", "said"])
def test_a_log_of_answers_scores_as_the_predictor_that_gave_them(street, tmp_path, name):
    """Constant velocity on the protocol's grid, once live and once from its log."""
    config = PredictorConfig(baseline_step_s=0.4, baseline_steps=12)
    replay(make_predictor("cv", config), street, tmp_path / name, output=GRID)
    source = replace(open_data(str(street)), protocol=Protocol())
    live = evaluate("cv", source, config=config)
    said = evaluate(str(tmp_path / name), source)
    assert said["n"] == live["n"] > 0
    for key in ("ade_1", "fde_1", "min_ade_6", "miss_rate_av2"):
        assert said["metrics"][key] == pytest.approx(live["metrics"][key], abs=1e-9), key


def test_answers_that_would_fill_the_memory_on_their_common_grid(tmp_path, monkeypatch):
    """The one with the most objects, at the times of the one with the finest step."""
    path = answers(tmp_path / "said.mcap", frame(0, [1]), frame(1, range(9)))
    monkeypatch.setattr(messages, "POINTS_READ_MAX", 9 * 12)
    assert len(Recorded(path).offset_s) == 12
    monkeypatch.setattr(messages, "POINTS_READ_MAX", 9 * 12 - 1)
    with pytest.raises(InputError, match=r"said\.mcap: .*9 objects of up to 1 paths"):
        Recorded(path)


def test_objects_are_found_by_stamp_and_id_in_any_order(tmp_path):
    path = answers(
        tmp_path / "said.mcap", frame(1, [5, 3]), frame(0, [1, 2, 3]), frame(2, [9]), frame(1, [4])
    )
    recorded = Recorded(path)
    for asked in (frame(0, [3, 1]), frame(1, [3, 4, 5]), frame(2, [9])):
        found = recorded.step(asked)
        assert found.ids.tolist() == asked.ids.tolist()
        assert found.stamp_ns == asked.stamp_ns
        np.testing.assert_array_equal(found.xy, asked.xy)
        np.testing.assert_allclose(found.paths[:, 0, :, 0] - asked.xy[:, :1], [found.offset_s] * len(asked))
    recorded.reset()
    assert len(recorded.step(frame(0, [2]))) == 1


def test_an_object_without_an_answer_is_named(tmp_path):
    recorded = Recorded(answers(tmp_path / "said.mcap", frame(0, [1]), frame(1, [1])))
    recorded.step(frame(0, [1]))
    uuid = "0" * 30 + "07"
    with pytest.raises(
        InputError, match=rf"said\.mcap: no answer to object {uuid} \(and 1 more\) at 100000000 ns"
    ):
        recorded.step(frame(1, [1, 7, 8]))
    recorded.reset()
    with pytest.raises(InputError, match="at 500000000 ns"):
        recorded.step(frame(5, [1]))


def test_answers_in_another_frame_are_refused(tmp_path):
    recorded = Recorded(answers(tmp_path / "said.mcap", frame(0, [1], frame_id="odom")))
    with pytest.raises(InputError, match="'map', their answers in 'odom'"):
        recorded.step(frame(0, [1]))


def test_all_answers_are_put_on_the_shortest_horizon_of_the_log(tmp_path):
    output = OutputConfig(0.5, HorizonConfig(vehicle=6.0, pedestrian=4.0, unknown=2.0))
    frames = [frame(0, [1]), frame(1, [1], label=Label.PEDESTRIAN)]
    recorded = Recorded(answers(tmp_path / "said.mcap", *frames, output=output))
    for one in frames:
        np.testing.assert_allclose(recorded.step(one).offset_s, 0.5 * np.arange(1, 9))


def test_a_log_without_answers_is_an_input_error(street, tmp_path):
    with pytest.raises(
        InputError, match=r"street\.mcap: no topic of .*PredictedObjects; there is .*TrackedObjects"
    ):
        Recorded(street)
    with pytest.raises(InputError, match="no object is predicted"):
        Recorded(answers(tmp_path / "none.mcap", frame(0, [])))
    with pytest.raises(InputError, match="no such log"):
        make_predictor(str(tmp_path / "missing.mcap"))
    with LogWriter(tmp_path / "bad.mcap") as log:
        log.add_topic("/objects", PREDICTED)
        log.write("/objects", 0, encode_tracked(frame(0, [1])))
    with pytest.raises(InputError, match=r"bad\.mcap: message 0: not the bytes"):
        Recorded(tmp_path / "bad.mcap")


def test_recorded_answers_do_not_fit_a_benchmark_of_windows(tmp_path):
    path = answers(tmp_path / "said.mcap", frame(0, [1]))
    with pytest.raises(InputError, match="cut into windows"):
        evaluate(
            str(path), DataSource("street", (demo_scene(seconds=4.0, seed=0),), Protocol(200_000_000, 5, 10))
        )


def test_one_log_may_hold_questions_and_answers(street, tmp_path):
    replay(make_predictor("cv"), street, tmp_path / "said.mcap", output=GRID)
    with LogWriter(tmp_path / "both.mcap") as log:
        log.add_topic("/tracked", TRACKED)
        log.add_topic("/objects", PREDICTED)
        for (_, stamp_ns, question), (_, _, answer) in zip(
            read_raw(street), read_raw(tmp_path / "said.mcap", msgtype=PREDICTED), strict=True
        ):
            log.write("/tracked", stamp_ns, question)
            log.write("/objects", stamp_ns, answer)
            assert len(decode_predicted(answer)[0]) == len(decode_tracked(question)[0])
    both = str(tmp_path / "both.mcap")
    assert evaluate(both, open_data(both))["n"] > 0
