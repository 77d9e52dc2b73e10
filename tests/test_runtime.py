"""Artefacts that are ours, and all that is not: every wrong file is an ArtefactError."""

from __future__ import annotations

import json
import os

import numpy as np
import onnxruntime
import pytest

from trajpred.errors import ArtefactError
from trajpred.features import FEATURES, RELATION, Neighbours
from trajpred.place import PLACE, Place
from trajpred.runtime import FORMAT, METADATA_KEY, ModelInfo, OnnxModel, seal
from trajpred.types import Label

onnx = pytest.importorskip("onnx", reason="the train extra brings onnx, which makes the test models")
helper, TensorProto = onnx.helper, onnx.TensorProto

METADATA = {
    "format": FORMAT,
    "code_version": "0.1",
    "encoder": "lstm",
    "features": list(FEATURES),
    "relation": list(RELATION),
    "classes": [label.name for label in Label],
    "trained_classes": ["BICYCLE", "PEDESTRIAN"],
    "offset_s": [0.4, 0.8, 1.2],
    "modes": 2,
    "min_observations": 2,
    "neighbours": 4,
    "neighbour_radius_m": 10.0,
    "state": {"h": [5]},
    "mean": [0.0] * len(FEATURES),
    "std": [1.0] * len(FEATURES),
    "trained_on": "nothing",
    "trained_by": {"epochs": 0},
}


def serialised(graph, metadata=None, **versions):
    model = helper.make_model(
        graph, **{"opset_imports": [helper.make_opsetid("", 18)], "ir_version": 9, **versions}
    )
    if metadata is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = (
            METADATA_KEY,
            metadata if isinstance(metadata, str) else json.dumps(metadata),
        )
    return model.SerializeToString()


def foreign(metadata=None, op="Identity", kind=TensorProto.FLOAT, **versions):
    """A model of one node that has nothing to do with trajectories."""
    x, y = (helper.make_tensor_value_info(name, kind, [1]) for name in "xy")
    return serialised(
        helper.make_graph([helper.make_node(op, ["x"], ["y"])], "foreign", [x], [y]),
        metadata,
        **versions,
    )


def ours(metadata=METADATA):
    """A small graph with an artefact's inputs and outputs: all stand still, the state counts steps."""
    floating, whole, boolean = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    inputs = {
        "steps": (floating, ["N", "T", len(FEATURES)]),
        "mask": (boolean, ["N", "T"]),
        "label": (whole, ["N"]),
        "speed": (floating, ["N"]),
        "select": (whole, ["M"]),
        "near_rows": (whole, ["M", "J"]),
        "near_mask": (boolean, ["M", "J"]),
        "near_relation": (floating, ["M", "J", len(RELATION)]),
        "h": (floating, ["N", 5]),
    }
    outputs = {
        "paths": (floating, ["M", 2, 3, 2]),
        "probability": (floating, ["M", 2]),
        "spread": (floating, ["M", 2, 3]),
        "single": (floating, ["M", 3, 2]),
        "h_next": (floating, ["N", 5]),
    }
    nodes = [helper.make_node("Shape", ["select"], ["count"])]
    constants = [helper.make_tensor("one", whole, [1], [1])]
    for name, tail, value in (
        ("paths", [2, 3, 2], 0.0),
        ("probability", [2], 0.5),
        ("spread", [2, 3], 1.0),
        ("single", [3, 2], 0.0),
    ):
        constants.append(helper.make_tensor(f"{name}_tail", whole, [len(tail)], tail))
        nodes.append(helper.make_node("Concat", ["count", f"{name}_tail"], [f"{name}_shape"], axis=0))
        fill = helper.make_tensor("value", floating, [1], [value])
        nodes.append(helper.make_node("ConstantOfShape", [f"{name}_shape"], [name], value=fill))
    nodes += [
        helper.make_node("Cast", ["mask"], ["seen"], to=floating),
        helper.make_node("ReduceSum", ["seen", "one"], ["taken"], keepdims=1),
        helper.make_node("Add", ["h", "taken"], ["h_next"]),
    ]
    values = [
        [helper.make_tensor_value_info(n, *about) for n, about in side.items()] for side in (inputs, outputs)
    ]
    return serialised(helper.make_graph(nodes, "ours", *values, initializer=constants), metadata)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.onnx"


