"""What models, classes, motions and sources are called on the page."""

from __future__ import annotations

from pathlib import Path

from trajpred.metrics import MotionType
from trajpred.report.examined import BASELINES
from trajpred.types import Label, Source


def model_name(model: str) -> str:
    """A file without its folders; a baseline with what it assumes."""
    return f"{model} ({BASELINES[model]})" if model in BASELINES else Path(model).name


def words(value: Label | MotionType | Source) -> str:
    """As it is called in a sentence."""
    return value.name.lower().replace("_", " ")
