"""Shadow mode: the challenger scores what the champion has answered, after the answer left, and nobody sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from queue import Empty, Full, Queue
from typing import Any

from airworthy.serving.trial import Counts, Serving, score_unseen

MAX_WAITING = 1_000
DELAY_SECONDS = 0.02

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answered:
    """Requests of one group that the champion has answered.

    Attributes:
        serving: What answered, with the challenger beside it.
        values: Their feature vectors.
        write: Keeps the challenger's probabilities (None where it failed) in the prediction log.
        due: Before this moment (monotonic) they are left alone: their answers are still on the way.
    """

    serving: Serving
    values: Sequence[dict[str, Any]]
    write: Callable[[list[float | None]], None]
    due: float


class Shadow:
    """Scores by the challenger in a thread of its own. Its queue is bounded: what does not fit is dropped and counted.

    Args:
        counts: Told what came of it.

    Attributes:
        dropped: Requests that were not scored.
        on_drop: Told how many each time.
    """

    def __init__(self, counts: Counts) -> None:
        self.dropped = 0
        self.on_drop: Callable[[int], None] = lambda _: None
        self._counts = counts
        self._queue: Queue[Answered] = Queue(MAX_WAITING)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True, name="shadow")

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what waits is dropped."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=5)

    def offer(
        self, serving: Serving, values: Sequence[dict[str, Any]], write: Callable[[list[float | None]], None]
    ) -> None:
        """Let the challenger score these requests in a moment, if there is room. Never waits."""
        try:
            self._queue.put_nowait(Answered(serving, values, write, time.monotonic() + DELAY_SECONDS))
        except Full:
            self._drop(len(values))

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                answered = self._queue.get(timeout=0.2)
            except Empty:
                continue
            self._stop.wait(max(0.0, answered.due - time.monotonic()))
            try:
                self._score(answered)
            except Exception:  # the thread must live, and nobody waits for it
                log.exception("a challenger's unseen answers were not kept")
                self._drop(len(answered.values))

    def _drop(self, requests: int) -> None:
        self.dropped += requests
        self.on_drop(requests)

    def _score(self, answered: Answered) -> None:
        answered.write(score_unseen(answered.serving, answered.values, self._counts))
