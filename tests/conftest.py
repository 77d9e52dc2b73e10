"""What several test modules need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from trajpred.config import DEFAULT_MODEL
from trajpred.runtime import OnnxModel

# The first call of a compiled function compiles it; how long an example takes is no matter for a test.
settings.register_profile("trajpred", deadline=None)
settings.load_profile("trajpred")


@pytest.fixture(scope="session")
def model() -> OnnxModel:
    """The model in the box."""
    return OnnxModel.load(DEFAULT_MODEL)


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real recordings; the test is skipped where there is none."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("TRAJPRED_DATA", default))
    if not (root / "eth_ucy").is_dir():
        pytest.skip(f"no recordings at {root}: set TRAJPRED_DATA to the folder that holds eth_ucy/")
    return root
