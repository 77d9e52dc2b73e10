"""Batches: truth in the agents' frames, augmentation that keeps what it must, anchors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from trajpred.config import ModelConfig, NeighbourConfig, TrainingConfig
from trajpred.errors import InputError
from trajpred.features import to_map
from trajpred.learn.data import (
    Batches,
    augment,
    fit_grid,
    fit_place,
    fold_windows,
    hide_neighbours,
    make_batch,
    some_moments,
)
from trajpred.place import PLACE

NEAR = NeighbourConfig(count=3, radius_m=8.0)
PLAIN = TrainingConfig(flip=False, scale_range=0.0, history_dropout=0.0, batch_agents=32)


def test_truth_turned_back_is_the_future(windows):
    batch = make_batch(windows, NEAR)
    motion = fold_windows(windows).motion
    rows = np.flatnonzero(windows.target)
    back = motion.xy[rows, None] + to_map(batch.truth.numpy().astype(float), motion.heading[rows, None])
    np.testing.assert_allclose(back, windows.xy[rows, 8:], atol=1e-4)


def test_turning_changes_no_feature_of_an_agent_with_a_heading(windows):
    rng = np.random.default_rng(0)
    before, after = make_batch(windows, NEAR), make_batch(augment(windows, PLAIN, rng)[0], NEAR)
    several = before.inputs.mask.sum(1) > 1
    found, expected = after.inputs.steps[several], before.inputs.steps[several]
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(after.inputs.near_mask, before.inputs.near_mask)
    target_several = several[before.inputs.select]
    torch.testing.assert_close(
        after.truth[target_several], before.truth[target_several], atol=1e-4, rtol=1e-4
    )


def test_mirroring_mirrors_the_truth(windows):
    flip = replace(PLAIN, flip=True)
    for seed in range(20):
        after = make_batch(augment(windows, flip, np.random.default_rng(seed))[0], NEAR).truth
        before = make_batch(windows, NEAR).truth
        mirrored = torch.tensor([1.0, -1.0])
        same = torch.isclose(after, before, atol=1e-3).all((1, 2))
        turned = torch.isclose(after, before * mirrored, atol=1e-3).all((1, 2))
        assert (same | turned).all()
        assert turned.any()


def test_scaling_scales_displacements_of_a_moment_alike(windows):
    scaled, _ = augment(windows, replace(PLAIN, scale_range=0.5), np.random.default_rng(1))
    length = np.linalg.norm(np.diff(windows.xy, axis=1), axis=-1)
    ratio = np.linalg.norm(np.diff(scaled.xy, axis=1), axis=-1) / np.maximum(length, 1e-9)
    both = windows.valid[:, 1:] & windows.valid[:, :-1] & (length > 1e-3)
    for group in np.unique(windows.group):
        here = (windows.group == group)[:, None] & both
        assert np.ptp(ratio[here]) < 1e-6
        assert np.exp(-0.5) - 1e-6 <= ratio[here][0] <= np.exp(0.5) + 1e-6


def test_where_in_its_place_an_agent_is_stays_what_it_is_however_a_moment_is_turned_and_scaled(windows):
    place = fit_place(windows, "map")
    told = make_batch(windows, NEAR, place).inputs
    assert (told.place[:, 0] == 1.0).all()
    several = told.mask.sum(1)[told.select] > 1  # of whom is seen once, the heading is not known
    heading = [PLACE.index(name) for name in PLACE if name.startswith("heading")]
    for how, but in ((PLAIN, []), (replace(PLAIN, scale_range=0.5), heading)):  # which drags behind in metres
        changed, moved = augment(windows, how, np.random.default_rng(0))
        for near in (NEAR, NeighbourConfig(count=0)):
            after = make_batch(changed, near, place, moved).inputs.place
            same = np.setdiff1d(np.arange(len(PLACE)), but)
            torch.testing.assert_close(
                after[several][:, same], told.place[several][:, same], atol=1e-3, rtol=0
            )


def test_a_place_is_told_of_its_own_frame_alone_and_of_nobody_who_was_mirrored(windows):
    place = fit_place(windows, "map")
    assert not make_batch(windows, NEAR).inputs.place.any()
    assert not make_batch(windows, NEAR, replace(place, frame_id="elsewhere")).inputs.place.any()
    far = replace(windows, xy=windows.xy + 3 * place.reach_m)
    assert not make_batch(far, NEAR, place).inputs.place.any()
    changed, moved = augment(windows, replace(PLAIN, flip=True), np.random.default_rng(0))
    told = make_batch(changed, NEAR, place, moved).inputs
    mirrored = torch.from_numpy(moved.mirrored)[told.select]
    assert 0 < mirrored.sum() < len(mirrored)
    assert not told.place[mirrored].any()
    assert (told.place[~mirrored, 0] == 1.0).all()
    with pytest.raises(InputError, match=r"model.place 'town': nobody .* there are: map"):
        fit_place(windows, "town")


def test_what_is_known_of_a_place_is_kept_but_not_of_another_site_of_the_same_name(windows):
    place = fit_place(windows, "map")
    aside = replace(windows, xy=windows.xy + np.array([6.0, 0.0]))
    more = fit_place(aside, "map", place)
    assert replace(more, seen=()) == replace(place, seen=())  # what the weights know stays where it is
    assert set(more.seen) > set(place.seen)
    assert fit_place(aside, "map", replace(place, frame_id="town")) == fit_place(aside, "map")
    away = replace(windows, xy=windows.xy + 1000.0)
    assert fit_place(away, "map", place) == fit_place(away, "map")


def test_neighbours_are_hidden_from_the_share_of_agents_that_is_asked_for(windows):
    batch = make_batch(windows, NEAR)
    mask = batch.inputs.near_mask
    assert mask.sum() > 100
    rng = np.random.default_rng(0)
    assert torch.equal(hide_neighbours(batch, 0.0, rng).inputs.near_mask, mask)
    hidden = torch.stack([hide_neighbours(batch, 1.0, rng).inputs.near_mask for _ in range(200)])
    assert not (hidden & ~mask).any()
    # The root of a uniform number is 2/3 on average.
    assert hidden[:, mask].float().mean() == pytest.approx(1 / 3, abs=0.03)
    half = torch.stack([hide_neighbours(batch, 0.5, rng).inputs.near_mask for _ in range(200)])
    assert half[:, mask].float().mean() == pytest.approx(2 / 3, abs=0.03)


def test_shortened_histories_keep_the_last_observation(windows):
    short, _ = augment(windows, replace(PLAIN, history_dropout=1.0), np.random.default_rng(0))
    assert short.valid[:, 7].all()
    assert not short.valid[:, 0].any()
    assert (short.valid[:, 8:] == windows.valid[:, 8:]).all()


def test_a_fine_history_is_thinned_back_from_now_and_a_coarse_one_is_not(windows):
    how = TrainingConfig(history_dropout=0.0, keep_every=(3, 3))
    protocol = windows.protocol
    now = protocol.observe - 1
    thin = augment(windows, how, np.random.default_rng(0))[0].valid[:, : now + 1]
    everyone = windows.valid[:, : now + 1].all(axis=1)
    assert everyone.any()
    assert (thin[everyone] == ((now - np.arange(now + 1)) % 3 == 0)).all()
    sparse = replace(windows, valid=windows.valid & (np.arange(windows.valid.shape[1]) % 2 == now % 2))
    thin = augment(sparse, how, np.random.default_rng(0))[0].valid
    np.testing.assert_array_equal(thin[:, : now + 1], sparse.valid[:, : now + 1])


def test_a_tracker_is_silent_about_everyone_of_a_moment_or_about_nobody(windows):
    told = replace(windows, yaw_valid=windows.valid, velocity_valid=windows.valid)
    after, _ = augment(told, replace(PLAIN, tracker_dropout=0.3), np.random.default_rng(0))
    np.testing.assert_array_equal(after.valid, told.valid)
    np.testing.assert_array_equal(after.yaw_valid, after.velocity_valid)
    silent = []
    for group in np.unique(told.group):
        rows = told.group == group
        silent.append(not after.velocity_valid[rows].any())
        assert silent[-1] or (after.velocity_valid[rows] == told.valid[rows]).all()
    assert 0.1 < np.mean(silent) < 0.5


def test_an_epoch_holds_every_target_once_and_repeats_exactly(windows):
    batches = Batches(windows, NEAR, PLAIN)
    first, again = list(batches), list(batches)
    assert sum(len(b.truth) for b in first) == windows.target.sum()
    assert len(first) == len(batches)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(a.truth, b.truth)
    batches.epoch = 1
    assert not torch.equal(next(iter(batches)).truth[:3], first[0].truth[:3])


def test_some_moments_are_whole_ones_and_about_as_many_rows_as_asked_for(windows):
    rng = np.random.default_rng(0)
    assert some_moments(windows, len(windows), rng) is windows
    some = some_moments(windows, len(windows) // 3, rng)
    assert len(windows) // 6 < len(some) < len(windows) // 2
    for group in np.unique(some.group):
        assert (some.group == group).sum() == (windows.group == group).sum()


def test_basis_is_orthonormal_and_spans_straight_motion(windows):
    grid = fit_grid(windows, ModelConfig(modes=4, basis=10), seed=0)
    flat = grid.basis.flatten(1)
    torch.testing.assert_close(flat @ flat.T, torch.eye(10), atol=1e-4, rtol=0)
    ahead = torch.stack([torch.arange(1, 13) * 0.4, torch.zeros(12)], dim=-1).flatten()
    rebuilt = (ahead @ flat.T) @ flat
    assert (rebuilt - ahead).abs().max() < 0.1
    assert grid.anchors.shape == (4, 10)


def reaches(windows, seed: int = 0) -> np.ndarray:
    """(K,) how far the anchors lead, in s: metres for each m/s of speed."""
    grid = fit_grid(windows, ModelConfig(modes=4, basis=10), seed=seed)
    return np.sort(torch.einsum("kb,bsc->ksc", grid.anchors, grid.basis)[:, -1].norm(dim=-1).numpy())


def with_futures(windows, rows, ahead, past=None):
    """The windows with the futures of some rows, and their histories if given, set to (S, 2) and (T, 2) m."""
    observe, xy = windows.protocol.observe, windows.xy.copy()
    if past is not None:
        xy[rows, :observe] = xy[rows, observe - 1, None] + past
    xy[rows, observe:] = xy[rows, observe - 1, None] + ahead
    return replace(windows, xy=xy)


@pytest.mark.parametrize("seed", range(5))
def test_a_jump_of_the_tracker_takes_no_anchor(windows, seed):
    jumped = with_futures(windows, np.flatnonzero(windows.target)[:1], np.full((12, 2), 500.0))
    assert reaches(jumped, seed).max() < 2.0 * reaches(windows, seed).max()


@pytest.mark.parametrize("seed", range(5))
def test_who_sets_off_from_standstill_takes_no_anchor(windows, seed):
    starting = np.flatnonzero(windows.target)[::3]
    ahead = np.stack([np.linspace(0.0, 12.0, 12), np.zeros(12)], axis=-1)
    started = with_futures(windows, starting, ahead, np.zeros((8, 2)))
    assert reaches(started, seed).max() < 2.0 * reaches(windows, seed).max()


def test_anchors_of_those_who_all_stand_are_finite(windows):
    still = with_futures(windows, slice(None), np.zeros((12, 2)), np.zeros((8, 2)))
    assert np.isfinite(reaches(still)).all()
