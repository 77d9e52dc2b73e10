"""A recording tick by tick: what is shown of it is what it says, and what was predicted."""

from __future__ import annotations

import numpy as np
import pytest

from trajpred.bags import LogWriter
from trajpred.config import DEFAULT_MODEL, OutputConfig, PredictorConfig
from trajpred.errors import InputError
from trajpred.evaluate import make_predictor
from trajpred.messages import PREDICTED, TRACKED, decode_tracked, encode_predicted, encode_tracked
from trajpred.moments import Moment, choose_scene, default_model, moments, ticks_between
from trajpred.predictor import Predictor
from trajpred.recorded import Recorded
from trajpred.types import Label, Scene, ids_from_int
from trajpred.windows import DataSource, Protocol

CAR, WALKER = ids_from_int([1, 2])
LAST = 30


def street(start_ns: int = 0, offset=(0.0, 0.0)) -> Scene:
    """3 s at 10 Hz: a car with 5 m/s along x from (0, 0), and from 0.5 to 2.5 s a pedestrian from (10, -3).

    The pedestrian walks along y with 1 m/s; its size and yaw are not known.
    """
    car, walker = np.arange(LAST + 1), np.arange(5, 26)
    seconds = 0.1 * np.concatenate([car, walker])
    walks = np.arange(len(seconds)) >= len(car)
    xy = np.where(walks[:, None], [10.0, -3.5], 0.0) + seconds[:, None] * np.where(
        walks[:, None], [0.0, 1.0], [5.0, 0.0]
    )
    nan = np.nan
    return Scene.build(
        "street",
        start_ns + np.rint(seconds * 10).astype(np.int64) * 100_000_000,
        np.where(walks, WALKER, CAR),
        xy + offset,
        label=np.where(walks, int(Label.PEDESTRIAN), int(Label.CAR)),
        yaw=np.where(walks, nan, 0.0),
        velocity=np.where(walks[:, None], [0.0, 1.0], [5.0, 0.0]),
        size=np.where(walks[:, None], nan, [4.0, 2.0, 1.5]),
    )


def write_log(path, scene: Scene, answer=None, tracks: bool = True) -> None:
    """A log of the scene; answer(tick) says which objects of the tick have an answer, None for no topic."""
    predictor = Predictor(None)
    with LogWriter(path) as log:
        if tracks:
            log.add_topic("/tracks", TRACKED)
        if answer is not None:
            log.add_topic("/objects", PREDICTED)
        for tick, frame in enumerate(scene.frames()):
            raw = encode_tracked(frame)
            if tracks:
                log.write("/tracks", frame.stamp_ns, raw)
            rows = [] if answer is None else [i for i, name in enumerate(frame.ids) if name in answer(tick)]
            if rows:
                one = scene.take((scene.stamp_ns == frame.stamp_ns) & np.isin(scene.ids, frame.ids[rows]))
                seen, tracked = decode_tracked(encode_tracked(next(one.frames())))
                log.write(
                    "/objects",
                    frame.stamp_ns,
                    encode_predicted(tracked, predictor.step(seen), OutputConfig()),
                )


def at(scene: Scene, tick: int, predictor=None) -> Moment:
    (moment,) = moments(predictor or make_predictor("cv"), scene, np.array([tick]))
    return moment


def test_the_past_the_future_and_the_paths_of_an_agent():
    moment = at(street(), 20)
    car, walker = (int(np.flatnonzero(moment.frame.ids == name)[0]) for name in (CAR, WALKER))
    # five points a second from the start of the recording, at 5 m/s
    np.testing.assert_allclose(moment.past(car), [[x, 0.0] for x in range(11)], atol=1e-9)
    # the pedestrian is there since 0.5 s: at 0.6 s, 0.8 s ... 2 s
    y = np.arange(-2.9, -1.4, 0.2)
    np.testing.assert_allclose(moment.past(walker), np.stack([np.full(8, 10.0), y], 1), atol=1e-9)
    # cv predicts every 0.5 s; the recording ends at 3 s, the pedestrian at 2.5 s
    np.testing.assert_allclose(moment.future(car), [[10, 0], [12.5, 0], [15, 0]], atol=1e-9)
    np.testing.assert_allclose(moment.future(walker), [[10, -1.5], [10, -1]], atol=1e-9)
    paths, probability = moment.ways(car)
    assert probability.tolist() == [1.0]
    np.testing.assert_allclose(paths[0], [[10 + 2.5 * k, 0] for k in range(17)], atol=1e-6)
    np.testing.assert_allclose(moment.heading, [0.0, np.pi / 2], atol=1e-9)
    assert moment.step_ms is not None and moment.step_ms > 0


def test_a_future_ends_and_a_past_begins_at_a_gap():
    scene = street()
    kept = scene.take((scene.stamp_ns < 500_000_000) | (scene.stamp_ns > 2_000_000_000))
    # the car is not seen from 0.5 s to 2 s; at 0.4 s its next 0.5 s steps are 0.9, 1.4, 1.9, 2.4 ...
    assert len(at(kept, 4).future(0)) == 1
    now = at(kept, len(np.unique(kept.stamp_ns)) - 1)  # at 3 s; it is there again since 2.1 s
    np.testing.assert_allclose(now.past(0)[:, 0], [11, 12, 13, 14, 15], atol=1e-9)


