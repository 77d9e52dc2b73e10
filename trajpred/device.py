"""The recurrent state of all tracks kept on the model's device: features go there, forecasts come back.

The state is a table on the device. A track has two of its rows, which take turns, so that a repeated stamp
starts from what was before it; the store remembers in which of them a track's state is. One tick of the
network, taken out of the artefact's graph, reads rows and writes rows. There are buffers for a few numbers of
agents only, which stay where they are: that is what CUDA graphs need. See docs/decisions/0014-gpu.md.
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime import OrtValue

from trajpred.errors import ArtefactError
from trajpred.features import Neighbours
from trajpred.place import PLACE, nowhere
from trajpred.runtime import ORT_ERRORS, PROVIDERS, CallError, Forecast, OnnxModel, ProviderOptions, start
from trajpred.tracks import Columns, ColumnSpec
from trajpred.types import Float, Float32, Int

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto
    from onnxruntime import NodeArg

_Layout = Mapping[str, tuple[int, Sequence[int], np.dtype[Any]]]
"""Name -> where an array begins in a buffer (bytes), its shape and type."""

SMALLEST, USUAL = 8, 128
"""Agents: the least that there are buffers for; so many TensorRT's engine is made fastest for."""
BLANK, SPARE, FIRST = 0, 1, 2
"""Rows of the table: zeros, never written; what padding leaves, never read; the first that a track has."""
READ, WRITTEN, TABLE = "row_read", "row_written", "_table"
CLOSE = 1e-4
"""How far the answers of a captured CUDA graph may be from those of the call that it repeats."""
ALIGNED = 256
"""Bytes: an array within a buffer begins at a multiple, as one of its own would."""
_FAULTS: tuple[type[Exception], ...] = (*ORT_ERRORS, OSError, CallError)
_DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(bool)": np.bool_}


def buckets(most: int) -> tuple[int, ...]:
    """Numbers of agents that there are buffers for: 8, 16, 32, ... up to one that holds `most`."""
    sizes = [SMALLEST]
    while sizes[-1] < most:
        sizes.append(2 * sizes[-1])
    return tuple(sizes)


class Resident:
    """The recurrent state of one predictor's tracks, and the network that advances it.

    columns: what a store has to keep of each track in place of the state, zeros for a new one.
    captured: whether calls replay CUDA graphs.
    """

    columns: ClassVar[ColumnSpec] = {"row": ((), np.dtype(np.int64))}

    def __init__(self, model: OnnxModel, max_tracks: int) -> None:
        """Makes room on the device that the model runs on, and calls the network for every bucket.

        Raises ArtefactError where the device or its software cannot do it.
        """
        self._sizes = buckets(max_tracks)
        self.captured = model.provider == "CUDAExecutionProvider"
        tick = tick_graph(model, FIRST + 2 * max_tracks)
        try:
            self._start(model, tick)
        except _FAULTS as error:
            if not self.captured:
                raise ArtefactError(_unable(model, error)) from None
            logging.getLogger(__name__).warning("the model runs without CUDA graphs: %s", error)
            self.captured = False
            try:
                self._start(model, tick)
            except _FAULTS as other:
                raise ArtefactError(_unable(model, other)) from None

    def run(
        self,
        steps: Float32,
        label: NDArray[np.uint8],
        speed: Float,
        state: Columns,
        slots: Int,
        select: Int,
        near: Neighbours,
        place: Float32 | None = None,
    ) -> tuple[Forecast, dict[str, NDArray[Any]]]:
        """`OnnxModel.run` for one step (N, F) of agents in these slots (N,) of the store.

        state: what the store kept of them. Returns the forecast, which holds until the next call, and what to
        keep. Raises CallError; what was kept is still valid then.
        """
        first, before = FIRST + 2 * slots, state["row"]
        written = first + (np.abs(before) == first)  # not the one that was: what was before is still there
        bucket = self._buckets[bisect_left(self._sizes, len(steps))]
        bucket.fill(
            {
                "steps": steps[:, None],
                "mask": np.ones((len(steps), 1), bool),
                "label": label,
                "speed": speed,
                "select": select,
                "near_rows": near.rows,
                "near_mask": near.mask,
                "near_relation": near.relation,
                "place": nowhere(len(select)) if place is None else place,
                READ: np.maximum(before, BLANK),
                WRITTEN: written[:, None],
            }
        )
        forecast = bucket.run(captured=self.captured)
        return Forecast(*(part[: len(select)] for part in forecast)), {"row": written}

    @staticmethod
    def anew(row: Int) -> Int:
        """(N,) what to give for tracks that begin anew, of what the store kept: zeros are read for them."""
        return -np.abs(row)

    def _start(self, model: OnnxModel, tick: ModelProto) -> None:
        """Raises CallError where a captured graph does not repeat what it captured."""
        content: bytes = tick.SerializeToString()
        options = provider_options(model.provider, content, tick.graph, self._sizes, captured=self.captured)
        session = start(content, model.threads, options)
        shapes = {one.name: one.shape for one in session.get_inputs() if one.name.endswith(TABLE)}
        tables = {name: _zeros(session, shape, np.float32) for name, shape in shapes.items()}
        self._buckets = [_Bucket(session, tables, size, at) for at, size in enumerate(self._sizes, start=1)]
        direct = []
        for size, bucket in zip(self._sizes, self._buckets, strict=True):
            bucket.fill(_noise(model, size))
            direct.append([part.copy() for part in bucket.run(captured=False)])
        if self.captured:
            for bucket in self._buckets:
                bucket.run(captured=True)
            # All are captured before any is trusted: capturing one has been seen to spoil another.
            for bucket, meant in zip(self._buckets, direct, strict=True):
                for ours, theirs in zip(bucket.run(captured=True), meant, strict=True):
                    if not np.allclose(ours, theirs, rtol=CLOSE, atol=CLOSE):
                        raise CallError("a captured CUDA graph says something else than what it captured")


