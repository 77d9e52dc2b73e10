"""The store of tracks against a dictionary that does the same, slowly and plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from trajpred.tracks import Tick, TrackStore
from trajpred.types import bytes_from_ids, ids_from_bytes, ids_from_int

COLUMNS = {"value": ((), np.dtype(np.int64)), "pair": ((2,), np.dtype(np.float64))}


def make_store(**bounds):
    return TrackStore(COLUMNS, **{"max_age_ns": 100, "max_tracks": 1000, "reorder_ns": 10, **bounds})


def rows(numbers):
    numbers = np.asarray(numbers, np.int64)
    return {"value": numbers, "pair": np.stack([numbers, -numbers], axis=-1).astype(float)}


def see(store, stamp_ns, numbers, values):
    """A frame at stamp_ns in which the tracks get these values; the values they had before."""
    store.tick(stamp_ns)
    slots = store.admit(ids_from_int(numbers))
    before = store.load(slots, stamp_ns)
    store.save(slots, stamp_ns, rows(values))
    return before["value"].tolist()


def numbers_of(ids):
    return [int.from_bytes(uuid.tobytes(), "big") for uuid in bytes_from_ids(ids)]


def test_a_new_track_starts_from_zeros_and_is_then_remembered():
    store = make_store()
    assert see(store, 0, [4, 2], [40, 20]) == [0, 0]
    assert see(store, 1, [2, 3, 4], [21, 31, 41]) == [20, 0, 40]
    assert see(store, 2, [4, 3, 2], [0, 0, 0]) == [41, 31, 21]
    assert numbers_of(store.ids) == [2, 3, 4]


def test_finding_admits_nobody():
    store = make_store()
    assert store.find(ids_from_int([1, 2])).tolist() == [-1, -1]
    see(store, 0, [1], [10])
    assert (store.find(ids_from_int([2, 1, 3])) >= 0).tolist() == [False, True, False]
    assert len(store) == 1
    assert store.find(ids_from_int([])).tolist() == []


def test_a_repeated_stamp_replaces_what_the_first_message_said():
    store = make_store()
    see(store, 0, [1], [10])
    assert see(store, 5, [1], [11]) == [10]
    assert see(store, 5, [1, 2], [12, 22]) == [10, 0]  # the second message at 5
    assert see(store, 5, [1, 2], [13, 23]) == [10, 0]  # and a third
    assert see(store, 6, [1, 2], [0, 0]) == [13, 23]


def test_only_the_tracks_seen_at_the_repeated_stamp_go_back():
    store = make_store()
    see(store, 0, [1, 2], [10, 20])
    see(store, 5, [1], [11])
    assert see(store, 5, [1, 2], [0, 0]) == [10, 20]


def test_a_track_lives_to_its_age_and_not_beyond():
    store = make_store(max_age_ns=100)
    see(store, 0, [1], [10])
    see(store, 60, [2], [20])
    store.tick(99)
    assert numbers_of(store.ids) == [1, 2]
    store.tick(101)
    assert numbers_of(store.ids) == [2]
    assert see(store, 101, [1], [0]) == [0]  # forgotten: it starts again


def test_being_seen_again_renews_a_track():
    store = make_store(max_age_ns=100)
    for stamp in range(0, 1000, 90):
        see(store, stamp, [1], [stamp])
    assert see(store, 1000, [1], [0]) == [990]


def test_a_late_frame_is_told_and_moves_nothing():
    store = make_store(reorder_ns=10)
    see(store, 100, [1], [10])
    assert store.tick(95) is Tick.LATE
    assert store.tick(90) is Tick.LATE  # measured from 100 still
    assert store.tick(100) is Tick.ACCEPTED
    assert see(store, 101, [1], [0]) == [10]


def test_a_backward_jump_forgets_everything_and_starts_from_there():
    store = make_store(reorder_ns=10)
    see(store, 100, [1, 2], [10, 20])
    assert store.tick(89) is Tick.RESET
    assert len(store) == 0
    assert store.tick(89) is Tick.ACCEPTED
    assert see(store, 90, [1], [0]) == [0]


@pytest.mark.parametrize("first", [-(10**18), 0, 10**18])
def test_the_first_stamp_is_accepted_whatever_it_is(first):
    store = make_store()
    assert store.tick(first) is Tick.ACCEPTED
    assert see(store, first, [1], [5]) == [0]
    assert see(store, first + 1, [1], [6]) == [5]


def test_clearing_forgets_the_time_too():
    store = make_store()
    see(store, 100, [1], [10])
    store.clear()
    assert len(store) == 0
    assert store.tick(3) is Tick.ACCEPTED
    assert see(store, 3, [1], [0]) == [0]


def test_a_full_store_forgets_those_unseen_for_longest():
    store = make_store(max_tracks=3)
    see(store, 0, [5], [50])
    see(store, 1, [1], [10])
    see(store, 2, [3], [30])
    see(store, 3, [5], [51])  # seen again: 1 is now the longest unseen
    see(store, 4, [9], [90])
    assert numbers_of(store.ids) == [3, 5, 9]
    assert see(store, 5, [3, 5, 9], [0, 0, 0]) == [30, 51, 90]


def test_a_full_store_never_forgets_a_track_of_the_same_frame():
    store = make_store(max_tracks=3)
    see(store, 0, [1, 2], [10, 20])
    see(store, 1, [3], [30])
    store.tick(2)
    # 1 and 2 are the oldest but they are here; 3 has to go, and one newcomer finds no room.
    slots = store.admit(ids_from_int([7, 1, 8, 2]))
    assert (slots >= 0).sum() == 3
    assert slots[1] >= 0
    assert slots[3] >= 0
    assert store.find(ids_from_int([3])).tolist() == [-1]
    assert len(store) == 3


def test_a_track_that_found_no_room_gets_it_when_there_is_some():
    store = make_store(max_tracks=2, max_age_ns=100)
    see(store, 0, [1, 2], [10, 20])
    store.tick(60)
    crowd = ids_from_int([2, 3, 4])
    for _ in range(2):  # the same ids again are answered alike
        slots = store.admit(crowd)
        assert (slots >= 0).tolist() == [True, True, False]
        store.save(slots[:2], 60, rows([21, 30]))
    store.tick(170)  # all are forgotten
    assert (store.admit(crowd) >= 0).tolist() == [True, True, False]
    assert see(store, 280, [4], [40]) == [0]
    assert see(store, 281, [4, 3], [41, 31]) == [40, 0]


def test_more_tracks_at_once_than_the_store_may_hold():
    store = make_store(max_tracks=4)
    slots = store.admit(ids_from_int(range(10)))
    assert (slots >= 0).sum() == 4
    assert len(set(slots[slots >= 0].tolist())) == 4
    assert len(store) == 4


def test_a_slot_that_is_used_again_holds_nothing_of_its_last_owner():
    store = make_store(max_tracks=2)
    for stamp in range(0, 400, 2):  # more newcomers than there can be unused slots
        newcomers = [stamp, stamp + 1]
        assert see(store, stamp, newcomers, [5, 6]) == [0, 0]
        assert see(store, stamp, newcomers, [7, 8]) == [0, 0]  # nor in the rows kept for a repeated stamp
        assert see(store, stamp + 1, newcomers, [9, 9]) == [7, 8]


def test_growing_keeps_every_row():
    store = make_store(max_tracks=100_000)
    known = {}
    for stamp, count in enumerate([1, 63, 64, 65, 1, 1000, 3000]):
        new = list(range(len(known), len(known) + count))
        # Old and new in one frame, so that growth happens between finding and loading.
        numbers = list(known)[::7] + new
        before = see(store, stamp, numbers, [n * 10 + stamp for n in numbers])
        assert before == [known.get(n, 0) for n in numbers]
        known |= {n: n * 10 + stamp for n in numbers}
    everybody = ids_from_int(list(known))
    assert store.load(store.find(everybody), 99)["value"].tolist() == list(known.values())
    pair = store.load(store.find(everybody), 99)["pair"]
    assert (pair == np.stack([list(known.values()), [-v for v in known.values()]], axis=1)).all()


def test_growing_keeps_what_a_repeated_stamp_goes_back_to():
    store = make_store()
    see(store, 0, [1], [10])
    see(store, 1, [1], [11])
    assert see(store, 1, [1, *range(100, 400)], [12] * 301)[0] == 10


def test_an_id_of_zero_bytes_and_ids_that_differ_in_one_end_are_tracks_like_any():
    raw = np.zeros((6, 16), np.uint8)
    raw[1, 15], raw[2, 15], raw[3, 15] = 1, 2, 255  # differ in the last byte only
    raw[4, 0], raw[5, 0] = 1, 255  # and in the first, with zeros behind
    ids = ids_from_bytes(raw)
    store = make_store()
    store.tick(0)
    slots = store.admit(ids)
    assert len(set(slots.tolist())) == 6
    store.save(slots, 0, rows(np.arange(6)))
    store.tick(1)
    again = store.admit(ids[::-1])
    assert len(store) == 6
    assert store.load(again, 1)["value"].tolist() == [5, 4, 3, 2, 1, 0]


def test_what_is_loaded_is_not_the_memory_itself():
    store = make_store()
    see(store, 0, [1, 2], [10, 20])
    slots = store.find(ids_from_int([1, 2]))
    store.load(slots, 1)["value"][:] = 99
    assert store.load(slots, 1)["value"].tolist() == [10, 20]


def test_a_frame_without_tracks_changes_no_track():
    store = make_store()
    assert see(store, 0, [], []) == []
    see(store, 1, [1], [10])
    assert see(store, 2, [], []) == []
    assert see(store, 3, [1], [0]) == [10]


def test_a_track_that_was_admitted_but_never_saved_expires_too():
    store = make_store(max_age_ns=100)
    store.tick(0)
    store.admit(ids_from_int([1]))
    store.tick(10_000)
    assert len(store) == 0


MAX_TRACKS, MAX_AGE_NS, REORDER_NS = 5, 40, 10


class StoreAgainstDictionary(RuleBasedStateMachine):
    """known: number -> [seen_ns, value, value before the latest stamp at which it was seen]."""

    def __init__(self):
        super().__init__()
        self.store = make_store(max_age_ns=MAX_AGE_NS, max_tracks=MAX_TRACKS, reorder_ns=REORDER_NS)
        self.known, self.now, self.told = {}, None, 0

    @rule(
        forward=st.sampled_from([0, 0, 1, 1, 5, 30, MAX_AGE_NS + 1]),
        numbers=st.lists(st.integers(0, 9), unique=True, max_size=8),
    )
    def frame(self, forward, numbers):
        self.now = 0 if self.now is None else self.now + forward
        assert self.store.tick(self.now) is Tick.ACCEPTED
        self.known = {n: kept for n, kept in self.known.items() if self.now - kept[0] <= MAX_AGE_NS}
        self.take_in(numbers)

    @rule(back=st.integers(1, REORDER_NS))
    def late(self, back):
        if self.now is not None:
            assert self.store.tick(self.now - back) is Tick.LATE

    @rule(
        back=st.integers(REORDER_NS + 1, 200),
        numbers=st.lists(st.integers(0, 9), unique=True, max_size=3),
    )
    def jump_back(self, back, numbers):
        if self.now is not None:
            self.now -= back
            assert self.store.tick(self.now) is Tick.RESET
            self.known = {}
            self.take_in(numbers)

    @rule()
    def clear(self):
        self.store.clear()
        self.known, self.now = {}, None

    def take_in(self, numbers):
        slots = self.store.admit(ids_from_int(numbers))
        self.make_room(numbers, slots)
        placed = [n for n, slot in zip(numbers, slots, strict=True) if slot >= 0]
        slots = slots[slots >= 0]
        assert len(set(slots.tolist())) == len(slots)
        before = self.store.load(slots, self.now)
        assert before["value"].tolist() == [self.value_before(n) for n in placed]
        assert (before["pair"][:, 1] == -before["value"]).all()
        values = list(range(self.told + 1, self.told + 1 + len(placed)))
        self.told += len(placed)
        self.store.save(slots, self.now, rows(values))
        for n, value in zip(placed, values, strict=True):
            self.known[n] = [self.now, value, self.value_before(n)]

    def make_room(self, numbers, slots):
        """Who had to go and who found no room; ties may fall either way, so the store is asked."""
        fresh = [n for n in numbers if n not in self.known]
        absent = [n for n in self.known if n not in numbers]
        must_go = min(max(len(self.known) + len(fresh) - MAX_TRACKS, 0), len(absent))
        gone = [n for n in absent if self.store.find(ids_from_int([n]))[0] < 0]
        assert len(gone) == must_go
        stayed = [self.known[n][0] for n in absent if n not in gone]
        assert not gone or not stayed or max(self.known[n][0] for n in gone) <= min(stayed)
        for n in gone:
            del self.known[n]
        turned_away = [n for n, slot in zip(numbers, slots, strict=True) if slot < 0]
        assert set(turned_away) <= set(fresh)
        assert len(turned_away) == max(len(self.known) + len(fresh) - MAX_TRACKS, 0)

    def value_before(self, n):
        seen_ns, value, before = self.known.get(n, (None, 0, 0))
        return before if seen_ns == self.now else value

    @invariant()
    def the_same_tracks_are_known(self):
        assert numbers_of(self.store.ids) == sorted(self.known)
        assert len(self.store) == len(self.known) <= MAX_TRACKS
        slots = self.store.find(ids_from_int(sorted(self.known)))
        assert (slots >= 0).all()
        assert self.store.load(slots, 10**9)["value"].tolist() == [
            v for _, (_, v, _) in sorted(self.known.items())
        ]


TestStoreAgainstDictionary = StoreAgainstDictionary.TestCase
TestStoreAgainstDictionary.settings = settings(max_examples=60, stateful_step_count=25)