def test_paths_come_in_rising_probability_and_invalid_ones_not_at_all():
    moment = at(street(), 0)
    paths = np.arange(4.0).reshape(1, 4, 1, 1) * np.ones((1, 4, 16, 2))
    several = Moment(
        **{name: getattr(moment, name) for name in Moment.__slots__}
        | {
            "paths": paths,
            "probability": np.array([[0.4, 0.2, 0.0, 0.4]]),
            "mode_valid": np.array([[True, True, False, True]]),
        }
    )
    ways, probability = several.ways(0)
    assert ways.shape == (3, 17, 2)
    assert ways[:, -1, 0].tolist() == [1.0, 3.0, 0.0]  # the first of two equals is the most probable
    assert probability.tolist() == [0.2, 0.4, 0.4]
    assert (ways[:, 0] == moment.frame.xy[0]).all()


def test_ticks_that_are_not_shown_are_remembered_all_the_same():
    scene = street()
    every = list(moments(make_predictor("kalman"), scene, np.arange(LAST + 1)))
    some = list(moments(make_predictor("kalman"), scene, np.array([3, 17])))
    assert [m.frame.stamp_ns for m in some] == [300_000_000, 1_700_000_000]
    for one, other in zip([every[3], every[17]], some, strict=True):
        np.testing.assert_array_equal(one.paths, other.paths)


def test_the_predictor_forgets_what_it_saw_before():
    predictor = make_predictor("kalman", PredictorConfig())
    first = at(street(), 20, predictor)
    second = at(street(), 20, predictor)
    np.testing.assert_array_equal(first.paths, second.paths)


def test_recorded_answers_may_lack_agents_and_ticks(tmp_path):
    log, scene = tmp_path / "a.mcap", street()
    write_log(log, scene, lambda tick: [CAR] if tick >= 10 else [])
    early, late = moments(Recorded(log), scene, np.array([6, 20]))
    assert not early.mode_valid.any() and len(early.ways(0)[0]) == 0
    assert early.step_ms is None and late.step_ms is None
    assert late.mode_valid.any(axis=1).tolist() == [name == CAR for name in late.frame.ids]
    (path,), _ = late.ways(int(np.flatnonzero(late.frame.ids == CAR)[0]))
    # published paths have a pose every 0.5 s to 10 s
    np.testing.assert_allclose(path, [[10 + 2.5 * k, 0] for k in range(21)], atol=1e-4)
    assert late.heading[late.frame.ids == CAR] == pytest.approx(0.0)


def test_answers_to_another_log_are_refused(tmp_path):
    log = tmp_path / "a.mcap"
    write_log(log, street(), lambda tick: [CAR])
    with pytest.raises(InputError, match=r"a\.mcap: answers no tick of street; is it of another log"):
        at(street(start_ns=10**15 + 1), 0, Recorded(log))


def test_whose_predictions_are_shown_if_nobody_is_named(tmp_path):
    tracks, both, answers = (tmp_path / name for name in ("tracks.mcap", "both.mcap", "answers.mcap"))
    write_log(tracks, street())
    write_log(both, street(), lambda tick: [CAR])
    write_log(answers, street(), lambda tick: [CAR], tracks=False)
    assert default_model(tracks) == DEFAULT_MODEL
    assert default_model(both) == str(both)
    assert default_model(tmp_path / "any.parquet") == DEFAULT_MODEL
    with pytest.raises(InputError, match=r"answers\.mcap: holds predictions.*--model .*answers\.mcap"):
        default_model(answers)
    with pytest.raises(InputError, match=r"none\.mcap: no such log"):
        default_model(tmp_path / "none.mcap")
    tracks.write_bytes(tracks.read_bytes()[:100])
    with pytest.raises(InputError, match=r"tracks\.mcap: .*mcap recover"):
        default_model(tracks)


def test_seconds_are_counted_from_the_first_stamp():
    scene = street(start_ns=10**18)
    assert ticks_between(scene).tolist() == list(range(31))
    assert ticks_between(scene, 1.0, 1.25).tolist() == [10, 11, 12]
    assert ticks_between(scene, 2.85).tolist() == [29, 30]
    with pytest.raises(InputError, match=r"street: nothing from 4 s to the end: it lasts 3\.0 s"):
        ticks_between(scene, 4.0)
    with pytest.raises(InputError, match="nothing from 2 s to 1 s"):
        ticks_between(scene, 2.0, 1.0)


def test_a_recording_is_chosen_by_its_name():
    one, other = street(), Scene.build("other", [0], ids_from_int([1]), [[0.0, 0.0]])
    source = DataSource("both", (one, other), Protocol())
    assert choose_scene(source) is one
    assert choose_scene(source, "other") is other
    with pytest.raises(InputError, match="both: no recording 'third' in it; there is street, other"):
        choose_scene(source, "third")
    with pytest.raises(InputError, match="none at all"):
        choose_scene(DataSource("nothing", (), Protocol()))
