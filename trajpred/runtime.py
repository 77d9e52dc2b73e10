"""The trained model as one self-describing, checked ONNX file, and its inference with onnxruntime.

The file is a plain ONNX model. Its metadata says what it was made for; its last bytes are one more
metadata entry, the SHA-256 of everything before them, so that any ONNX tool can open it and
`OnnxModel.load` notices every damaged byte before anything is parsed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from trajpred.compiled import compiled
from trajpred.config import DEFAULT_MODEL
from trajpred.errors import ArtefactError
from trajpred.features import FEATURES, RELATION, Neighbours
from trajpred.place import CELLS, PLACE, Place, nowhere
from trajpred.types import Float, Float32, Int, Label

FORMAT = "trajpred-model-1"
METADATA_KEY = "trajpred"
_IN_THE_BOX = Path(__file__).parent / "models" / f"{DEFAULT_MODEL}.onnx"
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    *(MemoryError, RuntimeError, ValueError, LookupError),  # what else pybind11 makes of C++'s exceptions
)
"""All that onnxruntime raises."""
_CHECKSUM_KEY = b"trajpred.sha256"
_SIZE_MAX = 2**31 - 1  # protobuf's own
# What makes onnxruntime open other files: the key under which a tensor names one (as protobuf bytes, in all
# ways to write its two numbers), and the operator that stands for a compiled engine.
_OTHER_FILES = re.compile(
    rb"(?:\x0a|\x8a[\x80-\xff]{0,8}[\x00-\x7f])(?:\x08|\x88[\x80-\xff]{0,8}[\x00-\x7f])location|EPContext"
)

Provider = Literal["auto", "cpu", "cuda", "tensorrt"]
ProviderOptions = Sequence[tuple[str, Mapping[str, str]]]
_CPU: tuple[str, Mapping[str, str]] = ("CPUExecutionProvider", {})
_CUDA = ("CUDAExecutionProvider", {"use_tf32": "0"})  # which would be off by more than a millimetre
_TENSORRT: tuple[str, Mapping[str, str]] = ("TensorrtExecutionProvider", {})
PROVIDERS: Mapping[str, ProviderOptions] = {
    "cpu": [_CPU],
    "cuda": [_CUDA, _CPU],
    "tensorrt": [_TENSORRT, _CUDA, _CPU],
}
"""Who runs the operators of the graph, the first of those that can."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an artefact says of itself.

    features, relation, classes: the input columns in order; trained_classes: those of the classes that
    it has learned to predict; offset_s (T,) s and modes: the output grid;
    min_observations: the shortest history it was trained on; neighbours and neighbour_radius_m: what
    it wants to see around an agent; state: name -> shape of one agent's recurrent state; mean and std:
    the normalisation of the features, applied inside the graph; trained_on, trained_by: data name and
    settings; code_version: of trajpred at export; place: the one that it knows; place_features: what it is
    told of where an agent is there.
    """

    format: str
    code_version: str
    encoder: str
    features: tuple[str, ...]
    relation: tuple[str, ...]
    classes: tuple[str, ...]
    trained_classes: tuple[str, ...]
    offset_s: tuple[float, ...]
    modes: int
    min_observations: int
    neighbours: int
    neighbour_radius_m: float
    state: Mapping[str, tuple[int, ...]]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    trained_on: str
    trained_by: Mapping[str, Any]
    place: Place | None = None
    place_features: tuple[str, ...] = PLACE

    def to_json(self) -> str:
        """The metadata entry's text."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, path: Path) -> ModelInfo:
        """Read the metadata entry back; ArtefactError if it is not for this code."""
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ArtefactError(f"{path}: its metadata is not JSON ({error})") from None
        names = {f.name for f in fields(cls)}
        found = values.get("format") if isinstance(values, dict) else None
        if found != FORMAT:
            raise ArtefactError(f"{path}: format {found!r}, this version reads {FORMAT!r}: export it again")
        values = {"place": None, "place_features": list(PLACE), **values}  # older ones know no place
        if set(values) != names:
            other = ", ".join(sorted(set(values) ^ names))
            raise ArtefactError(
                f"{path}: its metadata has other fields than this version ({other}): export it again"
            )
        try:
            info = cls(**{name: _READ[name](values[name]) for name in names})
            info.check()
        except (TypeError, ValueError, AttributeError) as error:
            raise ArtefactError(f"{path}: its metadata makes no sense ({error}): export it again") from None
        for name, ours in _OURS.items():
            theirs = getattr(info, name)
            if theirs != ours:
                raise ArtefactError(
                    f"{path}: made for other {name}: {', '.join(theirs)}; this version has "
                    f"{', '.join(ours)}: export it again with this version"
                )
        return info

    def check(self) -> None:
        """Raises ValueError where values contradict each other or cannot be."""
        rules = {
            "modes is less than 1": self.modes >= 1,
            "offset_s is not positive and ascending": bool(self.offset_s)
            and bool((np.diff(self.offset_s, prepend=0.0) > 0).all()),
            "min_observations is less than 1": self.min_observations >= 1,
            "neighbours or their radius is negative": self.neighbours >= 0 and self.neighbour_radius_m >= 0,
            "trained_classes are not among the classes": bool(self.trained_classes)
            and set(self.trained_classes) <= set(self.classes),
            "there is no state": bool(self.state),
            "mean and std do not fit the features": len(self.mean) == len(self.std) == len(self.features),
            "a place has no frame, or reaches nowhere": self.place is None
            or (bool(self.place.frame_id) and self.place.reach_m > 0),
            "the cells of a place are not ascending, or not cells": self.place is None
            or all(a < b for a, b in pairwise((-1, *self.place.seen, CELLS))),
        }
        for fault, holds in rules.items():
            if not holds:
                raise ValueError(fault)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name was expected, not {value!r:.60}")
    value.encode()  # a half of a surrogate pair cannot be written anywhere
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list of names was expected, not {value!r:.60}")
    return tuple(_text(item) for item in value)


