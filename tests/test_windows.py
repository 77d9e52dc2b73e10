"""Windows of scenes small enough to cut by hand, and of any scene against brute force."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trajpred.config import Protocol
from trajpred.errors import InputError
from trajpred.types import Label, Scene, bytes_from_ids, ids_from_int
from trajpred.windows import DataSource, Truth, cut, on_grid

S = 1_000_000_000
TWO_AND_TWO = Protocol(step_ns=S, observe=2, predict=2)


def numbers_of(ids):
    return bytes_from_ids(ids)[:, 15].tolist()


def scene_of(seen, name="s", step_s=1.0, start_s=100.0, **known):
    """Tracks (number -> the grid points at which it is seen); at point i track n is at (10 n + i, i)."""
    rows = [(n, i) for n, points in seen.items() for i in points]
    number, point = np.array(rows).T
    stamps = np.rint((start_s + point * step_s) * S).astype(np.int64)
    return Scene.build(
        name, stamps, ids_from_int(number), np.stack([10 * number + point, point], axis=1), **known
    )


HAND_MADE = {
    1: range(6),  # seen throughout
    2: [0, 1, 2, 4],  # lost at 3
    3: range(2, 6),  # comes later
}


def described(windows):
    """moment -> {track: (is target, seen where)}, with the moments' times in seconds after 100 s."""
    moments = {}
    for row in range(len(windows)):
        at = (int(windows.stamp_ns[row]) - 100 * S) / S
        key = (int(windows.scene[row]), at)
        who = numbers_of(windows.ids)[row]
        moments.setdefault(key, {})[who] = (
            bool(windows.target[row]),
            windows.valid[row].astype(int).tolist(),
        )
    return moments


def test_a_hand_made_scene_is_cut_as_by_hand():
    windows = cut((scene_of(HAND_MADE),), TWO_AND_TWO)
    assert described(windows) == {
        (0, 1.0): {1: (True, [1, 1, 1, 1]), 2: (False, [1, 1, 1, 0])},
        (0, 2.0): {1: (True, [1, 1, 1, 1]), 2: (False, [1, 1, 0, 1]), 3: (False, [0, 1, 1, 1])},
        (0, 3.0): {1: (True, [1, 1, 1, 1]), 3: (True, [1, 1, 1, 1])},
    }
    # The moment at 4 s has no complete window. Groups are the moments, in order.
    assert windows.group.tolist() == [0, 0, 1, 1, 1, 2, 2]
    assert windows.scene_names == ("s",)
    assert windows.protocol == TWO_AND_TWO
    assert len(windows) == 7


def test_the_positions_are_those_of_the_rows():
    windows = cut((scene_of(HAND_MADE),), TWO_AND_TWO)
    of_three = np.flatnonzero(np.array(numbers_of(windows.ids)) == 3)
    np.testing.assert_array_equal(windows.xy[of_three[1]], [[32, 2], [33, 3], [34, 4], [35, 5]])
    partly = windows.xy[of_three[0]]
    np.testing.assert_array_equal(partly[1:], [[32, 2], [33, 3], [34, 4]])
    assert np.isfinite(partly).all()


def test_stride_leaves_out_moments():
    windows = cut((scene_of(HAND_MADE),), Protocol(step_ns=S, observe=2, predict=2, stride=2))
    assert [at for _, at in described(windows)] == [1.0, 3.0]


def test_moments_with_too_few_complete_windows_are_left_out():
    windows = cut((scene_of(HAND_MADE),), Protocol(step_ns=S, observe=2, predict=2, min_tracks=2))
    assert [at for _, at in described(windows)] == [3.0]
    assert windows.group.tolist() == [0, 0]


def test_no_window_is_an_input_error_that_names_the_scene():
    with pytest.raises(InputError, match="plaza"):
        cut((scene_of(HAND_MADE, name="plaza"),), Protocol(step_ns=S, observe=2, predict=2, min_tracks=3))
    with pytest.raises(InputError, match="plaza"):
        cut((scene_of({1: range(3)}, name="plaza"),), TWO_AND_TWO)


