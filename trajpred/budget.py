"""How many objects the model may answer in the time that there is."""

from __future__ import annotations

ANSWER = 2.0
"""What an answer of the model costs beside taking an object in: decoding, and six paths to write for one."""
SPARE = 0.1
"""Share of the time that is not given away: messages of the same size do not all take the same."""
EASE = 0.1
"""How fast a cost that has fallen is believed; one that has risen is believed at once."""


class TimeBudget:
    """Learns from message to message what an object costs on this machine now."""

    def __init__(self) -> None:
        self._unit_ms = 0.0

    def most(self, objects: int, limit_ms: float) -> int | None:
        """How many of so many objects the model can answer within limit_ms, 0 for no limit; None for all.

        Before anything has been learned, nothing is limited.
        """
        if not limit_ms or not self._unit_ms:
            return None
        left = ((1.0 - SPARE) * limit_ms / self._unit_ms - objects) / ANSWER
        return None if left >= objects else max(int(left), 0)

    def took(self, objects: int, answered: int, ms: float) -> None:
        """A message with so many objects, so many of them answered by the model, took so long."""
        if not objects:
            return
        unit_ms = ms / (objects + ANSWER * answered)
        ease = EASE if unit_ms < self._unit_ms else 1.0
        self._unit_ms += ease * (unit_ms - self._unit_ms)
