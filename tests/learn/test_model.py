"""The network: every encoder is a step function, masks, attention, neighbours, gradients."""

from __future__ import annotations

import pytest
import torch

from tests.learn.conftest import ENCODERS, small_model
from trajpred.config import NeighbourConfig
from trajpred.learn.data import make_batch
from trajpred.learn.model import Attend, Look, Recurrent, with_one


def run(model, batch, **changes):
    inputs = batch._replace(**changes)
    return model(inputs, model.new_state(len(inputs.steps)))


@pytest.mark.parametrize("attention", [0, 3])
@pytest.mark.parametrize("encoder", ENCODERS)
def test_whole_sequence_equals_step_by_step(windows, encoder, attention):
    model = small_model(windows, encoder, attention)
    batch = make_batch(windows, model.config.neighbours).inputs
    with torch.no_grad():
        whole = model.encode(batch.steps, batch.mask, model.new_state(len(batch.steps)))
        state = model.new_state(len(batch.steps))
        for t in range(batch.steps.shape[1]):
            state = model.encode(batch.steps[:, t : t + 1], batch.mask[:, t : t + 1], state)
    for a, b in zip(whole, state, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("encoder", ENCODERS)
def test_masked_steps_change_nothing(windows, encoder):
    model = small_model(windows, encoder)
    batch = make_batch(windows, model.config.neighbours).inputs
    noise = torch.where(batch.mask[..., None], batch.steps, torch.randn_like(batch.steps) * 100)
    expected, _ = run(model, batch)
    found, _ = run(model, batch, steps=noise)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("shown", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["lstm", "gru", "rnn_tanh", "rnn_relu"])
def test_step_after_step_is_torchs_own_run(kind, shown):
    cell = Recurrent(kind, features=5, hidden=7)
    for weights in cell.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    steps, mask = torch.randn(9, 6, 5), torch.rand(9, 6) < shown
    mask[:2], mask[2] = True, False
    start = tuple(torch.randn(9, 7) for _ in cell.state_shapes)
    state = start
    for step, present in zip(steps.unbind(1), mask.unbind(1), strict=True):
        new = cell.step(step, state)
        state = tuple(torch.where(present[:, None], n, old) for n, old in zip(new, state, strict=True))
    torch.testing.assert_close(state, cell.run(steps, mask, start))


def test_the_relu_rnn_starts_as_an_integrator():
    """Identity recurrence: a positive input stays in the state for ever."""
    cell = Recurrent("rnn_relu", features=2, hidden=4)
    torch.testing.assert_close(cell.cell.all_weights[0][1].data, torch.eye(4))
    state = (torch.tensor([[1.0, 2.0, 3.0, 4.0]]),)
    for _ in range(50):
        state = cell.step(torch.zeros(1, 2), state)
    torch.testing.assert_close(state[0], torch.tensor([[1.0, 2.0, 3.0, 4.0]]))


def test_bag_of_steps_loses_order_and_lstm_does_not(windows):
    batch = make_batch(windows, NeighbourConfig(count=0)).inputs
    backwards = batch.steps.flip(1)
    for encoder, order_matters in (("bag_of_steps", False), ("lstm", True)):
        model = small_model(windows, encoder, neighbours=NeighbourConfig(count=0))
        a, b = (
            model.encoder.readout(run(model, batch, steps=steps)[1]) for steps in (batch.steps, backwards)
        )
        assert torch.allclose(a, b, atol=1e-4) is not order_matters


def test_an_untrained_model_goes_on_as_in_the_last_step(windows):
    """Where nothing is added to it, the last velocity is most of a path: what is learned is the rest."""
    model = small_model(windows, "lstm", neighbours=NeighbourConfig(count=0))
    with torch.no_grad():
        for zero in (model.centre, model.anchors, model.residual.weight):
            zero.zero_()
    batch = make_batch(windows, NeighbourConfig(count=0)).inputs
    found, _ = run(model, batch)
    velocity = batch.steps[batch.select, -1, :2]
    ahead = 0.95 * velocity[:, None] * torch.tensor(windows.protocol.offset_s)[:, None]
    torch.testing.assert_close(found.single, ahead, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.paths, ahead[:, None].expand_as(found.paths), atol=1e-4, rtol=1e-4)


def test_window_mlp_forgets_what_left_its_window(windows):
    model = small_model(windows, "window_mlp", neighbours=NeighbourConfig(count=0))
    batch = make_batch(windows, model.config.neighbours).inputs
    older = batch.steps.clone()
    older[:, : 8 - model.config.window] += 5.0
    torch.testing.assert_close(run(model, batch, steps=older)[0].paths, run(model, batch)[0].paths)


def test_attention_sees_past_states_and_nobody_is_allowed():
    attend = Attend(query=6, member=5, width=8)
    query, members = torch.randn(2, 6), with_one(torch.randn(2, 3, 5))
    nobody = torch.zeros(2, 3, dtype=torch.bool)
    alone = attend(query, members, nobody)
    torch.testing.assert_close(alone, attend(query, with_one(torch.randn(2, 3, 5)), nobody))
    assert torch.isfinite(alone).all()
    some = torch.tensor([[True, False, False], [False, True, False]])
    hidden_changed = members.clone()
    hidden_changed[~some] = 99.0
    torch.testing.assert_close(attend(query, members, some), attend(query, hidden_changed, some))


def test_attention_is_that_of_its_definition():
    """Every member with its own key and value, "nothing" among them: torch's own attention over the lot.

    Values are told from that of "nothing".
    """
    attend = Attend(query=6, member=5, width=8)
    torch.nn.init.normal_(attend.nothing)
    query, members = torch.randn(7, 6), torch.randn(7, 3, 5)
    mask = torch.rand(7, 3) < 0.5
    told = torch.cat([attend.nothing.expand(7, 1, -1), attend.key_value(members)], dim=1)
    key, value = (part.unflatten(-1, (4, 2)).transpose(1, 2) for part in told.chunk(2, dim=-1))
    found = torch.nn.functional.scaled_dot_product_attention(
        attend.query(query).unflatten(-1, (4, 1, 2)),
        key,
        value,
        torch.cat([torch.ones(7, 1, dtype=torch.bool), mask], dim=1)[:, None, None],
    )
    torch.testing.assert_close(
        attend(query, with_one(members), mask), found.flatten(1) - attend.nothing.chunk(2)[1]
    )


@pytest.mark.parametrize("looking", [0, 1, 7])
def test_neighbours_are_members_like_any_others(looking):
    """Fetched from a table or given with each query: the same attention."""
    look = Look(query=6, agent=5, relation=3, width=8)
    torch.nn.init.normal_(look.nothing)
    attend = Attend(query=6, member=8, width=8)
    attend.load_state_dict(look.state_dict())
    query, agents, relation = torch.randn(looking, 6), torch.randn(9, 5), torch.randn(looking, 4, 3)
    query *= 30.0  # some scores are beyond what an exponential can take
    rows, mask = torch.randint(9, (looking, 4)), torch.rand(looking, 4) < 0.5
    members = with_one(torch.cat([agents[rows], relation], dim=-1))
    torch.testing.assert_close(look(query, agents, rows, mask, relation), attend(query, members, mask))


def test_neighbours_matter_only_where_the_mask_says_so(windows):
    model = small_model(windows, "lstm")
    batch = make_batch(windows, model.config.neighbours).inputs
    expected = run(model, batch)[0].paths
    blind = run(model, batch, near_mask=torch.zeros_like(batch.near_mask))[0].paths
    met = batch.near_mask.any(dim=1)
    assert met.any()
    assert not torch.allclose(expected[met], blind[met])
    torch.testing.assert_close(expected[~met], blind[~met])


def test_gradient_reaches_the_first_step_through_time(windows):
    model = small_model(windows, "lstm")
    batch = make_batch(windows, model.config.neighbours).inputs
    steps = batch.steps.clone().requires_grad_(True)
    run(model, batch, steps=steps)[0].paths.sum().backward()
    rows = batch.select[batch.mask[batch.select].all(dim=1)]
    assert (steps.grad[rows, 0].abs().sum(-1) > 0).all()


def test_order_of_agents_does_not_matter(windows):
    model = small_model(windows, "lstm")
    batch = make_batch(windows, model.config.neighbours).inputs
    turn = torch.randperm(len(batch.steps))
    place = torch.argsort(turn)
    found, _ = run(
        model,
        batch,
        steps=batch.steps[turn],
        mask=batch.mask[turn],
        label=batch.label[turn],
        speed=batch.speed[turn],
        select=place[batch.select],
        near_rows=place[batch.near_rows],
    )
    torch.testing.assert_close(found.paths, run(model, batch)[0].paths)