def _numbers(value: Any) -> tuple[float, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a list of numbers was expected, not {value!r:.60}")
    return tuple(_number(item) for item in value)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        raise TypeError(f"a number was expected, not {value!r:.60}")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a whole number was expected, not {value!r:.60}")
    return value


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"a mapping was expected, not {value!r:.60}")
    return value


def _shapes(value: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(_count(size) for size in shape) for name, shape in _mapping(value).items()}


def _place(value: Any) -> Place | None:
    if value is None:
        return None
    about = _mapping(value)
    if set(about) != {f.name for f in fields(Place)} or not isinstance(about["seen"], list):
        raise TypeError(f"a place was expected, not {value!r:.60}")
    x_m, y_m, reach_m = (_number(about[name]) for name in ("x_m", "y_m", "reach_m"))
    return Place(_text(about["frame_id"]), x_m, y_m, reach_m, tuple(map(_count, about["seen"])))


_READ: dict[str, Callable[[Any], Any]] = {
    "format": _text,
    "code_version": _text,
    "encoder": _text,
    "features": _texts,
    "relation": _texts,
    "classes": _texts,
    "trained_classes": _texts,
    "offset_s": _numbers,
    "modes": _count,
    "min_observations": _count,
    "neighbours": _count,
    "neighbour_radius_m": _number,
    "state": _shapes,
    "mean": _numbers,
    "std": _numbers,
    "trained_on": _text,
    "trained_by": _mapping,
    "place": _place,
    "place_features": _texts,
}
_OURS = {
    "features": FEATURES,
    "relation": RELATION,
    "place_features": PLACE,
    "classes": tuple(label.name for label in Label),
}


def _field(tag: int, payload: bytes) -> bytes:
    """A short length-delimited protobuf field (payload below 128 bytes)."""
    return bytes([tag << 3 | 2, len(payload)]) + payload


def _checksum_entry(digest: str) -> bytes:
    """ModelProto.metadata_props (field 14) of one key and value, as protobuf bytes of fixed length."""
    return _field(14, _field(1, _CHECKSUM_KEY) + _field(2, digest.encode()))


def seal(model: bytes) -> bytes:
    """Append the checksum entry to a serialised ONNX model."""
    return model + _checksum_entry(hashlib.sha256(model).hexdigest())


