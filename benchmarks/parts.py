"""The parts of `Predictor.step`, timed from outside: the code that is measured knows nothing of it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx
from floor import start
from onnx.utils import Extractor

import trajpred.predictor
from trajpred.predictor import Predictor
from trajpred.runtime import Forecast, OnnxModel, artefact

PARTS = ("store", "features", "neighbours", "network", "encoder", "decoder", "after", "rest")
"""network: the call of onnxruntime, of which encoder and decoder are the halves, each by itself."""
Feeds = dict[str, np.ndarray[Any, Any]]


class Watch:
    """How long the parts of a step take, by timing what `step` calls, from outside."""

    def __init__(self, predictor: Predictor) -> None:
        assert predictor.model is not None
        self._predictor, self._session = predictor, predictor.model._session
        self._s: dict[str, float] = defaultdict(float)
        self.feeds: Feeds = {}

    @contextmanager
    def on(self) -> Iterator[None]:
        """The parts are timed within."""
        store, module = self._predictor._store, trajpred.predictor
        places: list[tuple[str, Any, Sequence[str]]] = [
            ("store", store, ("tick", "admit", "load", "save")),
            ("features", module, ("advance", "_observation")),
            ("neighbours", module, ("neighbours",)),
            ("network", self._session, ("run",)),
            ("after", Forecast, ("is_finite",)),
            ("after", self._predictor, ("_answer",)),
        ]
        with ExitStack() as stack:
            for part, owner, names in places:
                for name in names:
                    timed = self._timed(part, getattr(owner, name))
                    stack.enter_context(patch.object(owner, name, timed))
            yield

    def lap(self) -> dict[str, float]:
        """Times, ms, by part since the last lap."""
        found = {part: 1e3 * spent for part, spent in self._s.items()}
        self._s.clear()
        return found

    def _timed(self, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            begun = time.perf_counter()
            found = call(*given, **named)
            self._s[part] += time.perf_counter() - begun
            if part == "network":
                self.feeds = given[1]
            return found

        return timed


class Halves:
    """The model's graph cut in two, to time each: up to the new state, and from it on."""

    def __init__(self, model: str) -> None:
        whole = onnx.load(artefact(model))
        cutter, state = Extractor(whole), OnnxModel.load(model).info.state
        after = [f"{name}_next" for name in state]
        answers = [value.name for value in whole.graph.output if value.name not in after]
        given = [value.name for value in whole.graph.input if value.name not in state]
        self._sessions = []
        for inputs, outputs in ((("steps", "mask", *state), after), ((*given, *after), answers)):
            part = cutter.extract_model(list(inputs), list(outputs))
            there = {
                one.name for one in part.graph.initializer
            }  # without those that only a loop's body names
            part.graph.initializer.extend(one for one in whole.graph.initializer if one.name not in there)
            self._sessions.append(start(part.SerializeToString()))

    def times(self, feeds: Feeds) -> dict[str, float]:
        """Ms of both for what the whole was given."""
        took = []
        known = dict(feeds)
        for session in self._sessions:
            names = [value.name for value in session.get_outputs()]
            mine = {value.name: known[value.name] for value in session.get_inputs()}
            begun = time.perf_counter()
            found = session.run(names, mine)
            took.append(1e3 * (time.perf_counter() - begun))
            known |= dict(zip(names, found, strict=True))
        return dict(zip(("encoder", "decoder"), took, strict=True))
