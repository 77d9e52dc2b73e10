"""Calibration: known errors are found, and folded weights say what was solved for."""

from __future__ import annotations

import pytest
import torch

from tests.learn.conftest import small_model
from trajpred.calibration import SPREAD_FLOOR_M
from trajpred.learn.calibrate import Answers, Calibration, answers, apply, calibrate, fold, solve
from trajpred.learn.losses import losses
from trajpred.learn.model import Futures

ENDPOINT_WEIGHT = 0.5


def right(agents=20_000, modes=4, steps=3, seed=0, far_m=1000.0) -> Answers:
    """Answers that are right: a mode wins as often as is said, the truth is as far from it as is said.

    The modes are so far apart that who wins is never in doubt.
    """
    draw = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=draw)

    logits = 1.5 * normal(agents, modes)
    log_spread = 0.5 * normal(agents, modes, 1).expand(-1, -1, steps)
    spread = torch.exp(log_spread) + SPREAD_FLOOR_M
    paths = normal(agents, modes, steps, 2) + far_m * torch.arange(modes)[:, None, None]
    winner = torch.multinomial(torch.softmax(logits, dim=1), 1, generator=draw)[:, 0]
    row = torch.arange(agents)
    truth = paths[row, winner] + spread[row, winner, :, None] * normal(agents, steps, 2)
    return Answers(Futures(paths, logits, spread, paths[:, 0]), truth, log_spread)


def wrong(answer: Answers, sharper=1.0, wider=1.0) -> Answers:
    """The same answers with logits too sharp and spreads too wide by these factors."""
    futures = apply(answer, 1.0 / sharper, wider)
    return answer._replace(futures=futures, log_spread=answer.log_spread + torch.tensor(wider).log())


def test_what_is_right_is_left_alone():
    found = solve([right()], ENDPOINT_WEIGHT)
    assert found.temperature == pytest.approx(1.0, rel=0.02)
    assert found.spread_factor == pytest.approx(1.0, rel=0.01)


@pytest.mark.parametrize("sharper", [0.4, 1.5, 3.0])
def test_logits_too_sharp_by_a_known_factor_are_brought_back(sharper):
    found = solve([wrong(right(), sharper=sharper)], ENDPOINT_WEIGHT)
    assert found.temperature == pytest.approx(sharper, rel=0.02)
    assert found.classify_after < found.classify_before
    assert found.classify_after == pytest.approx(solve([right()], ENDPOINT_WEIGHT).classify_after, abs=1e-4)


@pytest.mark.parametrize("wider", [0.25, 0.7, 2.0])
def test_spreads_too_wide_by_a_known_factor_are_brought_back(wider):
    found = solve([wrong(right(), wider=wider)], ENDPOINT_WEIGHT)
    assert found.spread_factor == pytest.approx(1.0 / wider, rel=0.01)
    assert found.spread_after < found.spread_before


def test_the_factor_is_that_for_tempered_probabilities():
    """Where modes overlap, the spreads depend on how the probabilities are spread."""
    close = wrong(right(far_m=0.5), sharper=3.0, wider=0.5)
    found = solve([close], ENDPOINT_WEIGHT)

    def spread(factor):
        futures = apply(close, found.temperature, factor)
        return float(losses(futures, close.truth, 0.0, ENDPOINT_WEIGHT).spread)

    best = spread(found.spread_factor)
    assert best == pytest.approx(found.spread_after, abs=1e-6)
    assert best < min(spread(0.98 * found.spread_factor), spread(1.02 * found.spread_factor))


def test_batches_of_any_size_give_the_same_numbers():
    one = wrong(right(agents=3000), sharper=2.0, wider=2.0)
    futures, truth, log_spread = one
    cuts = (slice(0, 100), slice(100, 2500), slice(2500, None))
    several = [Answers(Futures(*(part[at] for part in futures)), truth[at], log_spread[at]) for at in cuts]
    a, b = solve([one], ENDPOINT_WEIGHT), solve(several, ENDPOINT_WEIGHT)
    assert b.temperature == pytest.approx(a.temperature, rel=2e-3)
    assert b.spread_factor == pytest.approx(a.spread_factor, rel=2e-3)
    assert b.spread_before == pytest.approx(a.spread_before, rel=1e-5)


def test_a_single_mode_has_no_temperature_and_an_exploded_model_no_calibration():
    assert solve([right(agents=500, modes=1)], ENDPOINT_WEIGHT).temperature == 1.0
    broken = right(agents=500)
    broken.futures.logits.fill_(float("nan"))
    found = solve([broken], ENDPOINT_WEIGHT)
    assert (found.temperature, found.spread_factor) == (1.0, 1.0)


@pytest.mark.parametrize("factor", [0.3, 1.7])
@pytest.mark.parametrize("steep", [1.0, 40.0], ids=["within bounds", "at the bounds"])
def test_folding_equals_applying_outside(windows, factor, steep):
    model = small_model(windows, "lstm")
    with torch.no_grad():
        model.log_spread.weight *= steep
    (before,) = answers(model, windows)
    expected = apply(before, 2.5, factor)
    fold(model, Calibration(2.5, factor, *[0.0] * 4))
    (after,) = answers(model, windows)
    torch.testing.assert_close(after.futures.logits, before.futures.logits / 2.5)
    torch.testing.assert_close(after.futures.spread, expected.spread, rtol=1e-4, atol=1e-6)
    assert torch.equal(after.futures.paths, before.futures.paths)
    assert torch.equal(after.futures.single, before.futures.single)
    simply = factor * (before.futures.spread - SPREAD_FLOOR_M) + SPREAD_FLOOR_M
    assert torch.allclose(after.futures.spread, simply, rtol=1e-4) == (steep == 1.0)


def test_a_model_that_is_calibrated_needs_no_more(windows):
    model = small_model(windows, "lstm")
    found = calibrate(model, windows, ENDPOINT_WEIGHT)
    assert calibrate(model, windows, ENDPOINT_WEIGHT) == found
    assert found.classify_after <= found.classify_before
    assert found.spread_after <= found.spread_before
    fold(model, found)
    again = calibrate(model, windows, ENDPOINT_WEIGHT)
    assert again.classify_before == pytest.approx(found.classify_after, abs=1e-5)
    assert again.spread_before == pytest.approx(found.spread_after, abs=1e-5)
    assert again.spread_factor == pytest.approx(1.0, abs=0.01)
