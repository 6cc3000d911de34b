"""Pictures of many threads, embedded in common batches."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from triage.encoders.base import Array, EncoderError
from triage.encoders.batching import BatchingEncoder

BAD = 13  # the brightness that the encoder below cannot bear


class BrightnessEncoder:
    """Points a picture along its brightness; writes down its batches and who ran them."""

    name = "brightness"
    revision = "1"
    dim = 2
    logit_scale = 1.0
    demo = False

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.threads: set[int] = set()
        self.begun, self.gate = threading.Event(), threading.Event()
        self.gate.set()

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        self.begun.set()
        self.gate.wait(10)
        self.batches.append(len(images))
        self.threads.add(threading.get_ident())
        angles = np.array([image.getpixel((0, 0)) for image in images], np.float32)
        if BAD in angles:
            raise EncoderError("This picture cannot be borne.")
        return np.stack([np.cos(angles), np.sin(angles)], axis=1)

    def embed_texts(self, texts: Sequence[str]) -> Array:
        return np.array([[1, 0]] * len(texts), np.float32)


class PreparingBrightnessEncoder(BrightnessEncoder):
    """Prepares in the caller's thread, where a broken picture shows itself."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared_by: set[int] = set()

    def prepare(self, image: Image.Image) -> Image.Image:
        self.prepared_by.add(threading.get_ident())
        return image

    def embed_prepared(self, prepared: Sequence[Image.Image]) -> Array:
        return self.embed_images(prepared)


def picture(brightness: int) -> Image.Image:
    return Image.new("L", (1, 1), brightness)


def expected(brightnesses: Sequence[int]) -> Array:
    return BrightnessEncoder().embed_images([picture(value) for value in brightnesses])


@given(
    calls=st.lists(st.lists(st.integers(14, 255), max_size=9), min_size=1, max_size=12),
    max_batch=st.integers(1, 8),
    wait=st.sampled_from([0.0, 1.0]),
    prepares=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_every_thread_gets_its_own_rows_whatever_the_interleaving(
    calls: list[list[int]], max_batch: int, wait: float, prepares: bool
) -> None:
    inner = PreparingBrightnessEncoder() if prepares else BrightnessEncoder()
    with (
        BatchingEncoder(inner, max_batch=max_batch, max_wait_ms=wait) as encoder,
        ThreadPoolExecutor(len(calls)) as pool,
    ):
        found = pool.map(lambda call: encoder.embed_images([picture(v) for v in call]), calls)
        for call, rows in zip(calls, found, strict=True):
            assert np.array_equal(rows, expected(call) if call else np.zeros((0, 2)))
    assert sum(inner.batches) == sum(len(call) for call in calls)
    assert max(inner.batches, default=0) <= max_batch
    assert len(inner.threads) <= 1


def test_pictures_of_several_threads_share_a_batch() -> None:
    inner = BrightnessEncoder()
    inner.gate.clear()
    with BatchingEncoder(inner, max_batch=8) as encoder, ThreadPoolExecutor(9) as pool:
        first = pool.submit(encoder.embed_images, [picture(20)])
        assert inner.begun.wait(10)
        others = [pool.submit(encoder.embed_images, [picture(30 + i)]) for i in range(8)]
        while encoder.waiting < 8:
            time.sleep(0.001)
        inner.gate.set()
        for call in (first, *others):
            call.result()
    assert inner.batches == [1, 8]


def test_pictures_are_prepared_by_those_who_bring_them() -> None:
    inner = PreparingBrightnessEncoder()
    with BatchingEncoder(inner) as encoder:
        encoder.embed_images([picture(20)])
    assert inner.prepared_by == {threading.get_ident()}
    assert threading.get_ident() not in inner.threads


def test_a_bad_picture_fails_alone() -> None:
    inner = BrightnessEncoder()
    inner.gate.clear()
    with BatchingEncoder(inner, max_batch=16, max_wait_ms=50) as encoder:
        with ThreadPoolExecutor(6) as pool:
            good = [pool.submit(encoder.embed_images, [picture(20 + i)] * 2) for i in range(5)]
            bad = pool.submit(encoder.embed_images, [picture(20), picture(BAD)])
            inner.gate.set()
            with pytest.raises(EncoderError, match="cannot be borne"):
                bad.result()
            for number, call in enumerate(good):
                assert np.array_equal(call.result(), expected([20 + number] * 2))
        assert encoder.embed_images([picture(40)]).shape == (1, 2)


def test_callers_wait_when_too_much_is_waiting_already() -> None:
    inner = BrightnessEncoder()
    inner.gate.clear()
    with (
        BatchingEncoder(inner, max_batch=2, max_wait_ms=0) as encoder,
        ThreadPoolExecutor(1) as pool,
    ):
        call = pool.submit(encoder.embed_images, [picture(20)] * 100)
        while encoder.waiting < 8:
            time.sleep(0.001)
        time.sleep(0.05)
        assert encoder.waiting == 8
        inner.gate.set()
        assert call.result().shape == (100, 2)


def test_closing_fails_what_waits_and_refuses_what_comes() -> None:
    inner = BrightnessEncoder()
    inner.gate.clear()
    encoder = BatchingEncoder(inner, max_batch=1)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(encoder.embed_images, [picture(20)]) for _ in range(3)]
        assert inner.begun.wait(10)
        while encoder.waiting < 2:
            time.sleep(0.001)
        closing = pool.submit(encoder.close)
        time.sleep(0.02)
        inner.gate.set()
        closing.result(10)
        failed = [call.exception(10) for call in calls]
    assert failed.count(None) == 1
    assert all(isinstance(error, EncoderError) for error in failed if error)
    encoder.close()
    with pytest.raises(EncoderError, match="shut down"):
        encoder.embed_images([picture(20)])
    assert "encoder brightness" not in {thread.name for thread in threading.enumerate()}


def test_it_stands_in_for_the_encoder_inside() -> None:
    inner = BrightnessEncoder()
    with BatchingEncoder(inner) as encoder:
        assert (encoder.name, encoder.revision, encoder.dim) == ("brightness", "1", 2)
        assert (encoder.logit_scale, encoder.demo) == (1.0, False)
        assert np.array_equal(encoder.embed_texts(["a", "b"]), inner.embed_texts(["a", "b"]))
        with pytest.raises(EncoderError, match="no patches"):
            encoder.embed_patches(picture(1))


def test_a_batch_of_nothing_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="at least one"):
        BatchingEncoder(BrightnessEncoder(), max_batch=0)
