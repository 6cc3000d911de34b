"""Gathers the pictures of many threads into full batches for one encoder.

An encoder is quickest with full batches and with nobody beside it. Each task reads and prepares
its own pictures in its own thread; one thread takes them all, up to a number or a short deadline.
While a batch is being embedded the next one gathers by itself, so under load nobody waits for
the deadline.
"""

import atexit
import logging
import queue
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Lock, Thread
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image

from triage.encoders.base import Array, Encoder, EncoderError

logger = logging.getLogger(__name__)
# As many batches as may wait. More would only hold prepared pictures in memory.
_WAITING_BATCHES = 4


@runtime_checkable
class PreparingEncoder(Protocol):
    """An encoder whose preparation of pictures can be done elsewhere than its running."""

    def prepare(self, image: Image.Image) -> Any:
        """Return what ``embed_prepared`` takes of one picture."""
        ...

    def embed_prepared(self, prepared: Sequence[Any]) -> Array:
        """Return one unit row per prepared picture."""
        ...


@dataclass(slots=True)
class _Waiting:
    """One picture, and where its row is awaited."""

    prepared: Any
    row: "Future[Array]" = field(default_factory=Future)
    since: float = field(default_factory=time.monotonic)


class BatchingEncoder:
    """An ``Encoder`` that threads may share; its rows are those of the one inside.

    What else is in a batch moves them by rounding alone, in int8 a little more: there one scale
    stands for all numbers of a batch (``quantise``), which ``manage.py encoder verify`` measures.

    ``max_batch`` pictures at most go into one batch, and the first of them waits ``max_wait_ms``
    milliseconds at most for others. When four batches are waiting, callers wait before they add
    more. A batch that fails is tried again picture by picture, so that only the calls that hold a
    bad picture fail. ``close`` ends the thread; what still waits then fails.
    """

    def __init__(self, encoder: Encoder, *, max_batch: int = 32, max_wait_ms: float = 5) -> None:
        if max_batch < 1 or max_wait_ms < 0:
            raise ValueError("A batch holds at least one picture and nobody waits less than 0 ms.")
        self.encoder = encoder
        self.name = encoder.name
        self.revision = encoder.revision
        self.dim = encoder.dim
        self.logit_scale = encoder.logit_scale
        self.demo = encoder.demo
        self._max_batch = max_batch
        self._max_wait = max_wait_ms / 1000
        self._waiting: queue.Queue[_Waiting | None] = queue.Queue(max_batch * _WAITING_BATCHES)
        self._lock = Lock()
        self._thread: Thread | None = None
        self._closed = False

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Return one unit row per picture, shape ``(len(images), dim)``; see ``Encoder``.

        Raises what the encoder raises on a picture of this call, and ``EncoderError`` after
        ``close``.
        """
        if not images:
            return np.zeros((0, self.dim), np.float32)
        # All are prepared before the first is handed over, or it would go into a batch alone.
        prepared = [self._prepare(image) for image in images]
        rows = [self._submit(each) for each in prepared]
        return np.stack([row.result() for row in rows])

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, in the calling thread: prompts are embedded once."""
        return self.encoder.embed_texts(texts)

    def embed_patches(self, image: Image.Image) -> Array:
        """Return one unit row per patch, shape (rows, columns, dim), in the calling thread.

        Raises ``EncoderError`` where the encoder has none.
        """
        embed = getattr(self.encoder, "embed_patches", None)
        if embed is None:
            raise EncoderError(f"The encoder {self.name} has no patches.")
        patches: Array = embed(image)
        return patches

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that is looked at: left, top, right, bottom in pixels."""
        seen = getattr(self.encoder, "seen", None)
        box: tuple[int, int, int, int] = seen(width, height) if seen else (0, 0, width, height)
        return box

    @property
    def waiting(self) -> int:
        """How many prepared pictures wait for a batch just now."""
        return self._waiting.qsize()

    def close(self) -> None:
        """End the thread after the batch it is at; whatever still waits fails."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        atexit.unregister(self.close)
        self._fail_waiting()
        if thread is not None:
            self._waiting.put(None)
            thread.join()
        self._fail_waiting()

    def __enter__(self) -> "BatchingEncoder":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepare(self, image: Image.Image) -> Any:
        if isinstance(self.encoder, PreparingEncoder):
            return self.encoder.prepare(image)
        return image

    def _submit(self, prepared: Any) -> "Future[Array]":
        waiting = _Waiting(prepared)
        while True:
            # Held for a moment only, so that nothing is added once `close` has emptied the queue.
            with self._lock:
                if self._closed:
                    raise _closed(self.name)
                self._start()
                try:
                    self._waiting.put_nowait(waiting)
                    return waiting.row
                except queue.Full:
                    pass
            time.sleep(0.001)

    def _start(self) -> None:
        """Start the thread at first use: one that was started before a fork would be lost."""
        if self._thread is None:
            self._thread = Thread(target=self._work, name=f"encoder {self.name}", daemon=True)
            self._thread.start()
            atexit.register(self.close)

    def _work(self) -> None:
        while (batch := self._gather()) is not None:
            self._resolve(batch)

    def _gather(self) -> list[_Waiting] | None:
        """Return the next batch, or nothing when it is time to end."""
        first = self._waiting.get()
        if first is None:
            return None
        # From its arrival: what came while the encoder was busy has waited long enough.
        batch, deadline = [first], first.since + self._max_wait
        while len(batch) < self._max_batch:
            left = deadline - time.monotonic()
            try:
                following = self._waiting.get(block=left > 0, timeout=max(left, 0))
            except queue.Empty:
                break
            if following is None:
                self._waiting.put(None)
                break
            batch.append(following)
        return batch

    def _resolve(self, batch: list[_Waiting]) -> None:
        # Whatever breaks belongs to the callers whose pictures these are, and must not end the
        # thread that everybody else waits for.
        try:
            rows = self._embed([waiting.prepared for waiting in batch])
        except Exception as error:  # noqa: BLE001
            if len(batch) == 1:
                batch[0].row.set_exception(error)
                return
            logger.warning("A batch of %d pictures failed (%s); one by one.", len(batch), error)
            for waiting in batch:
                self._resolve([waiting])
            return
        for waiting, row in zip(batch, rows, strict=True):
            waiting.row.set_result(row)

    def _embed(self, prepared: list[Any]) -> Array:
        if isinstance(self.encoder, PreparingEncoder):
            rows = self.encoder.embed_prepared(prepared)
        else:
            rows = self.encoder.embed_images(prepared)
        if len(rows) != len(prepared):
            raise EncoderError(
                f"The encoder {self.name} gave {len(rows)} rows for {len(prepared)} pictures."
            )
        return rows

    def _fail_waiting(self) -> None:
        while True:
            try:
                waiting = self._waiting.get_nowait()
            except queue.Empty:
                return
            if waiting is not None:
                waiting.row.set_exception(_closed(self.name))


def _closed(name: str) -> EncoderError:
    return EncoderError(f"The encoder {name} has been shut down; this process is ending.")