def assert_refused(path, content=None, match=None):
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ArtefactError, match=match) as refused:
        OnnxModel.load(path, provider="cpu")
    assert str(path) in str(refused.value)  # says which file


@pytest.mark.parametrize("provider", ["auto", "cpu"])
def test_an_artefact_says_what_it_was_made_for(path, provider):
    path.write_bytes(seal(ours()))
    info = OnnxModel.load(str(path), provider=provider).info
    assert info.features == FEATURES
    assert info.relation == RELATION
    assert info.classes == tuple(label.name for label in Label)
    assert info.offset_s == (0.4, 0.8, 1.2)
    assert info.state == {"h": (5,)}
    assert (info.modes, info.min_observations, info.neighbours, info.neighbour_radius_m) == (
        2,
        2,
        4,
        10.0,
    )
    older = {"place": None, "place_features": list(PLACE)}  # which older ones do not speak of
    assert json.loads(info.to_json()) == METADATA | older
    assert ModelInfo.from_json(info.to_json(), path) == info


def test_an_artefact_says_which_place_it_knows(path):
    town = {"frame_id": "town", "x_m": 4e5, "y_m": 5e6, "reach_m": 80.0, "seen": [3, 5]}

    def read(place, **more):
        return ModelInfo.from_json(json.dumps(METADATA | {"place": place} | more), path)

    assert read(town).place == Place("town", 4e5, 5e6, 80.0, (3, 5))
    assert ModelInfo.from_json(read(town).to_json(), path) == read(town)
    without = {name: value for name, value in town.items() if name != "seen"}
    for wrong in (
        *("town", [], without, town | {"more": 1}, town | {"frame_id": ""}, town | {"frame_id": 1}),
        *(town | {"reach_m": reach} for reach in (0.0, -1.0, "x")),
        *(town | {"seen": seen} for seen in (None, 3, [0.5], ["x"], [-1], [5, 3], [3, 3], [2**63])),
    ):
        with pytest.raises(ArtefactError, match="makes no sense"):
            read(wrong)
    with pytest.raises(ArtefactError, match="made for other place_features"):
        read(town, place_features=["known"])
    path.write_bytes(seal(ours(METADATA | {"place": town})))
    with pytest.raises(ArtefactError, match="its graph has place None"):
        OnnxModel.load(path, provider="cpu")


def test_an_artefact_runs(path):
    path.write_bytes(seal(ours()))
    model = OnnxModel.load(path)
    near = Neighbours(
        np.zeros((2, 4), np.int64), np.zeros((2, 4), bool), np.zeros((2, 4, len(RELATION)), np.float32)
    )
    forecast, state = model.run(
        np.zeros((3, 2, len(FEATURES)), np.float32),
        np.array([[True, True], [False, True], [False, False]]),
        np.zeros(3, np.uint8),
        np.zeros(3),
        {"h": np.zeros((3, 5), np.float32)},
        np.array([2, 0]),
        near,
    )
    assert forecast.paths.shape == (2, 2, 3, 2)
    assert forecast.probability.tolist() == [[0.5, 0.5]] * 2
    assert forecast.spread.shape == (2, 2, 3)
    assert forecast.single.shape == (2, 3, 2)
    assert state["h"].tolist() == [[2.0] * 5, [1.0] * 5, [0.0] * 5]


def test_a_sealed_model_is_an_ordinary_onnx_file(path):
    path.write_bytes(seal(ours()))
    model = onnx.load(path)
    onnx.checker.check_model(model)
    props = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(props[METADATA_KEY]) == METADATA
    assert model.graph.node[0].op_type == "Shape"
    assert onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).get_outputs()


def test_sealing_only_appends():
    model = ours()
    assert seal(model).startswith(model)
    assert seal(model) == seal(model)


def test_a_missing_file(path):
    assert_refused(path)


def test_a_folder(tmp_path):
    assert_refused(tmp_path)


def test_an_empty_file(path):
    assert_refused(path, b"")


@pytest.mark.parametrize("size", [1, 50, 100, 5000])
def test_random_bytes(path, size):
    assert_refused(path, np.random.default_rng(size).bytes(size))