class _Bucket:
    """The buffers of a call for at most `size` agents; the CUDA graph of this number goes with them.

    All inputs are in one buffer and all outputs in another, so that a call takes one copy there and one back.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        tables: Mapping[str, OrtValue],
        size: int,
        number: int,
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        self._direct, self._captured = onnxruntime.RunOptions(), onnxruntime.RunOptions()
        self._direct.add_run_config_entry("gpu_graph_id", "-1")
        self._captured.add_run_config_entry("gpu_graph_id", str(number))
        device = _device(session)

        def buffer(those: Sequence[NodeArg], bind: Callable[..., None]) -> tuple[OrtValue, _Layout]:
            layout, end = {}, 0
            for one in those:
                shape, dtype = _sized(one.shape, size), np.dtype(_DTYPES[one.type])
                layout[one.name] = end, shape, dtype
                end += -(-math.prod(shape) * dtype.itemsize // ALIGNED) * ALIGNED
            value = _zeros(session, [end], np.uint8)
            for name, (begin, shape, dtype) in layout.items():
                bind(name, device, 0, dtype.type, shape, value.data_ptr() + begin)
            return value, layout

        inputs, outputs = session.get_inputs(), session.get_outputs()
        for one in inputs:
            if one.name in tables:
                self._binding.bind_ortvalue_input(one.name, tables[one.name])
        for one in outputs:
            table = tables.get(one.name.removesuffix("_next"))
            if table is not None:
                self._binding.bind_ortvalue_output(one.name, table)  # a table is written where it is
        self._given, layout = buffer(
            [one for one in inputs if one.name not in tables], self._binding.bind_input
        )
        self._host = np.zeros(self._given.shape(), np.uint8)
        self._inputs = _views(self._host, layout)
        self._said, self._layout = buffer(
            [one for one in outputs if one.name in Forecast._fields], self._binding.bind_output
        )

    def fill(self, feeds: Mapping[str, NDArray[Any]]) -> None:
        """Take what at most `size` agents did to the device, padded with agents whom nothing depends on."""
        for name, given in feeds.items():
            if name in self._inputs:
                host = self._inputs[name]
                host[: len(given)] = given
                host[len(given) :] = SPARE if name == WRITTEN else 0
        try:
            self._given.update_inplace(self._host)
        except ORT_ERRORS as error:
            raise CallError(str(error)) from error

    def run(self, *, captured: bool) -> Forecast:
        """The forecast of `size` agents; on a processor it is in the buffer itself. Raises CallError."""
        try:
            self._session.run_with_iobinding(self._binding, self._captured if captured else self._direct)
            said = _views(self._said.numpy(), self._layout)
        except ORT_ERRORS as error:
            raise CallError(str(error)) from error
        return Forecast(*(said[name] for name in Forecast._fields))


def _views(buffer: NDArray[np.uint8], layout: _Layout) -> dict[str, NDArray[Any]]:
    """The arrays in a buffer."""
    return {
        name: buffer[begin : begin + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        for name, (begin, shape, dtype) in layout.items()
    }


def _unable(model: OnnxModel, error: Exception) -> str:
    return f"{model.provider} cannot run the model with its state kept there ({error})"


def _device(session: onnxruntime.InferenceSession) -> str:
    return "cpu" if session.get_providers()[0] == "CPUExecutionProvider" else "cuda"


def _sized(shape: Sequence[int | str], size: int) -> list[int]:
    """A shape in which numbers of agents are names."""
    return [one if isinstance(one, int) else size for one in shape]


def _zeros(session: onnxruntime.InferenceSession, shape: Sequence[int], dtype: type[np.generic]) -> OrtValue:
    """On the device that the session runs on."""
    value = OrtValue.ortvalue_from_shape_and_type(shape, dtype, _device(session), 0)
    value.update_inplace(np.zeros(shape, dtype))
    return value


def _noise(model: OnnxModel, size: int) -> dict[str, NDArray[Any]]:
    """Agents as wild as those of training, who are new and of whom nothing will be kept."""
    draw, info = np.random.default_rng(size), model.info
    return {
        "steps": draw.normal(info.mean, info.std, (size, 1, len(info.mean))).astype(np.float32),
        "mask": np.ones((size, 1), bool),
        "speed": draw.uniform(0.0, 20.0, size),
        "select": np.arange(size),
        "near_mask": np.ones((size, max(info.neighbours, 1)), bool),
        "place": draw.uniform(-1.0, 1.0, (size, len(PLACE))).astype(np.float32),
        WRITTEN: np.full((size, 1), SPARE),
    }


def tick_graph(model: OnnxModel, rows: int) -> ModelProto:
    """The artefact's graph for one step, its state read from rows of a table (`rows`, ...), put into others.

    The loop over steps, which a CUDA graph cannot hold, is gone. Raises ArtefactError.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise ArtefactError("to keep the state on a GPU takes onnx: pip install -e '.[gpu]'") from None
    tick = onnx.load_from_string(model.content)
    graph = tick.graph
    node, loops = onnx.helper.make_node, [one for one in graph.node if one.op_type == "Scan"]
    inside = [part for one in graph.node for part in (_once(one, graph) if one in loops else [one])]
    state = model.info.state
    del graph.node[:], graph.value_info[:]
    graph.node.extend(node("Gather", [name + TABLE, READ], [name]) for name in state)
    graph.node.extend(inside)
    graph.node.extend(
        node("ScatterND", [name + TABLE, WRITTEN, f"{name}_next"], [f"{name}{TABLE}_next"]) for name in state
    )
    for one in (*graph.input, *graph.output):
        dims = one.type.tensor_type.shape.dim
        if one.name in ("steps", "mask"):
            dims[1].dim_value = 1
            agents = dims[0].dim_param
        name = one.name.removesuffix("_next")
        if name in state:
            one.name = one.name.replace(name, name + TABLE, 1)
            dims[0].dim_value = rows
    whole = onnx.TensorProto.INT64
    graph.input.extend(
        onnx.helper.make_tensor_value_info(name, whole, shape)
        for name, shape in ((READ, [agents]), (WRITTEN, [agents, 1]))
    )
    return tick


