"""For benchmarks on a core that other machines share: rounds, and how much of the core each had."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LOOPS = 5


def loop_times(core: int) -> list[float]:
    """Times, ms, of a fixed loop on a core: they grow when other machines want the core too."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    times = []
    for _ in range(LOOPS):
        begun = time.perf_counter()
        sum(range(50_000))
        times.append(1e3 * (time.perf_counter() - begun))
    os.sched_setaffinity(0, before)
    return times


def quantiles(times: Any) -> dict[str, float]:
    """Of times (S,) in any unit: min, p10, p50, p99."""
    found = np.percentile(times, [0, 10, 50, 99])
    return dict(zip(("min", "p10", "p50", "p99"), found.tolist(), strict=True))


def calmest(rounds: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The round in which the fixed loop (`loop_ms`) ran fastest."""
    return min(rounds, key=lambda one: one["loop_ms"])


def machine() -> dict[str, Any]:
    """What it is called, and the versions of what does the work."""
    import numba
    import onnxruntime

    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "numba": numba.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
