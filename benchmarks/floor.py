"""The least time that a model's arithmetic takes: its products at this machine's rate, its bytes at memory's.

Counted from the ONNX graph with the shapes of one tick: the multiply-adds of every matrix product (Gemm,
MatMul, Einsum, LSTM, GRU, RNN, those inside a Scan included), two operations each. What is done element by
element is not counted, so the floor is a little low. The rate is the highest that onnxruntime reaches with a
square product in the whole run; `alone_ms` is what the model's own products take in their own shapes, each by
itself. Weights are counted as read from memory at every tick, though a large cache may keep them.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, shape_inference

from trajpred.runtime import artefact

SQUARES = (256, 512, 1024)
SQUARE_TIMES, PRODUCT_TIMES, COPY_TIMES = 12, 5, 5
COPY_BYTES = 128 << 20
Shapes = Mapping[str, list[int]]


class Product(NamedTuple):
    """`batch` products (rows, inner) x (inner, columns); fixed: the second factor is a weight."""

    batch: int
    rows: int
    inner: int
    columns: int
    fixed: bool

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * self.batch * self.rows * self.inner * self.columns


class Rates(NamedTuple):
    """What the machine can do, measured: operations per second in products, bytes per second in copies."""

    multiply_per_s: float
    copy_bytes_per_s: float

    def better(self, other: Rates) -> Rates:
        """The higher of both."""
        return Rates(*map(max, self, other))


class Work(NamedTuple):
    """What one tick takes: products; bytes of weights, of state read and written, of inputs and answers."""

    products: Counter[Product]
    bytes: int

    @property
    def operations(self) -> int:
        """Of all products."""
        return sum(product.operations * times for product, times in self.products.items())

    def floor_ms(self, rates: Rates) -> float:
        """The longer of computing and moving."""
        return 1e3 * max(self.operations / rates.multiply_per_s, self.bytes / rates.copy_bytes_per_s)


def work(model: Path | str, agents: int) -> Work:
    """Of one tick in which so many agents are seen and decoded."""
    graph = inferred(onnx.load(artefact(model)), agents).graph
    shapes = _shapes(graph, {})
    size = {
        value.name: helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize
        for value in (*graph.input, *graph.output)
    }
    moved = sum(math.prod(shapes[name]) * each for name, each in size.items())
    weights = sum(onnx.numpy_helper.to_array(part).nbytes for part in graph.initializer)
    return Work(Counter(dict(_products(graph, shapes, 1))), moved + weights)


def inferred(model: ModelProto, agents: int) -> ModelProto:
    """The model with all shapes of one tick: one step, so many agents."""
    sizes = {"agents": agents, "decoded": agents, "steps": 1}
    for value in (*model.graph.input, *model.graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_value = sizes[dim.dim_param]
    return shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)


def _shapes(graph: GraphProto, outside: Shapes) -> dict[str, list[int]]:
    values = (*graph.value_info, *graph.input, *graph.output)
    known = {v.name: [dim.dim_value for dim in v.type.tensor_type.shape.dim] for v in values}
    return {**outside, **known, **{part.name: list(part.dims) for part in graph.initializer}}


def _products(graph: GraphProto, shapes: Shapes, times: int) -> Iterator[tuple[Product, int]]:
    """Equal ones are counted together."""
    found: Counter[Product] = Counter()
    fixed = {part.name for part in graph.initializer}
    for node in graph.node:
        for product in _of(node, shapes, fixed):
            found[product] += times
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                # A scan of this exporter goes over the first axis of its last inputs.
                turns = shapes[node.input[-1]][0] if node.op_type == "Scan" else 1
                inner = _shapes(attribute.g, shapes)
                found.update(dict(_products(attribute.g, inner, times * turns)))
    yield from found.items()


def _of(node: NodeProto, shapes: Shapes, fixed: set[str]) -> Iterator[Product]:
    if node.op_type in ("Gemm", "MatMul", "FusedMatMul"):
        *batch, rows, columns = shapes[node.output[0]]
        given = {a.name: a.i for a in node.attribute}
        inner = shapes[node.input[0]][-2 if given.get("transA") else -1]
        second = shapes[node.input[1]]
        weight = len(second) == 2 and (node.input[1] in fixed or node.op_type == "Gemm")
        if weight:
            yield Product(1, math.prod(batch) * rows, inner, columns, True)
        else:
            yield Product(math.prod(batch), rows, inner, columns, False)
    elif node.op_type in ("LSTM", "GRU", "RNN"):
        length, agents = shapes[node.input[0]][:2]
        for name in node.input[1:3]:
            directions, columns, inner = shapes[name]
            yield Product(1, length * agents, inner, directions * columns, True)
    elif node.op_type == "Einsum":
        equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
        size: dict[str, int] = {}
        for letters, name in zip(equation.split("->")[0].split(","), node.input, strict=True):
            size |= dict(zip(letters, shapes[name], strict=True))
        yield Product(1, 1, math.prod(size.values()), 1, False)


class Bench:
    """The machine's rates, measured with so many threads of onnxruntime."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._squares = [self._run(Product(1, n, n, n, False)) for n in SQUARES]
        self._block = np.ones(COPY_BYTES, np.uint8)
        self._copy = np.ones_like(self._block)

    def rates(self) -> Rates:
        """The best of some tries; a copy reads and writes each byte."""
        multiply = [
            2 * n**3 / _best(call, SQUARE_TIMES) for n, call in zip(SQUARES, self._squares, strict=True)
        ]
        copy = _best(lambda: np.copyto(self._copy, self._block), COPY_TIMES)
        return Rates(max(multiply), 2 * COPY_BYTES / copy)

    def alone_ms(self, what: Work) -> float:
        """All products of a tick, one after the other, each at its best."""
        return 1e3 * sum(_best(self._run(p), PRODUCT_TIMES) * times for p, times in what.products.items())

    def _run(self, product: Product) -> Callable[[], Any]:
        """A product as a graph of its own; a weight is a constant of it, so that it can be packed."""
        batch, rows, inner, columns, fixed = product
        rng = np.random.default_rng(0)
        several = [batch] if batch > 1 else []
        first, second = (
            rng.normal(size=(*several, *shape)).astype(np.float32)
            for shape in ((rows, inner), (inner, columns))
        )
        infos = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in (("a", first.shape), ("b", second.shape), ("c", [*several, rows, columns]))
        ]
        graph = helper.make_graph(
            [helper.make_node("MatMul", ["a", "b"], ["c"])],
            "product",
            infos[:1] if fixed else infos[:2],
            infos[2:],
            [onnx.numpy_helper.from_array(second, "b")] if fixed else [],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        session = start(model.SerializeToString(), self._threads)
        feeds = {"a": first} if fixed else {"a": first, "b": second}
        return lambda: session.run(None, feeds)


def start(model: bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """A session on the processor, set up as the runtime does it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _best(call: Callable[[], Any], times: int) -> float:
    """The shortest of so many tries, s; one more before them."""
    call()
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        took.append(time.perf_counter() - begun)
    return min(took)
