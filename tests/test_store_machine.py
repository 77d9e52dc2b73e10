"""The predictor's memory against a dictionary that does the same, slowly and plainly, whatever frames come.

The model that is asked keeps a diary: its state is a number made of all that it was ever told of a track, in
order, and its path is so many metres long. What the answers say is what the store holds.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trajpred.config import PredictorConfig
from trajpred.features import FEATURES, RELATION
from trajpred.predictor import Predictor
from trajpred.runtime import FORMAT, Forecast, ModelInfo
from trajpred.types import Label, Source, TrackFrame, bytes_from_ids, ids_from_int

MS = 1_000_000
MAX_AGE_NS, REORDER_NS, MAX_TRACKS = 1_000 * MS, 100 * MS, 150
CLASSES = tuple(label.name for label in Label)
ELAPSED = FEATURES.index("elapsed_s")


def told(page, label, elapsed_ms):
    """What the diary says after one more observation; below 9973, so that float32 holds it."""
    return (7 * page + 12 * elapsed_ms + label + 1) % 9973


class Diary:
    """A model whose only path is one point, as many metres ahead as its state says."""

    info = ModelInfo(
        format=FORMAT,
        code_version="0",
        encoder="diary",
        features=FEATURES,
        relation=RELATION,
        classes=CLASSES,
        trained_classes=CLASSES,
        offset_s=(1.0,),
        modes=1,
        min_observations=1,
        neighbours=0,
        neighbour_radius_m=0.0,
        state={"page": (1,)},
        mean=(0.0,) * len(FEATURES),
        std=(1.0,) * len(FEATURES),
        trained_on="nothing",
        trained_by={},
    )

    def run(self, steps, mask, label, speed, state, select, near, place):
        elapsed_ms = np.rint(1e3 * steps[:, 0, ELAPSED]).astype(int)
        page = told(state["page"][:, 0].astype(int), label.astype(int), elapsed_ms).astype(np.float32)
        ahead = np.zeros((len(select), 1, 1, 2), np.float32)
        ahead[:, 0, 0, 0] = page[select]
        ones = np.ones((len(select), 1), np.float32)
        return Forecast(ahead, ones, ones[..., None], ahead[:, 0]), {"page": page[:, None]}


class Slow:
    """What is remembered, as the contracts tell it.

    tracks: number -> its observations (stamp_ns, label, page), in order.
    """

    def __init__(self):
        self.tracks, self.now, self.frame_id = {}, None, None
        self.resets = self.late = 0

    def forget(self):
        self.tracks, self.now, self.frame_id = {}, None, None

    def moves_to(self, stamp_ns, frame_id):
        """Whether a frame with this stamp counts."""
        if self.frame_id not in (None, frame_id):
            self.tracks, self.now = {}, None
            self.resets += 1
        self.frame_id = frame_id
        if self.now is not None and stamp_ns < self.now:
            if self.now - stamp_ns <= REORDER_NS:
                self.late += 1
                return False
            self.tracks = {}
            self.resets += 1
        self.now = stamp_ns
        self.tracks = {n: seen for n, seen in self.tracks.items() if stamp_ns - seen[-1][0] <= MAX_AGE_NS}
        return True

    def last_seen(self, number):
        return self.tracks[number][-1][0]

    def see(self, number, label):
        """Take in one observation now; the page after it."""
        before = [seen for seen in self.tracks.get(number, []) if seen[0] < self.now]
        then_ns, _, page = before[-1] if before else (self.now, label, 0)
        believed = self.believed([*(label for _, label, _ in before), label])
        page = told(page, believed, (self.now - then_ns) // MS)
        self.tracks[number] = [*before, (self.now, label, page)]
        return page

    @staticmethod
    def believed(labels):
        """The first one, until another is seen three times in a row; at once where none was known."""
        believed = labels[0]
        for i, label in enumerate(labels):
            if believed == Label.UNKNOWN or (i >= 2 and labels[i - 2 : i + 1] == [label] * 3):
                believed = label
        return believed


known = st.integers(0, 9)
some = st.lists(known, max_size=8)
distinct = st.lists(known, unique=True, max_size=8)


class MemoryOfThePredictor(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        config = PredictorConfig(
            max_age_s=MAX_AGE_NS / 1e9, reorder_tolerance_s=REORDER_NS / 1e9, max_tracks=MAX_TRACKS
        )
        self.predictor, self.slow = Predictor(Diary(), config), Slow()
        self.frame_id, self.stamp_ns, self.frames, self.newcomers = "map", 10**12, 0, 10
        self.numbers, self.answers = [], Counter()

    @rule(forward_ms=st.sampled_from([1, 20, 97, 100, 100, 103, 1000]), numbers=distinct, only=st.booleans())
    def next_frame(self, forward_ms, numbers, only):
        """At a regular or irregular rate; only taken in, or answered, too."""
        self.frame(forward_ms, numbers, observe=only)

    @rule()
    def everybody(self):
        self.frame(100, range(10))

    @rule(forward_ms=st.sampled_from([0, 100, MAX_AGE_NS // MS, MAX_AGE_NS // MS + 1]))
    def the_same_ones_again(self, forward_ms):
        """Though they may all be forgotten by then."""
        self.frame(forward_ms, self.numbers)

    @rule(missing=known)
    def one_is_missed(self, missing):
        self.frame(100, [n for n in range(10) if n != missing])

    @rule(numbers=distinct)
    def a_repeated_stamp(self, numbers):
        self.frame(0, numbers)

    @rule(numbers=some, lost=st.sets(known))
    def some_twice_and_some_without_a_position(self, numbers, lost):
        self.frame(100, numbers, lost=lost)

    @rule(back_ms=st.sampled_from([1, 50, REORDER_NS // MS]), numbers=some)
    def a_late_frame(self, back_ms, numbers):
        self.frame(-back_ms, numbers)

    @rule(back_ms=st.sampled_from([REORDER_NS // MS + 1, 1_000, 3_600_000]), numbers=distinct)
    def a_jump_back(self, back_ms, numbers):
        self.frame(-back_ms, numbers)

    @rule(beyond_ms=st.sampled_from([-1, 0, 1, 5_000, 3_600_000]), numbers=distinct)
    def a_gap_about_as_long_as_a_track_lives_or_longer(self, beyond_ms, numbers):
        self.frame(MAX_AGE_NS // MS + beyond_ms, numbers)

    @rule(
        count=st.sampled_from([40, 63, 64, 65, 100, 300]),
        forward_ms=st.sampled_from([0, 100]),
        numbers=st.just([]) | distinct,
    )
    def all_are_new_or_nearly(self, count, forward_ms, numbers):
        """More than the store has room for yet, or may ever hold."""
        self.newcomers += count
        self.frame(forward_ms, [*numbers, *range(self.newcomers - count, self.newcomers)])

    @rule(numbers=distinct, forward_ms=st.sampled_from([-50, 0, 100]))
    def another_map(self, numbers, forward_ms):
        self.frame_id = "odom" if self.frame_id == "map" else "map"
        self.frame(forward_ms, numbers)

    @rule()
    def reset(self):
        self.predictor.reset()
        self.slow.forget()

    def frame(self, forward_ms, numbers, lost=(), observe=False):
        """One frame, so long after the newest that was not late."""
        self.numbers = numbers = list(numbers)
        self.stamp_ns = (self.stamp_ns if self.slow.now is None else self.slow.now) + forward_ms * MS
        self.frames += 1
        labels = [(n + self.frames // 3) % len(Label) for n in numbers]
        xy = [(np.nan, 0.0) if n in lost else (float(n), 5.0) for n in numbers]
        asked = TrackFrame.build(
            self.stamp_ns,
            ids_from_int(numbers),
            np.reshape(xy, (-1, 2)),
            label=np.array(labels, np.uint8),
            yaw=0.0,
            frame_id=self.frame_id,
        )
        answer = self.predictor.observe(asked) if observe else self.predictor.step(asked)
        expected = self.expected(numbers, labels, lost)
        if answer is None:
            return
        assert (answer.stamp_ns, answer.frame_id) == (asked.stamp_ns, asked.frame_id)
        assert answer.ids.tolist() == asked.ids.tolist()
        assert [Source(s) for s in answer.source] == [source for source, _ in expected]
        for row, (source, page) in enumerate(expected):
            self.answers[source] += 1
            if source is Source.MODEL:
                np.testing.assert_array_equal(answer.single[row], [asked.xy[row] + (page, 0.0)])

    def expected(self, numbers, labels, lost):
        """(source, page) of each row."""
        expected, rows = [], {}
        for row, n in enumerate(numbers):
            again = n in numbers[:row]
            fault = Source.INVALID_STATE if n in lost else Source.DUPLICATE_ID if again else Source.MODEL
            expected.append((fault, None))
            if fault is Source.MODEL:
                rows[n] = row
        if not self.slow.moves_to(self.stamp_ns, self.frame_id):
            return [(Source.OUT_OF_ORDER if s is Source.MODEL else s, None) for s, _ in expected]
        fresh = [n for n in rows if n not in self.slow.tracks]
        self.make_room(fresh, [n for n in self.slow.tracks if n not in rows])
        for n in fresh[MAX_TRACKS - len(self.slow.tracks) :]:
            expected[rows.pop(n)] = Source.OVER_CAPACITY, None
        for n, row in rows.items():
            expected[row] = Source.MODEL, self.slow.see(n, labels[row])
        return expected

    def make_room(self, fresh, absent):
        """Those unseen for longest go; of those unseen for equally long any, so the store is asked."""
        there = self.remembered()
        must_go = min(max(len(self.slow.tracks) + len(fresh) - MAX_TRACKS, 0), len(absent))
        gone = [n for n in absent if n not in there]
        stayed = [n for n in absent if n in there]
        assert len(gone) == must_go
        if gone and stayed:
            assert max(map(self.slow.last_seen, gone)) <= min(map(self.slow.last_seen, stayed))
        for n in gone:
            del self.slow.tracks[n]

    def remembered(self):
        return {int.from_bytes(uuid.tobytes(), "big") for uuid in bytes_from_ids(self.predictor._store.ids)}

    @invariant()
    def the_same_tracks_are_remembered_and_all_is_counted(self):
        assert self.remembered() == set(self.slow.tracks)
        assert len(self.predictor) == len(self.slow.tracks) <= MAX_TRACKS
        counts = self.predictor.counts
        assert (counts.frames, counts.resets, counts.late_frames) == (
            self.frames,
            self.slow.resets,
            self.slow.late,
        )
        assert counts.answers == self.answers


TestMemoryOfThePredictor = MemoryOfThePredictor.TestCase
TestMemoryOfThePredictor.settings = settings(max_examples=40, stateful_step_count=25)