def _once(loop: NodeProto, graph: GraphProto) -> list[NodeProto]:
    """What a loop does with a single step; its constants go into the graph."""
    from onnx import helper, numpy_helper

    given = {one.name: helper.get_attribute_value(one) for one in loop.attribute}
    body, scanned = given["body"], given["num_scan_inputs"]
    axes = given.get("scan_input_axes") or [0] * scanned
    nodes, own = [], f"{loop.output[0]}/"
    known = {one.name: name for one, name in zip(body.input, loop.input, strict=True)}
    for axis, one in zip(axes, body.input[-scanned:], strict=True):
        step, place = own + one.name, f"{own}{one.name}/axis"
        graph.initializer.append(numpy_helper.from_array(np.array([axis]), place))
        nodes.append(helper.make_node("Squeeze", [known[one.name], place], [step]))
        known[one.name] = step
    for part in body.initializer:
        known[part.name] = own + part.name
        graph.initializer.add().CopyFrom(part)
        graph.initializer[-1].name = own + part.name
    for one in body.node:
        known.update((name, own + name) for name in one.output if name)
        nodes.append(one)
        one.name = ""
        one.input[:] = [known.get(name, name) for name in one.input]
        one.output[:] = [known.get(name, name) for name in one.output]
    ends = zip(body.output, loop.output, strict=True)
    return [*nodes, *(helper.make_node("Identity", [known[one.name]], [name]) for one, name in ends)]


def provider_options(
    provider: str, content: bytes, graph: GraphProto, sizes: Sequence[int], *, captured: bool
) -> ProviderOptions:
    """What onnxruntime is told for this provider and a serialised tick graph with buckets of these sizes."""
    stack = next(one for one in PROVIDERS.values() if one[0][0] == provider)
    ours = {"CUDAExecutionProvider": {"enable_cuda_graph": str(int(captured))}}
    if provider == "TensorrtExecutionProvider":
        folder = engine_cache(content)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        ours[provider] = {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
            "trt_op_types_to_exclude": "ScatterND",  # CUDA does it in place; TensorRT would copy the table
            "trt_profile_min_shapes": _profile(graph, sizes[0]),
            "trt_profile_opt_shapes": _profile(graph, min(USUAL, sizes[-1])),
            "trt_profile_max_shapes": _profile(graph, sizes[-1]),
        }
    return [(name, {**given, **ours.get(name, {})}) for name, given in stack]


def engine_cache(content: bytes) -> Path:
    """Where TensorRT keeps the engine that it makes of a graph: in the user's cache directory."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    home = given if given.is_absolute() else Path.home() / ".cache"
    name = f"{hashlib.sha256(content).hexdigest()}-onnxruntime-{onnxruntime.__version__}"
    return home / "trajpred" / "tensorrt" / name


def _profile(graph: GraphProto, size: int) -> str:
    """The shapes of the inputs for so many agents, as TensorRT's provider reads them."""
    shapes = []
    for one in graph.input:
        dims = one.type.tensor_type.shape.dim
        if any(dim.dim_param for dim in dims):
            sized = "x".join(str(size if dim.dim_param else dim.dim_value) for dim in dims)
            shapes.append(f"{one.name}:{sized}")
    return ",".join(shapes)
