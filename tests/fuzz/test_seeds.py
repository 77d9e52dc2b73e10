"""Every seed, and 200 mutations of each, through its target: a bounded run without atheris."""

from __future__ import annotations

import time
import tracemalloc
import zlib

import numpy as np
import pytest

from tests.fuzz.targets import SEEDS, TARGETS

MUTATIONS = 200
SECONDS_MAX, BYTES_MAX = 10.0, 50_000_000
"""What one input may take, of a few thousand bytes; the machine may be busy."""
ODD_NUMBERS = [
    0,
    1,
    2,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**40,
    2**63,
    2**64 - 1,
]
SEED_FILES = sorted(path for target in TARGETS for path in (SEEDS / target).iterdir())


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """With one to four places changed, mostly by little."""
    out = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(len(out) + 1))
        some = int(rng.integers(1, 40))
        match rng.integers(7):
            case 0:
                out[at : at + 1] = rng.bytes(1)
            case 1:
                width = int(rng.choice([1, 2, 4, 8]))
                number = ODD_NUMBERS[rng.integers(len(ODD_NUMBERS))] % 256**width
                out[at : at + width] = number.to_bytes(width, rng.choice(["little", "big"]))
            case 2:
                del out[at : at + some]
            case 3:
                out[at:at] = out[at : at + some]
            case 4:
                there = int(rng.integers(len(out) + 1))
                out[at:at] = out[there : there + some]
            case 5 if rng.random() < 0.2:
                del out[at:]
            case _:
                if at < len(out):
                    out[at] ^= 1 << int(rng.integers(8))
    return bytes(out)


def test_every_target_has_seeds():
    assert {path.parent.name for path in SEED_FILES} == set(TARGETS)
    assert all(path.stat().st_size < 10_000 for path in SEED_FILES)


seeds = pytest.mark.parametrize("seed", SEED_FILES, ids=lambda path: f"{path.parent.name}-{path.name}")


@seeds
def test_a_seed_takes_little_memory(seed):
    run, data = TARGETS[seed.parent.name], seed.read_bytes()
    run(data)  # what is compiled or kept is there now
    tracemalloc.start()
    try:
        run(data)
        assert tracemalloc.get_traced_memory()[1] < BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, of numbers that are not finite
@seeds
def test_a_seed_and_its_mutations(seed):
    run, data = TARGETS[seed.parent.name], seed.read_bytes()
    run(data)
    rng = np.random.default_rng(zlib.crc32(data))
    for content in (data, *(mutated(data, rng) for _ in range(MUTATIONS))):
        begun = time.perf_counter()
        run(content)
        assert time.perf_counter() - begun < SECONDS_MAX, content
