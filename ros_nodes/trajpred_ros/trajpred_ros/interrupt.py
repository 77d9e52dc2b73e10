"""An interrupt ends a node between two callbacks, whatever it is doing when the signal comes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

from rclpy.task import Future

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interrupted() -> Iterator[Future]:
    """A future that is done when SIGINT or SIGTERM has come; to be entered in the main thread.

    In place of rclpy's own handlers, which shut the context down under a callback that is using it, and whose
    waking of an executor that is about to wait can be lost. Afterwards both signals are ignored, so that the
    clearing up is not broken off.
    """
    stop = Future()
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)

    def wait() -> None:
        if ours.recv(1)[0] and not stop.done():
            stop.set_result(None)

    for number in SIGNALS:
        signal.signal(number, _noted)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    waiting = Thread(target=wait, name="interrupt", daemon=True)
    waiting.start()
    try:
        yield stop
    finally:
        signal.set_wakeup_fd(before)
        pythons.send(b"\0")
        waiting.join()
        ours.close()
        pythons.close()


def _noted(number: int, frame: object) -> None:
    """The number is already written to the wake-up descriptor; without a handler it would not be."""
