"""The network: step features -> recurrent encoder -> decoder with K modes.

Shapes: N agents, T steps, F features, H hidden units, M decoded agents, J neighbours, K modes,
S steps of the future, B numbers that describe a future path.

Every encoder is a step function over a state, so each of them can carry its memory from tick to tick:
the state of N agents is a tuple of (N, ...) tensors, zeros for a new track.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from trajpred.calibration import SPREAD_FLOOR_M
from trajpred.config import ModelConfig
from trajpred.features import FEATURES, RELATION, VELOCITY
from trajpred.place import PLACE
from trajpred.types import Label

State = tuple[Tensor, ...]
LOG_SPREAD_BOUNDS = (-6.0, 3.0)
"""Of a path's spread per scale: the exponential of what was never seen in training would be anything."""

RecurrentName = Literal["lstm", "gru", "rnn_tanh", "rnn_relu"]


class Recurrent(nn.Module):
    """LSTM, GRU, or a plain RNN with tanh or relu. The state's first part is the hidden state (N, H).

    The relu RNN starts from identity recurrent weights (Le, Jaitly, Hinton 2015), which keeps
    gradients alive over many steps; the LSTM's forget gate starts open (bias 1) for the same reason.
    """

    def __init__(self, kind: RecurrentName, features: int, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        parts = ("h", "c") if kind == "lstm" else ("h",)
        self.state_shapes: dict[str, tuple[int, ...]] = dict.fromkeys(parts, (hidden,))
        makers: dict[RecurrentName, Callable[..., nn.RNNBase]] = {
            "lstm": nn.LSTM,
            "gru": nn.GRU,
            "rnn_tanh": nn.RNN,
            "rnn_relu": partial(nn.RNN, nonlinearity="relu"),
        }
        self.input = nn.Identity()
        self.cell = makers[kind](features, hidden, batch_first=True)
        into, recur, bias, recur_bias = self.cell.all_weights[0]
        for block in recur.split(hidden):
            nn.init.orthogonal_(block)
        nn.init.zeros_(recur_bias)
        if kind == "rnn_relu":
            nn.init.eye_(recur)
            nn.init.normal_(into, std=1e-2)
            nn.init.zeros_(bias)
        if kind == "lstm":
            nn.init.ones_(bias[hidden : 2 * hidden])

    def step(self, x: Tensor, state: State) -> State:
        """X (N, F); returns the next state."""
        h, (into, recur, bias, recur_bias) = state[0], self.cell.all_weights[0]
        if self.kind == "gru":
            xr, xz, xn = nn.functional.linear(x, into, bias).chunk(3, dim=-1)
            hr, hz, hn = nn.functional.linear(h, recur, recur_bias).chunk(3, dim=-1)
            z = torch.sigmoid(xz + hz)
            return ((1 - z) * torch.tanh(xn + torch.sigmoid(xr + hr) * hn) + z * h,)
        seen, weight, off = torch.cat([x, h], dim=-1), torch.cat([into, recur], dim=1), bias + recur_bias
        if self.kind == "lstm":
            # The weights are cut, not the product: those of an exported graph are cut only once.
            parts = zip(weight.chunk(4), off.chunk(4), strict=True)
            i, f, g, o = (nn.functional.linear(seen, *part) for part in parts)
            c = torch.sigmoid(f) * state[1] + torch.sigmoid(i) * torch.tanh(g)
            return torch.sigmoid(o) * torch.tanh(c), c
        activation = torch.tanh if self.kind == "rnn_tanh" else torch.relu
        return (activation(nn.functional.linear(seen, weight, off)),)

    def run(self, steps: Tensor, mask: Tensor, state: State) -> State:
        """The state after steps (N, T, F), without those that mask (N, T) hides.

        The numbers of `step` after `step`, in less than half the time: histories of one length run at once.
        """
        seen = mask.sum(dim=1)
        # A hidden step changes nothing, so those that are seen may as well come first.
        order = (~mask).to(torch.uint8).argsort(dim=1, stable=True)
        first = steps.gather(1, order[..., None].expand_as(steps))
        rows, states = [], []
        for count in seen.unique().tolist():
            row = (seen == count).nonzero()[:, 0]
            before = tuple(part[row] for part in state)
            rows.append(row)
            states.append(self._after(first[row, :count], before) if count else before)
        back = torch.cat(rows).argsort()
        return tuple(torch.cat(parts)[back] for parts in zip(*states, strict=True))

    def _after(self, steps: Tensor, state: State) -> State:
        before = tuple(part[None] for part in state)
        _, after = self.cell(steps, before if self.kind == "lstm" else before[0])
        return tuple(part[0] for part in (after if self.kind == "lstm" else (after,)))

    def readout(self, state: State) -> Tensor:
        """(N, H)."""
        return state[0]


class WindowMlp(nn.Module):
    """For comparison: a feed-forward network over the last W steps. It cannot remember beyond them."""

    def __init__(self, features: int, hidden: int, window: int) -> None:
        super().__init__()
        self.input = nn.Identity()
        self.state_shapes: dict[str, tuple[int, ...]] = {"window": (window, features + 1)}
        self.mlp = nn.Sequential(
            nn.Linear(window * (features + 1), 2 * hidden),
            nn.ReLU(),
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
        )

    def step(self, x: Tensor, state: State) -> State:
        """X (N, F); the oldest step leaves, the newest enters, marked as seen."""
        seen = torch.cat([x, torch.ones_like(x[:, :1])], dim=-1)
        return (torch.cat([state[0][:, 1:], seen[:, None]], dim=1),)

    def readout(self, state: State) -> Tensor:
        """(N, H)."""
        out: Tensor = self.mlp(state[0].flatten(1))
        return out


class BagOfSteps(nn.Module):
    """For comparison: the mean of embedded steps. Which step came first is lost."""

    def __init__(self, features: int, hidden: int) -> None:
        super().__init__()
        self.state_shapes: dict[str, tuple[int, ...]] = {"sum": (hidden,), "count": (1,)}
        self.input = nn.Sequential(nn.Linear(features, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.out = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU())

    def step(self, x: Tensor, state: State) -> State:
        """X (N, H) embedded."""
        return state[0] + x, state[1] + 1.0

    def readout(self, state: State) -> Tensor:
        """(N, H)."""
        out: Tensor = self.out(state[0] / state[1].clamp(min=1.0))
        return out


class Remembering(nn.Module):
    """An encoder that also keeps its last L readouts, for the decoder to attend over."""

    def __init__(self, encoder: Recurrent | WindowMlp | BagOfSteps, length: int, hidden: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.input = encoder.input
        self.inner = len(encoder.state_shapes)
        self.state_shapes: dict[str, tuple[int, ...]] = {
            **encoder.state_shapes,
            "past": (length, hidden),
            "past_seen": (length,),
        }

    def step(self, x: Tensor, state: State) -> State:
        """The inner encoder's step; its readout enters the past."""
        inner = self.encoder.step(x, state[: self.inner])
        past, seen = state[self.inner :]
        newest = self.encoder.readout(inner)[:, None]
        past = torch.cat([past[:, 1:], newest], dim=1)
        return *inner, past, torch.cat([seen[:, 1:], torch.ones_like(seen[:, :1])], dim=1)

    def readout(self, state: State) -> Tensor:
        """(N, H)."""
        return self.encoder.readout(state[: self.inner])


Encoder = Recurrent | WindowMlp | BagOfSteps | Remembering


def make_encoder(config: ModelConfig, features: int) -> Encoder:
    """The encoder that the configuration names."""
    if config.encoder == "window_mlp":
        encoder: Recurrent | WindowMlp | BagOfSteps = WindowMlp(features, config.hidden, config.window)
    elif config.encoder == "bag_of_steps":
        encoder = BagOfSteps(features, config.hidden)
    else:
        encoder = Recurrent(config.encoder, features, config.hidden)
    return Remembering(encoder, config.attention, config.hidden) if config.attention else encoder


class Attention(nn.Module):
    """Dot-product attention of one query over a set, with a learned "nothing here" member.

    The extra member keeps the softmax defined where a set is empty, and lets a query look at nobody. Keys
    and values are told from those of "nothing", whose own score is therefore 0. What is found goes into a
    linear layer, so there is none behind the values.
    """

    def __init__(self, query: int, member: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(query, width)
        self.key_value = nn.Linear(member, 2 * width)
        self.nothing = nn.Parameter(torch.zeros(2 * width))


class Attend(Attention):
    """Over members of each query's own."""

    def forward(self, query: Tensor, members: Tensor, mask: Tensor) -> Tensor:
        """(M, Q), (M, J, C + 1) with a last feature of 1, (M, J) bool -> (M, width).

        Keys and values are linear in the members, so the query is taken to the members, and the weighted
        sum of the members to the values: once per agent, not once per member. The feature of 1 carries the
        difference of the biases.
        """
        heads, dim = self.heads, self.query.out_features // self.heads
        off = (self.key_value.bias - self.nothing)[:, None]
        # (heads, D, C + 1) each
        to_key, to_value = torch.cat([self.key_value.weight, off], dim=1).unflatten(0, (2, heads, dim))
        q = self.query(query).unflatten(-1, (heads, dim))
        asked = (q.transpose(0, 1) @ (to_key * dim**-0.5)).transpose(0, 1)  # (M, heads, C + 1)
        score = torch.where(mask[:, None], asked @ members.mT, -1e9)
        weight = torch.softmax(nn.functional.pad(score, (0, 1)), dim=-1)[..., :-1]  # (M, heads, J)
        found = weight @ members  # (M, heads, C + 1)
        value: Tensor = (found.transpose(0, 1) @ to_value.mT).transpose(0, 1).flatten(1)
        return value


class Look(Attention):
    """Over neighbours: rows of a table that all agents share, and how each stands to the one who looks."""

    of_head: Tensor

    def __init__(self, query: int, agent: int, relation: int, width: int, heads: int = 4) -> None:
        super().__init__(query, agent + relation, width, heads)
        of_head = torch.eye(heads).repeat_interleave(width // heads, dim=0)  # (width, heads)
        self.register_buffer("of_head", of_head, persistent=False)

    def forward(self, query: Tensor, agents: Tensor, rows: Tensor, mask: Tensor, relation: Tensor) -> Tensor:
        """(M, Q), (N, C), (M, J) int64 into the N, (M, J) bool, (M, J, R) -> (M, width).

        An agent's share of keys and values is made once and fetched by all who see it. Neighbours come
        before agents here, and what belongs to a head is spread and summed by products: along the last axes,
        a few numbers at a time, onnxruntime would take several times as long.
        """
        width, near = self.query.out_features, rows.shape[1]
        dim = width // self.heads
        of_agent, of_relation = self.key_value.weight.split([agents.shape[1], relation.shape[2]], dim=1)
        off = self.key_value.bias - self.nothing
        fetched, related = rows.T.reshape(-1), relation.transpose(0, 1).reshape(-1, relation.shape[2])
        key, value = (
            torch.addmm(take_rows(nn.functional.linear(agents, who, less), fetched), related, stands.T)
            for who, less, stands in zip(of_agent.chunk(2), off.chunk(2), of_relation.chunk(2), strict=True)
        )  # (J * M, width)
        q = nn.functional.linear(query, self.query.weight * dim**-0.5, self.query.bias * dim**-0.5)
        unseen = (mask.T.reshape(-1).to(q.dtype) - 1.0) * 1e9
        asked = (key.view(near, -1, width) * q).view(-1, width)
        score = torch.addmm(unseen[:, None], asked, self.of_head).view(near, -1, self.heads)
        best = score.detach().amax(dim=0).clamp(min=0.0)  # taken off, so that no exponential overflows
        share = torch.exp(score - best)
        weight = share / (share.sum(dim=0) + torch.exp(-best))  # "nothing" has the rest
        found = weight.view(-1, self.heads) @ self.of_head.T * value
        return (found.new_ones(1, near) @ found.view(near, -1)).view(-1, width)


def take_rows(table: Tensor, rows: Tensor) -> Tensor:
    """(N, C), (...) int64 -> (..., C), as a single node of an exported graph."""
    return nn.functional.embedding(rows, table)


def with_one(features: Tensor) -> Tensor:
    """(..., C) -> (..., C + 1), the last of them 1."""
    return nn.functional.pad(features, (0, 1), value=1.0)


def side_by_side(x: Tensor, *layers: nn.Linear) -> tuple[Tensor, ...]:
    """What each layer makes of x (M, C); in an exported graph by one product, which narrow ones need most."""
    if not torch.compiler.is_exporting():
        return tuple(layer(x) for layer in layers)
    weight, bias = torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])
    every = nn.functional.linear(x, weight, bias)
    return torch.split(every, [layer.out_features for layer in layers], dim=-1)


class Inputs(NamedTuple):
    """What the network is given, but for the state.

    steps (N, T, F) step features with mask (N, T); label (N,) class; speed (N,) m/s; select (M,) rows to
    decode; their neighbours: near_rows (M, J) into the N, near_mask (M, J), near_relation (M, J, R);
    place (M, P): where they are in the place that the model knows, see place.Place.
    """

    steps: Tensor
    mask: Tensor
    label: Tensor
    speed: Tensor
    select: Tensor
    near_rows: Tensor
    near_mask: Tensor
    near_relation: Tensor
    place: Tensor


class Futures(NamedTuple):
    """K futures of M agents, each in its agent's own frame.

    paths (M, K, S, 2) m; logits (M, K); spread (M, K, S) m; single (M, S, 2) m, the path of least
    expected error.
    """

    paths: Tensor
    logits: Tensor
    spread: Tensor
    single: Tensor


class Grid(NamedTuple):
    """What is fitted to the training data before training starts.

    mean, std (F,) of the features; offset_s (S,) of the futures' steps; basis (B, S, 2) s: orthonormal
    futures of an agent of unit speed, less what coasting explains of them; anchors (K, B): K typical ones in
    that basis; centre (B,): their median.
    """

    mean: Tensor
    std: Tensor
    offset_s: Tensor
    basis: Tensor
    anchors: Tensor
    centre: Tensor


COASTING = 0.95
"""How far the last velocity is trusted before training."""


def coast(steps: Tensor, offset_s: Tensor) -> Tensor:
    """(M, S, 2) m: where agents whose last of steps (M, T, F) was just seen are, if they go on as in it."""
    return steps[:, -1:, VELOCITY] * offset_s[:, None]


def _coasting(offset_s: Tensor) -> Tensor:
    """(2, S * 2): takes a velocity (2,) m/s to where it leads, as `coast`."""
    return torch.kron(offset_s, torch.eye(2).to(offset_s))


def _growth(steps: int) -> Tensor:
    """(2, S): what the two numbers of a path stand for in the logarithm of its spread, a power of time."""
    return torch.stack([torch.ones(steps), torch.log(torch.arange(1, steps + 1) / steps)])


class TrajectoryModel(nn.Module):
    """Step features in, K futures and the next state out."""

    mean: Tensor
    std: Tensor
    offset_s: Tensor
    basis: Tensor
    anchors: Tensor
    centre: Tensor
    growth: Tensor

    def __init__(self, config: ModelConfig, grid: Grid) -> None:
        super().__init__()
        self.config = config
        for name, value in grid._asdict().items():
            self.register_buffer(name, value)
        hidden, classes = config.hidden, config.class_embedding
        self.encoder = make_encoder(config, len(FEATURES))
        self.label = nn.Embedding(len(Label), classes)
        context, found = hidden + classes + 1, hidden // 2
        if config.attention:
            self.recall = Attend(context, hidden, found)
        if config.neighbours.count:
            self.look = Look(context, hidden + classes, len(RELATION), found)
        context += found * (bool(config.attention) + bool(config.neighbours.count))
        context += len(PLACE) * bool(config.place)
        modes, (numbers, steps, _) = config.modes, grid.basis.shape
        self.trunk = nn.Sequential(
            nn.Linear(context, 2 * hidden), nn.ReLU(), nn.Linear(2 * hidden, 2 * hidden), nn.ReLU()
        )
        self.residual = nn.Linear(2 * hidden, modes * numbers)
        self.logits = nn.Linear(2 * hidden, modes)
        self.log_spread = nn.Linear(2 * hidden, modes * 2)
        self.register_buffer("growth", _growth(steps), persistent=False)
        # Layers of its own: in the trunk, the one path and the K would each be a compromise.
        self.aside = nn.Sequential(
            nn.Linear(context, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.single = nn.Linear(hidden, numbers)
        # How far the last velocity can be believed depends on how it was seen: at 10 Hz it is mostly noise.
        self.trust, self.trust_single = nn.Linear(2 * hidden, 1), nn.Linear(hidden, 1)
        for last in (self.residual, self.single, self.trust, self.trust_single):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        for trust in (self.trust, self.trust_single):
            nn.init.constant_(trust.bias, math.log(COASTING / (1.0 - COASTING)))

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name -> shape of one agent's recurrent state, in the order of a state tuple."""
        return self.encoder.state_shapes

    def new_state(self, agents: int) -> State:
        """The state of tracks that have not been seen."""
        return tuple(self.mean.new_zeros(agents, *shape) for shape in self.state_shapes.values())

    def encode(self, steps: Tensor, mask: Tensor, state: State) -> State:
        """Steps (N, T, F), mask (N, T); a masked step leaves its agent's state as it was."""
        x = (steps - self.mean) / self.std
        if torch.compiler.is_exporting():
            # A loop over an unknown number of steps can only be exported as a scan.
            state, _ = scan(self._scan_step, state, (x.transpose(0, 1), mask.transpose(0, 1)), dim=0)
            return state
        if isinstance(self.encoder, Recurrent):
            return self.encoder.run(x, mask, state)
        x = self.encoder.input(x)
        for step, present in zip(x.unbind(1), mask.unbind(1), strict=True):
            state = self._step(state, step, present)
        return state

    def _step(self, state: State, x: Tensor, mask: Tensor) -> State:
        new = self.encoder.step(x, state)
        return tuple(
            torch.where(mask.view(-1, *[1] * (n.ndim - 1)), n, old) for n, old in zip(new, state, strict=True)
        )

    def _scan_step(self, state: State, step: tuple[Tensor, Tensor]) -> tuple[State, tuple[Tensor, ...]]:
        x, mask = step
        return tuple(part.clone() for part in self._step(state, self.encoder.input(x), mask)), ()

    def decode(self, given: Inputs, state: State) -> Futures:
        """The K futures of the selected agents, from the state of all N."""
        hidden = self.encoder.readout(state)  # (N, H)
        kind = self.label(given.label)  # (N, C)
        agent = torch.cat([hidden, kind], dim=-1)  # (N, H + C)
        speed = take_rows(given.speed[:, None], given.select)
        context = torch.cat([take_rows(agent, given.select), torch.log1p(speed)], dim=-1)
        parts = [context]
        if self.config.attention:
            past, seen = state[-2][given.select], state[-1][given.select]
            parts.append(self.recall(context, with_one(past), seen > 0))
        if self.config.neighbours.count:
            parts.append(self.look(context, agent, given.near_rows, given.near_mask, given.near_relation))
        if self.config.place:
            parts.append(given.place)
        whole = torch.cat(parts, dim=-1)
        trunk = self.trunk(whole)
        scale = torch.sqrt(speed * speed + self.config.speed_floor_mps**2)  # (M, 1)
        velocity = take_rows(given.steps[:, -1:, VELOCITY].flatten(1), given.select)  # (M, 2)
        coasting = _coasting(self.offset_s)
        numbers, log_spread, logits, trust = side_by_side(
            trunk, self.residual, self.log_spread, self.logits, self.trust
        )
        (modes, size), (_, *grid) = self.anchors.shape, self.basis.shape
        numbers = ((numbers + self.anchors.flatten()) * scale).reshape(-1, size)  # (M * K, B)
        paths = (numbers @ self.basis.flatten(1)).reshape(-1, modes * self.basis[0].numel())
        paths = paths + (torch.sigmoid(trust) * velocity) @ coasting.repeat(1, modes)  # (M, K * S * 2)
        spread = log_spread.unflatten(-1, (-1, 2)) @ self.growth  # (M, K, S)
        spread = torch.exp(spread.clamp(*LOG_SPREAD_BOUNDS)) * scale[..., None] + SPREAD_FLOOR_M
        median, trust = side_by_side(self.aside(whole), self.single, self.trust_single)
        single = (median + self.centre) * scale @ self.basis.flatten(1)  # (M, S * 2)
        single = single + (torch.sigmoid(trust) * velocity) @ coasting
        return Futures(paths.unflatten(-1, (modes, *grid)), logits, spread, single.unflatten(-1, grid))

    def forward(self, given: Inputs, state: State) -> tuple[Futures, State]:
        """Encode, then decode the selected agents."""
        state = self.encode(given.steps, given.mask, state)
        return self.decode(given, state), state
