"""Coverage-guided fuzzing of one target: python -m tests.fuzz.run TARGET [options of libFuzzer].

What is found is kept in build/fuzz/TARGET and goes on from there; what fails is written beside it. Compiled
functions run as plain Python, so that their branches are seen.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ["NUMBA_DISABLE_JIT"] = "1"

import atheris

with atheris.instrument_imports(include=["trajpred", "rosbags"]):
    from tests.fuzz.targets import SEEDS, TARGETS

BUILD = Path(__file__).parents[2] / "build" / "fuzz"


def main() -> None:
    """-timeout and -rss_limit_mb are what an input may take: s, and MB of the whole process."""
    if len(sys.argv) < 2 or sys.argv[1] not in TARGETS:
        sys.exit(f"usage: python -m tests.fuzz.run {'|'.join(TARGETS)} [options of libFuzzer]")
    name, *options = sys.argv[1:]
    corpus = BUILD / name
    corpus.mkdir(parents=True, exist_ok=True)
    bounds = ["-timeout=10", "-rss_limit_mb=1500", "-max_len=20000", f"-artifact_prefix={BUILD / name}-"]
    atheris.Setup([sys.argv[0], *bounds, *options, str(corpus), str(SEEDS / name)], TARGETS[name])
    atheris.Fuzz()


if __name__ == "__main__":
    main()
