"""What is due when, by hand-made logs and hand-made clocks. Needs no ROS."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajpred_ros.player import Due, Message, Player

S = 1_000_000_000
NEVER = 10**18


def message(stamp_ns):
    return Message(stamp_ns, "/topic", str(stamp_ns).encode())


def player(stamps, *, start=None, end=None, loops=0, tick_ns=NEVER, now=0, **options):
    """A player of messages at these stamps, begun at `now`."""
    start = stamps[0] if start is None else start
    end = stamps[-1] if end is None else end

    def read(from_ns):
        yield from (message(stamp) for stamp in stamps if from_ns <= stamp <= end)
        for _ in range(loops):
            yield None
            yield from (message(stamp) for stamp in stamps if start <= stamp <= end)

    made = Player(read, start, end, tick_ns=tick_ns, **options)
    made.begin(now)
    return made


def all_due(played, now):
    found = []
    while (due := played.due(now)) is not None:
        found.append(due)
    return found


def sent(played, now):
    """The stamps of the messages due by now."""
    return [due.message.stamp_ns for due in all_due(played, now) if due.message]


def run(played, now=0, until=None):
    """(steady time, what is due) from wake to wake."""
    found = []
    while not played.finished and (wake := played.wake_ns()) is not None and wake < NEVER:
        now = max(now, wake)
        if until is not None and now > until:
            break
        found += [(now, due) for due in all_due(played, now)]
    return found


def test_messages_are_due_as_far_apart_as_they_were_recorded():
    played = player([100 * S, 101 * S, 103 * S], now=7 * S)
    at = [(now - 7 * S, due.message.stamp_ns) for now, due in run(played, 7 * S) if due.message]
    assert at == [(0, 100 * S), (1 * S, 101 * S), (3 * S, 103 * S)]
    assert played.finished


@pytest.mark.parametrize(("rate", "gap"), [(0.5, 2 * S), (1.0, S), (4.0, S // 4), (1000.0, S // 1000)])
def test_the_rate_scales_the_gaps(rate, gap):
    played = player([0, S, 2 * S], rate=rate)
    assert [now for now, due in run(played) if due.message] == [0, gap, 2 * gap]


def test_at_rate_0_all_is_due_at_once_and_in_order():
    played = player([0, 5 * S, 6 * S], rate=0.0)
    due = all_due(played, 0)
    assert [d.message.stamp_ns for d in due if d.message] == [0, 5 * S, 6 * S]
    assert all(d.late_ns is None for d in due)
    assert played.finished


def test_nothing_is_due_before_its_time():
    played = player([0, S])
    assert sent(played, 0) == [0]
    assert sent(played, S - 1) == []
    assert sent(played, S) == [S]


def test_a_late_caller_gets_all_that_is_due_and_how_late_it_is():
    played = player([0, S, 2 * S, 9 * S])
    late = [(d.message.stamp_ns, d.late_ns) for d in all_due(played, 2 * S + 5) if d.message]
    assert late == [(0, 2 * S + 5), (S, S + 5), (2 * S, 5)]
    assert played.played.largest_late_ns == 2 * S + 5


def test_the_share_that_is_late_is_counted_in_tenths_of_a_millisecond():
    played = player([0])
    for late_ms in range(1, 100):
        played.played.add(Due(0, message(0), late_ms * 1_000_000 - 1))
    played.played.add(Due(0, message(0), 10**12))
    assert played.played.late_ms(0.99) == 99.0
    assert played.played.late_ms(0.5) == 50.0
    assert played.played.late_ms(1.0) == 100.1  # all that is later than 100 ms


def test_nothing_is_late_where_nothing_was_sent():
    assert player([0]).played.late_ms(0.99) == 0.0


def test_the_time_is_told_at_the_start_and_between_messages():
    played = player([0, S], start=0, tick_ns=300_000_000)
    told = [due.log_ns for _, due in run(played)]
    assert told == [0, 300_000_000, 600_000_000, 900_000_000, S, S]  # the last is the end


def test_the_time_told_first_is_that_of_the_start():
    played = player([5 * S], start=3 * S)
    assert all_due(played, 0) == [Due(3 * S)]


def test_the_ticks_follow_the_rate():
    played = player([0, S], rate=10.0, tick_ns=500_000_000)
    assert [now for now, _ in run(played)] == [0, 50_000_000, 100_000_000, 100_000_000]


def test_the_time_never_runs_past_a_message_that_waits():
    played = player([0, S, 2 * S], tick_ns=S // 10)
    sent(played, 0)
    played.hold(10 * S)
    told = [due.log_ns for now in range(0, 5 * S, S // 5) for due in all_due(played, now)]
    assert told == sorted(told)
    assert told[-1] == S
    assert played.position_ns(5 * S) == S


def test_while_paused_the_time_stands_and_is_still_told():
    played = player([0, S], tick_ns=S // 10)
    sent(played, 0)
    played.pause(S // 2)
    later = [due for now in range(S // 2, 3 * S, S // 10) for due in all_due(played, now)]
    assert {due.log_ns for due in later} == {S // 2}
    assert len(later) >= 20
    assert all(due.message is None for due in later)
    played.resume(3 * S)
    assert sent(played, 3 * S + S // 2 - 1) == []
    assert sent(played, 3 * S + S // 2) == [S]


def test_before_it_begins_no_time_passes():
    played = Player(lambda from_ns: iter([message(5 * S)]), 3 * S, 5 * S, tick_ns=NEVER)
    played.pause(100 * S)
    played.resume(200 * S)
    assert played.position_ns(300 * S) == 3 * S
    played.begin(300 * S)
    assert sent(played, 302 * S - 1) == []
    assert sent(played, 302 * S) == [5 * S]


def test_pausing_twice_is_pausing_once():
    played = player([0, S])
    sent(played, 0)
    played.pause(S // 4)
    played.pause(S // 2)
    played.resume(S)
    assert played.wake_ns() == S + 3 * S // 4


def test_a_new_rate_holds_from_now_on():
    played = player([0, S])
    sent(played, 0)
    played.set_rate(2.0, S // 2)
    assert played.position_ns(S // 2) == S // 2
    assert sent(played, 3 * S // 4 - 1) == []
    assert sent(played, 3 * S // 4) == [S]


def test_from_rate_0_the_pace_starts_at_the_last_message():
    played = player([0, S, 2 * S], rate=0.0)
    assert played.due(50).message.stamp_ns == 0
    played.set_rate(1.0, 100)
    assert sent(played, 100 + S - 1) == []
    assert sent(played, 100 + S) == [S]


def test_a_held_player_sends_nothing_until_it_is_released():
    played = player([0, S, 2 * S], rate=0.0)
    played.due(0)
    played.hold(9 * S)
    assert sent(played, 8 * S) == []
    played.release(8 * S)
    assert sent(played, 8 * S) == [S, 2 * S]
    assert played.played.unanswered == 0


def test_a_missing_answer_is_counted_and_passed_over():
    played = player([0, S], rate=0.0)
    played.due(0)
    played.hold(3 * S)
    assert played.wake_ns() == 3 * S
    assert sent(played, 3 * S) == [S]
    assert played.played.unanswered == 1


def test_what_waited_for_an_answer_is_not_late_and_shifts_all_after_it():
    played = player([0, S, 2 * S])
    sent(played, 0)
    played.hold(100 * S)
    played.release(5 * S)
    assert [d.late_ns for d in all_due(played, 5 * S) if d.message] == [0]
    assert sent(played, 6 * S - 1) == []
    assert sent(played, 6 * S) == [2 * S]


def test_an_answer_in_time_delays_nothing():
    played = player([0, S])
    sent(played, 0)
    played.hold(100 * S)
    played.release(S // 3)
    assert sent(played, S) == [S]


def test_one_message_at_a_time_while_paused():
    played = player([0, S, 5 * S], paused=True)
    assert sent(played, 0) == []
    assert played.play_next(10).message.stamp_ns == 0
    assert played.play_next(20).message.stamp_ns == S
    assert played.position_ns(20) == S
    played.resume(100)
    assert played.play_next(100) is None  # it plays
    assert sent(played, 100 + 4 * S) == [5 * S]


def test_a_paused_log_does_not_end():
    played = player([0, S], paused=True)
    played.play_next(0)
    played.play_next(0)
    assert played.play_next(0) is None
    all_due(played, 100 * S)
    assert not played.finished
    played.resume(100 * S)
    all_due(played, 100 * S)
    assert played.finished


def test_a_loop_jumps_back_to_its_start():
    played = player([10 * S, 11 * S], loops=2)
    due = run(played)
    assert [(now, d.message.stamp_ns) for now, d in due if d.message] == [
        (0, 10 * S),
        (1 * S, 11 * S),
        (1 * S, 10 * S),
        (2 * S, 11 * S),
        (2 * S, 10 * S),
        (3 * S, 11 * S),
    ]
    assert [d.log_ns for _, d in due].count(10 * S) >= 3
    assert played.played.loops == 2


def test_a_loop_keeps_time_after_its_end_was_noticed_late():
    played = player([0, S], loops=1)
    all_due(played, 0)
    all_due(played, S + 7)
    assert played.wake_ns() == 2 * S


@pytest.mark.parametrize("to", [0, 10 * S, 11 * S, 12 * S - 1, 12 * S])
def test_seek_goes_on_from_there_or_from_the_start(to):
    played = player([10 * S, 11 * S, 12 * S])
    sent(played, 2 * S)
    assert played.seek(to, 5 * S)
    found = run(played, 5 * S)
    reached = max(to, 10 * S)
    assert found[0][1].log_ns == reached
    assert [(now, due.message.stamp_ns) for now, due in found if due.message] == [
        (5 * S + stamp - reached, stamp) for stamp in (10 * S, 11 * S, 12 * S) if stamp >= to
    ]


def test_seek_beyond_the_end_changes_nothing():
    played = player([0, S])
    sent(played, 0)
    assert not played.seek(S + 1, 0)
    assert sent(played, S) == [S]


def test_seek_plays_a_finished_log_again_and_keeps_a_paused_one_paused():
    played = player([0, S])
    run(played)
    assert played.finished
    assert played.seek(S, 9 * S)
    assert sent(played, 9 * S) == [S]
    played.pause(9 * S)
    played.seek(0, 9 * S)
    assert sent(played, 99 * S) == []
    assert played.play_next(99 * S).message.stamp_ns == 0


def test_seek_ends_the_wait_for_an_answer():
    played = player([0, S], rate=0.0)
    played.due(0)
    played.hold(NEVER)
    played.seek(0, 0)
    assert sent(played, 0) == [0, S]


def test_messages_received_out_of_order_are_sent_and_do_not_turn_the_clock_back():
    played = player([0, 2 * S, S, 3 * S], end=3 * S)
    due = [d for _, d in run(played)]
    assert [d.message.stamp_ns for d in due if d.message] == [0, 2 * S, S, 3 * S]
    assert [d.log_ns for d in due] == sorted(d.log_ns for d in due)


steps = st.lists(
    st.tuples(
        st.integers(0, 3 * S),
        st.sampled_from(["wait", "pause", "resume", "hold", "release", "next", "slow", "fast", "at once"]),
    ),
    max_size=30,
)


@settings(max_examples=150)
@given(stamps=st.lists(st.integers(0, 20 * S), min_size=1, max_size=20), steps=steps)
def test_whatever_is_done_all_is_sent_once_in_order_and_time_goes_forward(stamps, steps):
    stamps = sorted(stamps)
    played = player(stamps, tick_ns=S // 2)
    now, due = 0, []
    rates = {"slow": 0.3, "fast": 7.0, "at once": 0.0}
    for wait, action in steps:
        now += wait
        before = len(due)
        held = played.held and action != "release"
        due += all_due(played, now)
        if held or played.paused:
            assert all(d.message is None for d in due[before:])
        assert played.position_ns(now) >= (due[-1].log_ns if due else 0)
        if action == "hold":
            played.hold(NEVER)
        elif action == "next":
            was_paused = played.paused
            following = played.play_next(now)
            assert was_paused or following is None
            due += [following] if following else []
        elif action in rates:
            played.set_rate(rates[action], now)
        elif action != "wait":
            getattr(played, action)(now)
    played.resume(now)
    played.release(now)
    for _ in range(100):
        now += S * 4
        due += all_due(played, now)
    assert played.finished
    assert [d.message.stamp_ns for d in due if d.message] == stamps
    told = [d.log_ns for d in due]
    assert told == sorted(told)
    assert all(d.log_ns == d.message.stamp_ns for d in due if d.message)
    assert played.played.messages == len(stamps)