def _read(path: Path) -> bytes:
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode) or about.st_size > _SIZE_MAX:
            raise ArtefactError(f"{path}: not a file, or larger than a model can be")
        with path.open("rb") as file:
            return file.read(about.st_size)
    except OSError as error:
        raise ArtefactError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise ArtefactError(f"{str(path)!r}: no name of a file ({error})") from None


def _unseal(content: bytes, path: Path) -> bytes:
    length = len(_checksum_entry("0" * 64))
    body, trailer = content[:-length], content[-length:]
    if _CHECKSUM_KEY not in trailer:
        if METADATA_KEY.encode() in content and FORMAT.encode() in content:
            raise ArtefactError(f"{path}: the end is missing or changed: copy or export it again")
        raise ArtefactError(f"{path}: not a trajpred model: make one with `trajpred export`")
    if trailer != _checksum_entry(hashlib.sha256(body).hexdigest()):
        raise ArtefactError(f"{path}: damaged (its checksum does not match): copy or export it again")
    return content


class CallError(Exception):
    """A call of the model failed: its graph cannot take the input, or the device or the memory is gone."""


class Forecast(NamedTuple):
    """What the model says of M selected agents, in each agent's own frame, float32.

    paths (M, K, T, 2) m; probability (M, K); spread (M, K, T) m; single (M, T, 2) m, the one path of
    least expected error.
    """

    paths: Float32
    probability: Float32
    spread: Float32
    single: Float32

    def is_finite(self) -> NDArray[np.bool_]:
        """(M,) whether everything said of an agent is finite."""
        return _finite(*self)


@compiled
def _finite(paths: Float32, probability: Float32, spread: Float32, single: Float32) -> NDArray[np.bool_]:
    agents, modes, steps = spread.shape
    finite = np.empty(agents, np.bool_)
    for i in range(agents):
        faults = np.float32(0.0)  # a number less itself is 0, and NaN where it is not finite
        for k in range(modes):
            faults += probability[i, k] - probability[i, k]
            for t in range(steps):
                x, y, sigma = paths[i, k, t, 0], paths[i, k, t, 1], spread[i, k, t]
                faults += (x - x) + (y - y) + (sigma - sigma)
        for t in range(steps):
            faults += (single[i, t, 0] - single[i, t, 0]) + (single[i, t, 1] - single[i, t, 1])
        finite[i] = faults == 0.0
    return finite


def artefact(model: Path | str) -> Path:
    """The file of a model: that of DEFAULT_MODEL is in the package, any other name is a path."""
    return _IN_THE_BOX if str(model) == DEFAULT_MODEL else Path(model)