def test_an_ordinary_model_of_somebody_else(path):
    assert_refused(path, foreign(), match="not a trajpred model")


def test_our_own_model_that_was_never_sealed(path):
    assert_refused(path, ours())


def test_a_pickle_is_not_loaded(path):
    assert_refused(path, b"\x80\x04\x8c\x08builtins\x8c\x05print\x93)R.")


def test_any_changed_byte_is_noticed(path):
    sealed = seal(ours())
    trailer = len(sealed) - len(ours())
    rng = np.random.default_rng(0)
    # Everywhere, and each kind of byte of the seal itself.
    positions = {0, 1, len(sealed) - 1, *rng.integers(0, len(sealed), 50).tolist()}
    positions |= set(range(len(sealed) - trailer - 1, len(sealed), 5))
    for position in sorted(positions):
        changed = bytearray(sealed)
        changed[position] ^= 1 << int(rng.integers(8))
        assert_refused(path, bytes(changed))


def test_any_truncation_is_noticed(path):
    sealed = seal(ours())
    for length in {
        0,
        1,
        10,
        len(sealed) // 2,
        *range(len(sealed) - 90, len(sealed), 7),
        len(sealed) - 1,
    }:
        assert_refused(path, sealed[:length])


def test_appended_bytes_are_noticed(path):
    for more in (b"\n", b"\0" * 100, seal(ours())[:50]):
        assert_refused(path, seal(ours()) + more)


def test_a_seal_on_another_model_is_noticed(path):
    sealed, other = seal(ours()), foreign(METADATA)
    assert_refused(path, other + sealed[len(ours()) :], match="damaged")


def test_a_sealed_model_without_metadata(path):
    assert_refused(path, seal(foreign()))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "3", "null", '"trajpred"', "{}", "[" * 2000, "9" * 5000],
    ids=lambda text: text[:9],
)
def test_metadata_that_is_no_description(path, text):
    assert_refused(path, seal(foreign(text)))


def test_another_format(path):
    assert_refused(path, seal(ours({**METADATA, "format": "trajpred-model-0"})), match="trajpred-model-0")


@pytest.mark.parametrize("name", ["features", "relation", "classes"])
def test_another_list_of_inputs(path, name):
    assert_refused(path, seal(ours({**METADATA, name: METADATA[name][:-1]})), match=name)
    assert_refused(path, seal(ours({**METADATA, name: METADATA[name][::-1]})), match=name)


@pytest.mark.parametrize("name", sorted(METADATA))
def test_metadata_with_a_field_missing(path, name):
    assert_refused(path, seal(ours({k: v for k, v in METADATA.items() if k != name})))


def test_metadata_with_a_field_too_many(path):
    assert_refused(path, seal(ours({**METADATA, "colour": "red"})))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("features", 5),
        ("features", None),
        ("offset_s", None),
        ("state", [1]),
        ("state", {"h": 4}),
        ("modes", "two"),
        ("neighbour_radius_m", "near"),
        ("min_observations", None),
        ("offset_s", []),
        ("offset_s", [0.8, 0.4, 1.2]),
        ("modes", 0),
        ("trained_on", 7),
        ("trained_on", "\ud800"),
        ("encoder", ["lstm"]),
    ],
    ids=ascii,
)
def test_metadata_of_the_wrong_kind(path, name, value):
    assert_refused(path, seal(ours({**METADATA, name: value})))


def test_metadata_that_contradicts_the_graph(path):
    # Another number of paths or times, or another state, than the graph gives.
    for change in ({"modes": 3}, {"offset_s": [0.4]}, {"state": {"h": [6]}}, {"state": {"c": [5]}}):
        assert_refused(path, seal(ours({**METADATA, **change})))


@pytest.mark.parametrize("name", [b"somewhere", b"speed", b"h_next"])
def test_names_that_are_not_text(path, name, capsys):
    model = ours({**METADATA, "trained_on": "somewhere"})
    assert_refused(path, seal(model.replace(name, b"\xff" * len(name))))
    assert not capsys.readouterr().out  # onnxruntime would print that it tries again