def test_no_scene_and_empty_scenes_are_input_errors_too():
    empty = Scene.build("void", [], ids_from_int([]), np.zeros((0, 2)))
    for scenes in ((), (empty,), (empty, empty)):
        with pytest.raises(InputError):
            cut(scenes, TWO_AND_TWO)


def test_two_scenes_never_share_a_group():
    empty = Scene.build("void", [], ids_from_int([]), np.zeros((0, 2)))
    windows = cut((scene_of(HAND_MADE), empty, scene_of(HAND_MADE, name="t")), TWO_AND_TWO)
    assert windows.scene_names == ("s", "void", "t")
    assert windows.scene.tolist() == [0] * 7 + [2] * 7
    assert windows.group.tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 4, 4, 4, 5, 5]


def test_rows_between_the_grid_points_are_left_out():
    # Recorded at 2 Hz, cut at 1 Hz.
    windows = cut((scene_of({1: range(8)}, step_s=0.5),), TWO_AND_TWO)
    assert windows.stamp_ns.tolist() == [101 * S]
    np.testing.assert_array_equal(windows.xy[0, :, 1], [0, 2, 4, 6])


FINE = replace(TWO_AND_TWO, fine=2, observe=3)


def test_a_fine_history_has_the_points_between_those_of_the_future():
    windows = cut((scene_of({1: range(8)}, step_s=0.5),), FINE)
    assert windows.stamp_ns.tolist() == [101 * S, 101 * S + S // 2]
    assert len(set(windows.group.tolist())) == 2
    np.testing.assert_array_equal(windows.xy[:, :, 1], [[0, 1, 2, 4, 6], [1, 2, 3, 5, 7]])


def test_a_hole_between_the_points_of_the_future_leaves_a_window_complete():
    windows = cut((scene_of({1: [0, 2, 4, 6]}, step_s=0.5),), FINE)
    assert windows.target.tolist() == [True]
    assert windows.valid.tolist() == [[True, False, True, True, True]]


def test_a_fine_history_of_a_recording_on_the_grid_finds_the_same_windows():
    scene = scene_of(HAND_MADE)
    fine = cut((scene,), FINE)
    coarse = replace(fine, **{name: getattr(fine, name)[:, [0, 2, 3, 4]] for name in ("xy", "valid")})
    assert described(coarse) == described(cut((scene,), FINE.coarse)) == described(cut((scene,), TWO_AND_TWO))


def test_stamps_that_a_data_set_rounded_are_on_the_grid():
    # 0.4 s in whole milliseconds of a 29.97 Hz video: off by less than a hundredth of the step.
    stamps = np.array([0, 401, 799, 1201]) * 1_000_000
    scene = Scene.build("s", stamps, ids_from_int([1] * 4), np.zeros((4, 2)))
    assert len(cut((scene,), Protocol(step_ns=S * 2 // 5, observe=2, predict=2))) == 1
    late = Scene.build("s", stamps + np.array([0, 0, 0, 9_000_000]), ids_from_int([1] * 4), np.zeros((4, 2)))
    with pytest.raises(InputError):
        cut((late,), Protocol(step_ns=S * 2 // 5, observe=2, predict=2))


def test_labels_and_scales_belong_to_their_rows():
    windows = cut(
        (
            scene_of({1: range(4)}, label=Label.BICYCLE, m_per_px=0.05),
            scene_of({1: range(4)}, name="t", label=Label.CAR),
        ),
        TWO_AND_TWO,
    )
    assert windows.label.tolist() == [Label.BICYCLE, Label.CAR]
    np.testing.assert_array_equal(windows.m_per_px, [0.05, np.nan])


def test_yaw_and_velocity_come_with_their_masks():
    known = [True, False, True, True]
    scene = scene_of(
        {1: range(4), 2: [0, 1, 3]},
        yaw=[0.1, 0.2, 0.3, 0.4, 1.1, 1.2, 1.4],
        yaw_valid=[*known, True, True, False],
        velocity=[[v, -v] for v in (1, 2, 3, 4, 11, 12, 14)],
        velocity_valid=[True] * 7,
    )
    windows = cut((scene,), TWO_AND_TWO)
    assert numbers_of(windows.ids) == [1, 2]
    assert windows.yaw_valid.tolist() == [known, [True, True, False, False]]
    np.testing.assert_allclose(windows.yaw[0][known], [0.1, 0.3, 0.4])
    np.testing.assert_allclose(windows.yaw[1][:2], [1.1, 1.2])
    assert windows.velocity_valid.tolist() == [[True] * 4, [True, True, False, True]]
    np.testing.assert_allclose(
        windows.velocity[1][windows.velocity_valid[1]], [[11, -11], [12, -12], [14, -14]]
    )
    assert np.isfinite(windows.yaw).all()
    assert np.isfinite(windows.velocity).all()


def test_taking_rows_keeps_the_numbers_of_the_groups():
    windows = cut((scene_of(HAND_MADE),), TWO_AND_TWO)
    targets = windows.take(windows.target)
    assert targets.group.tolist() == [0, 1, 2, 2]
    assert targets.target.all()
    assert targets.xy.shape == (4, 4, 2)
    assert targets.scene_names == ("s",)
    assert windows.take(slice(2, 5)).group.tolist() == [1, 1, 1]
    assert windows.take(np.array([6])).group.tolist() == [2]


protocols = st.builds(
    lambda fine, **others: Protocol(step_ns=S * fine, fine=fine, **others),
    fine=st.integers(1, 3),
    observe=st.integers(1, 3),
    predict=st.integers(1, 3),
    stride=st.integers(1, 3),
    min_tracks=st.integers(1, 2),
)
seen = st.dictionaries(st.integers(0, 4), st.sets(st.integers(0, 9), min_size=1), min_size=1)


def brute_force(scene_seen, protocol):
    """What `described` gives, read off the definition point by point."""
    first = min(min(points) for points in scene_seen.values())
    columns, now_column, moments = protocol.columns, protocol.observe - 1, {}
    needed = [i for i, column in enumerate(columns) if (column - now_column) % protocol.fine == 0]
    for start in range(first, 11, protocol.stride):
        now = start + now_column
        window = {
            n: [int(start + column in points) for column in columns]
            for n, points in scene_seen.items()
            if now in points
        }
        complete = {n: all(valid[i] for i in needed) for n, valid in window.items()}
        if sum(complete.values()) >= protocol.min_tracks:
            moments[0, float(now)] = {n: (complete[n], valid) for n, valid in window.items()}
    return moments


@settings(max_examples=150)
@given(seen, protocols)
def test_any_scene_is_cut_as_by_brute_force(scene_seen, protocol):
    expected = brute_force(scene_seen, protocol)
    scene = scene_of(scene_seen)
    if not expected:
        with pytest.raises(InputError):
            cut((scene,), protocol)
        return
    windows = cut((scene,), protocol)
    assert described(windows) == expected
    assert len(windows) == sum(len(moment) for moment in expected.values())
    assert (np.diff(windows.group) >= 0).all()
    for group in np.unique(windows.group):
        assert len(set(windows.stamp_ns[windows.group == group].tolist())) == 1
    point = (windows.stamp_ns[:, None] - 100 * S) // S + np.subtract(protocol.columns, protocol.observe - 1)
    expected_xy = np.stack([10 * np.array(numbers_of(windows.ids))[:, None] + point, point], axis=-1)
    np.testing.assert_array_equal(windows.xy[windows.valid], expected_xy[windows.valid])


def test_a_jittering_track_is_interpolated_as_by_hand():
    stamps = np.array([1000, 1300, 2000]) * 1_000_000
    scene = Scene.build(
        "s", stamps, ids_from_int([5] * 3), [[0, 0], [3, 6], [10, -8]], label=[7, 6, 6],
        yaw=[0, 0, 0], velocity=np.ones((3, 2)), size=np.ones((3, 3)), frame_id="world", m_per_px=0.1,
    )  # fmt: skip
    grid = on_grid(scene, 400_000_000)
    assert grid.stamp_ns.tolist() == [1_000_000_000, 1_400_000_000, 1_800_000_000]
    # At 1.4 s a seventh of the way from 1.3 s to 2.0 s has passed, at 1.8 s five sevenths.
    np.testing.assert_allclose(grid.xy, [[0, 0], [4, 4], [8, -4]])
    assert numbers_of(grid.ids) == [5, 5, 5]
    assert grid.label.tolist() == [7, 7, 7]
    assert not grid.yaw_valid.any()
    assert not grid.velocity_valid.any()
    assert not grid.size_valid.any()
    assert (grid.name, grid.frame_id, grid.m_per_px) == ("s", "world", 0.1)


def test_the_last_stamp_counts_when_it_is_on_the_grid():
    scene = Scene.build("s", [0, 8 * S // 10], ids_from_int([1, 1]), [[0, 0], [8, 0]])
    np.testing.assert_allclose(on_grid(scene, 4 * S // 10).xy[:, 0], [0, 4, 8])


def test_every_track_has_its_own_first_stamp():
    scene = Scene.build(
        "s",
        np.array([0, 500, 900, 1300, 1000]) * 1_000_000,
        ids_from_int([2, 1, 2, 1, 3]),
        [[0, 0], [50, 0], [9, 0], [130, 0], [7, 7]],
    )
    grid = on_grid(scene, 400_000_000)
    rows = sorted(
        zip(numbers_of(grid.ids), (grid.stamp_ns // 1_000_000).tolist(), grid.xy[:, 0], strict=True)
    )
    expected = [
        (1, 500, 50),
        (1, 900, 90),
        (1, 1300, 130),
        (2, 0, 0),
        (2, 400, 4),
        (2, 800, 8),
        (3, 1000, 7),
    ]
    assert [row[:2] for row in rows] == [row[:2] for row in expected]
    np.testing.assert_allclose([row[2] for row in rows], [row[2] for row in expected])


def test_an_empty_scene_stays_empty_on_the_grid():
    assert len(on_grid(Scene.build("s", [], ids_from_int([]), np.zeros((0, 2))), S)) == 0


def test_a_scene_on_the_grid_stays_as_it_is():
    scene = scene_of({1: range(4), 2: range(1, 3)})
    grid = on_grid(scene, S)
    np.testing.assert_array_equal(grid.stamp_ns, scene.stamp_ns)
    np.testing.assert_array_equal(grid.ids, scene.ids)
    np.testing.assert_allclose(grid.xy, scene.xy)


def test_tracks_can_share_the_moments_of_their_scene():
    stamps = np.array([0, 1000, 1300, 2300]) * 1_000_000
    scene = Scene.build("s", stamps, ids_from_int([1, 1, 2, 2]), [[0, 0], [10, 0], [0, 5], [10, 5]])
    grid = on_grid(scene, 400_000_000, together=True)
    assert (grid.stamp_ns // 1_000_000).tolist() == [0, 400, 800, 1600, 2000]
    np.testing.assert_allclose(grid.xy[:, 0], [0, 4, 8, 3, 7])


def test_nothing_is_interpolated_across_a_long_gap():
    stamps = np.array([0, 400, 1300, 1600, 2000]) * 1_000_000
    scene = Scene.build("s", stamps, ids_from_int([1] * 5), np.zeros((5, 2)))
    grid = on_grid(scene, 400_000_000, gap_max_ns=500_000_000)
    assert (grid.stamp_ns // 1_000_000).tolist() == [0, 400, 1600, 2000]


def test_played_backwards_a_recording_has_the_same_windows_the_other_way_round():
    scene = scene_of(HAND_MADE)
    windows = cut((scene.reversed(),), TWO_AND_TWO)
    # 105 s is now 100 s; track 2 was lost at 3, track 3 came at 2.
    assert described(windows) == {
        (0, 1.0): {1: (True, [1, 1, 1, 1]), 2: (False, [0, 1, 0, 1]), 3: (True, [1, 1, 1, 1])},
        (0, 3.0): {1: (True, [1, 1, 1, 1]), 2: (False, [0, 1, 1, 1]), 3: (False, [1, 1, 0, 0])},
        (0, 2.0): {1: (True, [1, 1, 1, 1]), 3: (False, [1, 1, 1, 0])},
    }
    first = windows.xy[windows.target][0]
    np.testing.assert_array_equal(first, [[15, 5], [14, 4], [13, 3], [12, 2]])


def test_backwards_nothing_is_known_of_direction_and_twice_backwards_is_forwards():
    scene = scene_of({1: range(3)}, yaw=0.5, velocity=np.ones((3, 2)), size=[4.0, 2.0, 1.5])
    back = scene.reversed()
    assert not back.yaw_valid.any()
    assert not back.velocity_valid.any()
    assert back.size_valid.all()
    again = back.reversed()
    np.testing.assert_array_equal(again.xy, scene.xy)
    np.testing.assert_array_equal(again.stamp_ns, scene.stamp_ns)
    empty = scene.take(slice(0))
    assert not len(empty.reversed())


def test_what_a_tracker_made_of_a_truth_is_not_played_backwards():
    scene = scene_of({1: range(6)})
    with pytest.raises(InputError, match="cannot be played backwards"):
        DataSource("seen", (scene,), TWO_AND_TWO, truth=(Truth(scene, scene.ids),)).reversed()


def test_recordings_are_left_out_by_name_with_their_truth():
    scenes = tuple(replace(scene_of({1: range(6)}), name=name) for name in ("quad/1", "quad/10", "gates/1"))
    truths = tuple(Truth(scene, scene.ids) for scene in scenes)
    source = DataSource("some", scenes, TWO_AND_TWO, truth=truths)
    for names, left in (
        (["quad/1"], [1, 2]),
        (["quad/*"], [2]),
        (["quad/10", "gates/?"], [0]),
        ([], [0, 1, 2]),
    ):
        kept = source.without(names)
        assert kept.scenes == tuple(scenes[at] for at in left)
        assert kept.truth == tuple(truths[at] for at in left)
    assert replace(source, truth=()).without(["quad/*"]).scenes == scenes[2:]


def test_moments_in_which_nobody_is_of_interest_go():
    scene = scene_of({1: range(5), 2: range(1, 6)}, label=[Label.CAR] * 5 + [Label.PEDESTRIAN] * 5)
    windows = cut((scene,), TWO_AND_TWO)
    some = windows.of_interest(windows.label == Label.PEDESTRIAN)
    assert described(windows) == {
        (0, 1.0): {1: (True, [1, 1, 1, 1]), 2: (False, [0, 1, 1, 1])},
        (0, 2.0): {1: (True, [1, 1, 1, 1]), 2: (True, [1, 1, 1, 1])},
        (0, 3.0): {1: (False, [1, 1, 1, 0]), 2: (True, [1, 1, 1, 1])},
    }
    assert described(some) == {
        (0, 2.0): {1: (False, [1, 1, 1, 1]), 2: (True, [1, 1, 1, 1])},
        (0, 3.0): {1: (False, [1, 1, 1, 0]), 2: (True, [1, 1, 1, 1])},
    }


def test_windows_of_two_sets_follow_each_other_and_share_no_moment():
    one, other = (
        cut((scene_of({1: points}, name=name),), TWO_AND_TWO)
        for name, points in (("a", range(5)), ("b", range(6)))
    )
    both = one.followed_by(other)
    assert both.scene_names == ("a", "b")
    assert both.group.tolist() == [0, 1, 2, 3, 4]
    assert both.scene.tolist() == [0, 0, 1, 1, 1]
    np.testing.assert_array_equal(both.xy, np.concatenate([one.xy, other.xy]))