class OnnxModel:
    """A loaded artefact. `run` takes in steps and decodes the selected agents in one call.

    resident: whether a predictor is to keep its tracks' recurrent state where the model runs (device.py),
    which takes `content`, the artefact's bytes.
    """

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        info: ModelInfo,
        *,
        content: bytes = b"",
        threads: int = 1,
    ) -> None:
        self.info, self.content, self.threads = info, content, threads
        self._session = session
        self._outputs = [o.name for o in session.get_outputs()]
        self._inputs = {i.name for i in session.get_inputs()}
        self.provider: str = session.get_providers()[0]

    @property
    def resident(self) -> bool:
        """See above."""
        return bool(self.content)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        threads: int = 1,
        provider: Provider = "auto",
        resident: bool | None = None,
    ) -> OnnxModel:
        """Read, check and prepare an artefact, or the DEFAULT_MODEL; resident by default on a GPU.

        Raises ArtefactError if the file is absent, not ours, damaged, made for other features or
        classes, or would have other files opened, and if the provider asked for is not available.
        """
        path = artefact(path)
        content = _unseal(_read(path), path)
        if _OTHER_FILES.search(content):
            raise ArtefactError(
                f"{path}: parts of it are in other files, which are never opened: export it again"
            )
        providers = _providers(provider)
        try:
            session = start(content, threads, providers, or_on_cpu=provider == "auto")
            text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
            for value in (*session.get_inputs(), *session.get_outputs()):
                _ = value.name, value.shape  # only now is it seen whether they are text
        except ORT_ERRORS as error:
            raise ArtefactError(f"{path}: onnxruntime cannot run it ({error})") from None
        if provider != "auto" and session.get_providers()[0] != providers[0][0]:
            raise ArtefactError(
                f"{providers[0][0]} does not start here: it takes an NVIDIA driver and the CUDA, cuDNN and "
                "TensorRT that this onnxruntime was built for; or choose provider cpu"
            )
        if text is None:
            raise ArtefactError(f"{path}: no {METADATA_KEY!r} metadata: make one with `trajpred export`")
        info = ModelInfo.from_json(text, path)
        _check_graph(session, info, path)
        if resident is None:
            resident = session.get_providers() != [_CPU[0]]
        return cls(session, info, content=content if resident else b"", threads=threads)

    def run(
        self,
        steps: Float32,
        mask: NDArray[np.bool_],
        label: NDArray[np.uint8],
        speed: Float,
        state: Mapping[str, Float32],
        select: Int,
        near: Neighbours,
        place: Float32 | None = None,
    ) -> tuple[Forecast, dict[str, Float32]]:
        """Encode steps (N, T, F) with mask (N, T) from `state`, decode the rows in select (M,).

        label (N,); speed (N,) m/s filtered; near: neighbours of the selected rows; place (M, P): where they
        are in the place that the model knows (place.Place), None: nobody is there. Returns the
        forecast and the new state of all N. Raises CallError.
        """
        feeds = {
            "steps": steps,
            "mask": mask,
            "label": label.astype(np.int64),
            "speed": speed.astype(np.float32),
            "select": select,
            "near_rows": near.rows,
            "near_mask": near.mask,
            "near_relation": near.relation,
            "place": nowhere(len(select)) if place is None else place,
            **state,
        }
        try:
            values = self._session.run(self._outputs, {k: v for k, v in feeds.items() if k in self._inputs})
        except ORT_ERRORS as error:
            raise CallError(str(error)) from error
        out = dict(zip(self._outputs, values, strict=True))
        forecast = Forecast(*(out[name] for name in Forecast._fields))
        return forecast, {name: out[f"{name}_next"] for name in self.info.state}


def _check_graph(session: onnxruntime.InferenceSession, info: ModelInfo, path: Path) -> None:
    """ArtefactError where the graph's inputs and outputs are not those that its metadata promises."""
    steps, modes = len(info.offset_s), info.modes
    inputs = {"steps": [len(info.features)], **{name: list(shape) for name, shape in info.state.items()}}
    if info.place:
        inputs["place"] = [len(PLACE)]
    outputs = {
        "paths": [modes, steps, 2],
        "probability": [modes],
        "spread": [modes, steps],
        "single": [steps, 2],
        **{f"{name}_next": list(shape) for name, shape in info.state.items()},
    }
    for promised, there in ((inputs, session.get_inputs()), (outputs, session.get_outputs())):
        found = {
            value.name: list(value.shape or [])[-len(promised.get(value.name, [0])) :] for value in there
        }
        for name, shape in promised.items():
            if found.get(name) != shape:
                raise ArtefactError(
                    f"{path}: its graph has {name} {found.get(name)}, its metadata says {shape}: "
                    "export it again"
                )


def start(
    content: bytes, threads: int, providers: ProviderOptions, *, or_on_cpu: bool = False
) -> onnxruntime.InferenceSession:
    """A session for a serialised ONNX model. Raises ORT_ERRORS."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        content,
        options,
        providers=[(name, dict(given)) for name, given in providers],
        enable_fallback=or_on_cpu,
    )


def _providers(wanted: Provider) -> ProviderOptions:
    available = onnxruntime.get_available_providers()
    if wanted == "auto":
        wanted = "cuda" if _CUDA[0] in available else "cpu"
    chosen = PROVIDERS[wanted]
    if chosen[0][0] not in available:
        raise ArtefactError(
            f"onnxruntime has no {chosen[0][0]} here (it has {', '.join(available)}): "
            "pip install -e '.[gpu]', or choose provider cpu"
        )
    if wanted != "cpu":
        onnxruntime.preload_dlls()  # CUDA and cuDNN, where they were installed by pip
    if wanted == "tensorrt":
        # TensorRT rounds products to 11 bits unless the driver is told not to; it has no option of its own.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    return chosen
