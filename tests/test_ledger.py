"""The ledger of a soak: what it draws, what it holds the counters of a predictor to."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.contract import Ledger, broken, growth
from benchmarks.faults import FAULTS, SOUND, THOUSANDS, Perception
from tests.riders import called, checked, riders
from tests.test_predictor import S
from trajpred.config import OutputConfig
from trajpred.messages import decode_tracked, encode_predicted, encode_tracked
from trajpred.predictor import Predictor
from trajpred.types import Label, Source


def at_20_hz():
    return (riders(0.05 * tick, count=20) for tick in itertools.count())


FEW = sorted(set(FAULTS) - {f"{THOUSANDS} objects"})
"""The faults of a soak but for thousands of objects, which have a test of their own."""


@settings(max_examples=20)
@given(names=st.lists(st.sampled_from([SOUND, *FEW]), min_size=1, max_size=25), seed=st.integers(0, 99))
def test_any_faults_one_after_the_other_are_answered_and_counted(model, names, seed):
    perception, predictor, ledger = (
        Perception(at_20_hz(), S // 20, seed),
        Predictor(model),
        Ledger(model.info.trained_classes),
    )
    for name in names:
        for sent in [perception.sound()] if name == SOUND else perception.befallen(name):
            ledger.took(sent.objects)
            if sent.objects is None:
                continue
            asked, tracked = decode_tracked(sent.raw)
            raw = encode_predicted(tracked, checked(predictor, asked), OutputConfig())
            assert broken(tracked, raw) == ""
    counts = predictor.counts
    told = {f"answers by {source.name.lower()}": str(number) for source, number in counts.answers.items()}
    told |= {
        "messages answered": str(counts.frames),
        "frames rejected": str(ledger.counts["frames rejected"]),
        "resets": str(counts.resets),
        "late frames": str(counts.late_frames),
        "calls of the model failed": str(counts.failed_calls),
    }
    assert ledger.wrong(told) == {}


def test_a_node_that_serves_the_baseline_alone_is_not_taken_for_sound(model):
    ledger, predictor = Ledger(model.info.trained_classes), Predictor(None, without_model=Source.NO_MODEL)
    _, objects = decode_tracked(encode_tracked(riders(0.0)))
    predictor.step(riders(0.0))
    ledger.took(objects)
    told = {f"answers by {source.name.lower()}": str(n) for source, n in predictor.counts.answers.items()}
    assert ledger.wrong(told | {"messages answered": "1"}) == {
        "answers by no_model": (3, 0),
        "answers by model or untrained_class": (0, 3),
    }
    excused = {"messages answered": "1", "answers by untrained_class": "3"}
    assert ledger.wrong(excused) == {"answers by untrained_class": (3, 0)}


def test_who_was_seen_as_an_untrained_class_may_be_taken_for_it_until_seen_as_another_three_times(model):
    ledger = Ledger(model.info.trained_classes)
    labels = [Label.ANIMAL, Label.BICYCLE, Label.CAR, Label.CAR, Label.CAR, Label.CAR]
    for tick, label in enumerate(labels):
        _, objects = decode_tracked(encode_tracked(called(riders(0.1 * tick, count=1), label)))
        ledger.took(objects)
    assert ledger.against({})["answers by untrained_class"] == (0, 4)


def test_growth_is_the_slope_of_memory_over_messages():
    noisy = np.tile([0.0, 4096.0, 4096.0, 0.0], 100)
    assert growth(np.arange(400.0), 1e8 + 260.0 * np.arange(400.0) + noisy) == pytest.approx(260.0, abs=1.0)


def test_the_same_seed_draws_the_same_faults():
    first, second = (
        itertools.islice(Perception(at_20_hz(), S // 20, seed=3, share=0.5), 200) for _ in range(2)
    )
    for a, b in zip(first, second, strict=True):
        assert (a.raw, a.fault) == (b.raw, b.fault)
