"""A state that stays on its device gives the answers of one in the store; here that is the processor."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.test_predictor import S
from trajpred import device
from trajpred.config import DEFAULT_MODEL, PredictorConfig
from trajpred.device import BLANK, FIRST, SPARE, Resident, buckets, engine_cache, provider_options, tick_graph
from trajpred.errors import ArtefactError
from trajpred.features import RELATION, Neighbours
from trajpred.predictor import Predictor
from trajpred.runtime import CallError, Forecast, OnnxModel
from trajpred.tracks import TrackStore
from trajpred.types import Label, Source, TrackFrame, ids_from_int

onnx = pytest.importorskip(
    "onnx", reason="the gpu and train extras bring onnx, which takes the tick out of a graph"
)

CUDA, TENSORRT = "CUDAExecutionProvider", "TensorrtExecutionProvider"
CLOSE_M = 1e-4
ROOT = Path(__file__).parents[1]


def loaded(resident):
    return OnnxModel.load(DEFAULT_MODEL, provider="cpu", resident=resident)


@pytest.fixture(scope="module")
def model():
    return loaded(resident=True)


def both(plain=None, **bounds):
    """A predictor with the state in its store, and one with it on the device."""
    config = PredictorConfig(**bounds)
    return Predictor(plain or loaded(resident=False), config), Predictor(loaded(resident=True), config)


def traffic(stamp_ns, numbers, frame_id="map", **known):
    """Agents of all classes that go their ways, each at a speed of its own."""
    numbers = np.asarray(numbers, int)
    at_s, course = stamp_ns / S, 0.7 * numbers
    velocity = (numbers % 5)[:, None] * np.stack([np.cos(course), np.sin(course)], axis=1)
    xy = np.stack([numbers % 7 * 6.0, numbers // 7 % 7 * 6.0], axis=1) + velocity * (at_s % 60)
    known = {"label": numbers % len(Label), "velocity": velocity, "frame_id": frame_id, **known}
    return TrackFrame.build(stamp_ns, ids_from_int(numbers), xy, **known)


def assert_close(ours, theirs):
    assert ours.source.tolist() == theirs.source.tolist()
    for name in ("paths", "single", "probability", "spread"):
        np.testing.assert_allclose(
            getattr(ours, name), getattr(theirs, name), rtol=1e-5, atol=CLOSE_M, err_msg=name
        )


def eventful(ticks, agents, seed=0):
    """Frames of a busy place: births, deaths, gaps, repeated, late and backward stamps, another frame."""
    draw = np.random.default_rng(seed)
    stamp_ns, first, frame_id = 1000 * S, 0, "map"
    for tick in range(ticks):
        event = draw.random()
        stamp_ns += int(draw.choice([S // 10, S // 10, S // 20, S // 3]))
        first += int(draw.integers(0, 3))
        if event < 0.15:
            stamp_ns = asked.stamp_ns  # noqa: F821  the same stamp again, with others in it
        elif event < 0.2:
            yield traffic(stamp_ns - S // 5, range(first, first + 4), frame_id)
        elif event < 0.23:
            stamp_ns += 5 * S
        elif event < 0.25:
            stamp_ns -= 3 * S
        elif event < 0.27:
            frame_id = "odom" if frame_id == "map" else "map"
        count = int(draw.integers(0, agents))
        numbers = draw.permutation(np.arange(first, first + agents))[:count]
        if tick % 10 == 3:
            numbers = np.append(numbers, numbers[:1])
        asked = traffic(stamp_ns, numbers, frame_id)
        if tick % 10 == 7 and count:
            asked.xy[0] = np.nan
        if tick % 3 == 2 and count:
            asked.xy[-1] += 500.0
        yield asked


@pytest.mark.parametrize("max_tracks", [8192, 60], ids=["room for all", "some are forgotten for others"])
def test_through_all_that_happens_the_answers_are_those_of_the_plain_path(max_tracks):
    plain, resident = both(max_tracks=max_tracks, max_age_s=1.5)
    draw = np.random.default_rng(1)
    for number, asked in enumerate(eventful(250, agents=100)):
        if number % 12 == 5:
            plain.observe(asked)
            resident.observe(asked)
            continue
        at_most = int(draw.integers(0, 20)) if number % 5 == 0 else None
        assert_close(resident.step(asked, at_most), plain.step(asked, at_most))
    assert resident.counts == plain.counts
    assert plain.counts.leaps > 20
    assert len(resident) == len(plain)
    sources = {
        Source.MODEL,
        Source.OVER_BUDGET,
        Source.DUPLICATE_ID,
        Source.INVALID_STATE,
        Source.OUT_OF_ORDER,
    }
    assert sources <= set(plain.counts.answers)
    assert (Source.OVER_CAPACITY in plain.counts.answers) == (max_tracks == 60)


def test_a_place_is_told_there_too_and_in_its_own_frame_alone(tmp_path):
    pytest.importorskip("torch", reason="the train extra makes the model")
    from tests.learn.conftest import random_artefact

    path = random_artefact(tmp_path / "m.onnx", place="map")
    plain, resident, hidden = (
        Predictor(OnnxModel.load(path, provider="cpu", resident=kept), PredictorConfig(place=told))
        for kept, told in ((False, True), (True, True), (True, False))
    )
    differ = {"map": 0, "odom": 0}
    for number, asked in enumerate(eventful(120, agents=40, seed=2)):
        asked = replace(asked, frame_id="odom" if number // 10 % 2 else "map", xy=asked.xy * 0.03)
        answer = resident.step(asked)
        assert_close(answer, plain.step(asked))
        differ[asked.frame_id] += not np.array_equal(answer.paths, hidden.step(asked).paths)
    assert differ["map"] > 10
    assert differ["odom"] == 0


def test_after_a_reset_nothing_is_left():
    _, resident = both()
    fresh, _ = both()
    for tick in range(10):
        resident.step(traffic(tick * S // 10, range(9)))
    resident.reset()
    for tick in range(5):
        assert_close(*(one.step(traffic(tick * S // 10, range(9))) for one in (resident, fresh)))


def failing(owner, name, calls):
    """The calls of these numbers raise; the device may have written by then."""
    call, count = getattr(owner, name), iter(range(10**6))

    def broken(*given, **named):
        said = call(*given, **named)
        if next(count) in calls:
            raise CallError("the device is gone")
        return said

    return broken


def test_after_calls_that_fail_the_state_is_as_it_was(monkeypatch):
    calls = {5, 6, 11, 17}
    plain, resident = both()
    monkeypatch.setattr(plain.model, "run", failing(plain.model, "run", calls))
    monkeypatch.setattr(resident._resident, "run", failing(resident._resident, "run", calls))
    for tick in range(30):
        # Now and then the stamp of the call that failed comes again, and that of the one after it.
        stamp_ns = (tick - (tick in (7, 12, 13))) * S // 10
        asked = traffic(stamp_ns, range(tick % 3, 20))
        assert_close(resident.step(asked), plain.step(asked))
    assert resident.counts.failed_calls == plain.counts.failed_calls == 4


def test_after_an_answer_that_is_not_finite_an_agent_starts_anew(monkeypatch):
    predictors, finite = both(), Forecast.is_finite
    ill: list[int] = []
    monkeypatch.setattr(
        Forecast, "is_finite", lambda said: finite(said) & ~np.isin(np.arange(len(said.paths)), ill)
    )
    faults = 0
    for tick in range(40):
        ill[:] = [2, 5] if tick in (10, 11, 20, 30) else []
        stamp_ns = (tick - (tick in (12, 21))) * S // 10
        answers = [one.step(traffic(stamp_ns, range(1, 12))) for one in predictors]
        assert_close(*answers[::-1])
        faults += (answers[0].source == Source.MODEL_FAULT).sum()
    assert faults == 8


def test_padding_changes_nothing(model):
    narrow, wide = (Predictor(model, PredictorConfig(max_tracks=512)) for _ in range(2))
    wide._resident._sizes, wide._resident._buckets = (512,), wide._resident._buckets[-1:]
    for tick in range(30):
        # A large frame before each, so that there is something to be mistaken for padding's.
        for count in (400, 1 + tick):
            asked = traffic((2 * tick + (count < 400)) * S // 10, range(count))
            assert_close(narrow.step(asked), wide.step(asked))


def test_the_store_never_needs_more_rows_than_the_table_has():
    for max_tracks in (1, 3, 64, 65, 100, 1000):
        store = TrackStore({}, max_age_ns=10, max_tracks=max_tracks, reorder_ns=0)
        for stamp_ns in range(0, 60, 3):
            store.tick(stamp_ns)
            slots = store.admit(ids_from_int(np.arange(700) + 300 * stamp_ns))
            assert slots.max() < max_tracks
            assert (np.sort(slots[slots >= 0]) == np.unique(slots[slots >= 0])).all()


def test_a_row_is_written_that_is_neither_read_nor_anybody_elses(model):
    resident = Resident(model, 8)
    resident._buckets[0].run = lambda captured: Forecast(*(np.zeros((8, 1)) for _ in Forecast._fields))
    slots = np.arange(4)
    near = nobody_near(4, model)
    rows = np.array([BLANK, FIRST + 2, FIRST + 5, BLANK])
    for _ in range(5):
        _, kept = resident.run(
            np.zeros((4, 11), np.float32),
            np.zeros(4, np.uint8),
            np.zeros(4),
            {"row": rows},
            slots,
            slots,
            near,
        )
        assert (kept["row"] != rows).all()
        assert ((kept["row"] - FIRST) // 2 == slots).all()
        rows = kept["row"]


def nobody_near(count, model):
    shape = (count, model.info.neighbours)
    return Neighbours(
        np.zeros(shape, np.int64), np.zeros(shape, bool), np.zeros((*shape, len(RELATION)), np.float32)
    )


def test_buckets_double_up_to_one_that_holds_all():
    assert buckets(1) == buckets(8) == (8,)
    assert buckets(9) == (8, 16)
    assert buckets(512) == (8, 16, 32, 64, 128, 256, 512)
    assert buckets(8192)[-1] == 8192


@pytest.mark.parametrize(("count", "size"), [(0, 8), (8, 8), (9, 16), (64, 64), (65, 128), (100, 128)])
def test_a_frame_takes_the_smallest_bucket_that_holds_it(model, monkeypatch, count, size):
    predictor, taken = Predictor(model, PredictorConfig(max_tracks=100)), []
    for at, bucket in zip(predictor._resident._sizes, predictor._resident._buckets, strict=True):
        run = bucket.run
        monkeypatch.setattr(
            bucket, "run", lambda captured, at=at, run=run: taken.append(at) or run(captured=captured)
        )
    predictor.step(traffic(0, range(count)))
    assert taken == [size]


def test_every_bucket_has_been_called_before_the_first_frame(model, monkeypatch):
    called = []
    run = device._Bucket.run
    monkeypatch.setattr(
        device._Bucket, "run", lambda self, captured: called.append(self) or run(self, captured=captured)
    )
    resident = Resident(model, 100)
    assert called == resident._buckets
    assert len(called) == 5


def test_a_graph_of_one_tick_has_no_loop_and_keeps_its_state(model):
    tick = tick_graph(model, rows=202)
    onnx.checker.check_model(tick, full_check=True)
    assert "Scan" in {node.op_type for node in onnx.load_from_string(model.content).graph.node}
    assert not {"Scan", "Loop", "If"} & {node.op_type for node in tick.graph.node}
    shapes = {
        one.name: [dim.dim_value or dim.dim_param for dim in one.type.tensor_type.shape.dim]
        for one in (*tick.graph.input, *tick.graph.output)
    }
    for name, (hidden,) in model.info.state.items():
        assert shapes[f"{name}_table"] == shapes[f"{name}_table_next"] == [202, hidden]
    assert shapes["steps"] == ["agents", 1, len(model.info.features)]


@pytest.mark.parametrize("encoder", [("lstm", 4), ("gru", None)])
def test_every_encoders_state_can_stay_on_the_device(encoder, tmp_path):
    pytest.importorskip("torch", reason="the train extra makes the models")
    from dataclasses import asdict

    from tests.learn.conftest import crowd, small_model
    from trajpred.config import NeighbourConfig, Protocol
    from trajpred.learn.export import describe, to_onnx
    from trajpred.learn.train import Run
    from trajpred.runtime import seal
    from trajpred.windows import cut

    name, attention = encoder
    settings = {"neighbours": NeighbourConfig(count=0)} if attention is None else {}
    network = small_model(cut((crowd(),), Protocol()), name, attention or 0, **settings)
    run = Run("crowd", asdict(Protocol()), {}, {"history_dropout": 0.5}, [one.name for one in Label], "0")
    path = tmp_path / "m.onnx"
    path.write_bytes(seal(to_onnx(network, describe(network, run))))
    plain, resident = (
        Predictor(OnnxModel.load(path, provider="cpu", resident=one), PredictorConfig(max_tracks=40))
        for one in (False, True)
    )
    for asked in eventful(60, agents=50):
        assert_close(resident.step(asked), plain.step(asked))


def as_if_on_cuda():
    """Its provider is CUDA by name only: onnxruntime leaves out what it has not, and says so."""
    model = loaded(resident=True)
    model.provider = CUDA
    return model


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_captured_graphs_are_replayed_where_they_say_the_same():
    plain, _ = both(max_tracks=40)
    captured = Predictor(as_if_on_cuda(), PredictorConfig(max_tracks=40))
    assert captured._resident.captured
    for asked in eventful(30, agents=30):
        assert_close(captured.step(asked), plain.step(asked))


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize("fault", ["other numbers", "an error"])
def test_captured_graphs_that_are_wrong_are_not_used(monkeypatch, caplog, fault):
    run = device._Bucket.run

    def spoilt(self, *, captured):
        said = run(self, captured=captured)
        if captured and fault == "an error":
            raise CallError("operation not permitted when stream is capturing")
        return said._replace(paths=said.paths + 0.01) if captured else said

    monkeypatch.setattr(device._Bucket, "run", spoilt)
    plain, _ = both(max_tracks=40)
    without = Predictor(as_if_on_cuda(), PredictorConfig(max_tracks=40))
    assert not without._resident.captured
    assert "without CUDA graphs" in caplog.text
    for asked in eventful(30, agents=30):
        assert_close(without.step(asked), plain.step(asked))


def test_what_the_device_cannot_do_is_told(model, monkeypatch):
    def full(*_):
        raise MemoryError("no room on the device")

    monkeypatch.setattr(device, "_zeros", full)
    with pytest.raises(ArtefactError, match=r"CPUExecutionProvider.*no room on the device"):
        Predictor(model)


def test_without_onnx_the_error_names_the_extra(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ArtefactError, match=r"\.\[gpu\]"):
        Predictor(model)


def options(provider, model, sizes, **told):
    tick = tick_graph(model, rows=1026)
    return dict(provider_options(provider, tick.SerializeToString(), tick.graph, sizes, **told))


def test_cuda_is_told_of_graphs_and_of_exact_products(model):
    captured = options(CUDA, model, buckets(512), captured=True)
    assert list(captured) == [CUDA, "CPUExecutionProvider"]
    assert captured[CUDA] == {"use_tf32": "0", "enable_cuda_graph": "1"}
    assert options(CUDA, model, buckets(512), captured=False)[CUDA]["enable_cuda_graph"] == "0"


def test_tensorrt_is_told_of_shapes_and_of_where_to_keep_its_engine(model, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    told = options(TENSORRT, model, buckets(512), captured=False)
    assert list(told) == [TENSORRT, CUDA, "CPUExecutionProvider"]
    given = told[TENSORRT]
    folder = Path(given["trt_engine_cache_path"])
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.is_relative_to(tmp_path / "trajpred")
    assert onnxruntime.__version__ in folder.name
    assert given["trt_op_types_to_exclude"] == "ScatterND"
    for which, size in (("min", 8), ("opt", 128), ("max", 512)):
        shapes = dict(one.split(":") for one in given[f"trt_profile_{which}_shapes"].split(","))
        assert shapes["steps"] == f"{size}x1x{len(model.info.features)}"
        assert shapes["near_rows"] == f"{size}x{model.info.neighbours}"
        assert shapes["row_read"] == shapes["label"] == str(size)
        assert not {"h_table", "c_table"} & set(shapes)  # their shape never changes


def test_an_engine_is_kept_for_one_graph_only(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert engine_cache(b"a") == engine_cache(b"a") != engine_cache(b"b")
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert engine_cache(b"a").is_relative_to(tmp_path / ".cache/trajpred")


@pytest.mark.skipif(CUDA in onnxruntime.get_available_providers(), reason="there may be a GPU")
def test_the_benchmark_says_that_there_is_no_gpu_and_writes_nothing(tmp_path):
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/gpu.py", "--json", out],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(
        "not measured, there is no GPU to be used: onnxruntime has no CUDAExecution"
    )
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert not out.exists()


def test_spare_rows_are_apart():
    assert len({BLANK, SPARE, FIRST}) == 3
    assert BLANK == 0  # what a store keeps of a new track