@pytest.mark.parametrize("place", ["weights.bin", "../weights.bin", "/dev/zero"])
def test_a_model_with_its_weights_in_another_file(path, place, monkeypatch):
    (path.parent / "weights.bin").write_bytes(bytes(20))
    monkeypatch.chdir(path.parent)
    model = onnx.load_from_string(ours(METADATA))
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [1, 5], [0.0] * 5)
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "20")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    model.graph.initializer.append(weights)
    written = model.SerializeToString()
    key = b"\x0a\x08location"
    assert key in written
    assert_refused(path, seal(written), match="other files")
    # The same two numbers, in more bytes than they need.
    for longer in (b"\x8a\x00\x08location", b"\x0a\x88\x80\x00location", b"\x8a\x80\x80\x80\x10\x08location"):
        assert_refused(path, seal(written.replace(key, longer)), match="other files")


def test_a_model_that_is_a_compiled_engine(path):
    assert_refused(path, seal(foreign(METADATA, op="EPContext")), match="other files")


def test_metadata_may_speak_of_a_location(path):
    path.write_bytes(seal(ours({**METADATA, "trained_on": "location", "trained_by": {"location": "here"}})))
    assert OnnxModel.load(path, provider="cpu").info.trained_on == "location"


def test_what_is_no_ordinary_file(path):
    os.mkfifo(path)
    assert_refused(path, match="not a file")
    with pytest.raises(ArtefactError, match="not a file"):
        OnnxModel.load("/dev/zero")
    with pytest.raises(ArtefactError, match="no name of a file"):
        OnnxModel.load("model\0.onnx")


def test_a_file_larger_than_any_model(path):
    with path.open("wb") as file:
        file.truncate(2**31)
    assert_refused(path, match="larger than a model can be")


def test_a_foreign_graph_with_our_metadata(path):
    assert_refused(path, seal(foreign(METADATA)))


@pytest.mark.parametrize("content", [b"", b"\xff" * 99, b"\0" * 99, b"GIF89a"], ids=repr)
def test_sealed_bytes_that_are_no_model(path, content):
    assert_refused(path, seal(content))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"op": "NoSuchOperator"}, id="unknown-operator"),
        pytest.param({"opset_imports": [helper.make_opsetid("", 999)]}, id="opset-of-the-future"),
        pytest.param({"ir_version": 999}, id="format-of-the-future"),
        pytest.param({"op": "Sinh", "kind": TensorProto.DOUBLE}, id="type-without-a-kernel"),
    ],
)
def test_a_sealed_model_that_onnxruntime_cannot_run(path, content):
    assert_refused(path, seal(foreign(METADATA, **content)))


@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_is_not_here_is_refused_with_what_is(path, provider, name):
    available = onnxruntime.get_available_providers()
    if name in available:
        pytest.skip(f"this onnxruntime has {name}")
    path.write_bytes(seal(ours()))
    with pytest.raises(ArtefactError) as refused:
        OnnxModel.load(path, provider=provider)
    message = str(refused.value)
    assert name in message
    assert all(one in message for one in available)


def test_the_provider_in_use_is_told(path):
    path.write_bytes(seal(ours()))
    assert OnnxModel.load(path, provider="cpu").provider == "CPUExecutionProvider"


@pytest.mark.filterwarnings("ignore:Specified provider")
@pytest.mark.parametrize(
    ("provider", "name"), [("cuda", "CUDAExecutionProvider"), ("tensorrt", "TensorrtExecutionProvider")]
)
def test_a_provider_that_is_here_and_does_not_start_is_refused(path, provider, name, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [name, "CPUExecutionProvider"])
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    path.write_bytes(seal(ours()))
    with pytest.raises(ArtefactError, match=f"{name} does not start"):
        OnnxModel.load(path, provider=provider)


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_auto_goes_on_with_the_processor_where_the_gpu_does_not_start(path, monkeypatch):
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    path.write_bytes(seal(ours()))
    model = OnnxModel.load(path)
    assert model.provider == "CPUExecutionProvider"
    assert not model.resident


def test_the_state_stays_with_the_processor_unless_told(path):
    path.write_bytes(seal(ours()))
    assert not OnnxModel.load(path, provider="cpu").resident
    assert OnnxModel.load(path, provider="cpu", resident=True).content == path.read_bytes()
