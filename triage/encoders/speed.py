"""Measures encoders that torch runs. Weights are random: speed does not depend on them."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from PIL import Image

from triage.encoders.base import Array
from triage.encoders.open_clip import OpenClipEncoder, load_model

_GPU_BATCHES = (64, 128, 256, 512, 1024)
# Multiply-adds of the image side, doubled, in billions; open_clip's docs/model_profile.csv.
GIGAFLOPS = {"ViT-B-32": 8.82, "ViT-L-14": 162.03}


def random_checkpoint(architecture: str, folder: Path) -> Path:
    """Save an untrained model, once, and return its file."""
    file = folder / f"{architecture}.random.pt"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        model = open_clip.create_model(architecture, load_weights=False)
        torch.save(model.state_dict(), file)
    return file


def plain_loop(architecture: str, weights: Path) -> Callable[[Sequence[Image.Image]], Array]:
    """Return what one writes with open_clip alone: its transform, then ``encode_image``."""
    model, _, transform = open_clip.create_model_and_transforms(
        architecture, pretrained=str(weights)
    )
    model.eval()

    def embed(images: Sequence[Image.Image]) -> Array:
        with torch.inference_mode():
            pixels = torch.stack([transform(image) for image in images])
            rows: Array = model.encode_image(pixels, normalize=True).numpy()
        return rows

    return embed


def use_threads(count: int) -> None:
    """Let torch use this many threads of the CPU."""
    torch.set_num_threads(count)


def gpu_name() -> str:
    """Return the name of the GPU, or nothing where there is none."""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def gpu_rows(folder: Path, jpegs: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return pictures per second in bf16 by model and batch, and the share of the matrix peak.

    ``model`` counts prepared batches, transfer included; ``end_to_end`` starts from JPEG files
    and one thread.
    """
    peak, rows = _matrix_peak(), []
    for architecture, gigaflops in GIGAFLOPS.items():
        source = load_model(architecture, str(random_checkpoint(architecture, folder)))
        encoder = OpenClipEncoder(source, device="cuda", compiled=True)
        for batch in _GPU_BATCHES:
            rows.append(
                {
                    "model": architecture,
                    "batch": batch,
                    **_gpu_speed(encoder, batch, jpegs, gigaflops * 1e9, peak),
                    "matrix_peak_teraflops": peak / 1e12,
                }
            )
    return rows


def _gpu_speed(
    encoder: OpenClipEncoder, batch: int, jpegs: Sequence[bytes], flops: float, peak: float
) -> dict[str, float]:
    import io

    prepared = [np.zeros((224, 224, 3), np.uint8)] * batch
    model = batch / _best_seconds(lambda: encoder.embed_prepared(prepared))
    files = [jpegs[number % len(jpegs)] for number in range(batch)]

    def from_files() -> None:
        images = [Image.open(io.BytesIO(file)) for file in files]
        for image in images:
            image.draft("RGB", (512, 512))
        encoder.embed_images(images)

    return {
        "model_per_second": model,
        "share_of_peak": model * flops / peak,
        "end_to_end_per_second": batch / _best_seconds(from_files, rounds=2),
    }


def _matrix_peak(side: int = 8192) -> float:
    """Return the floating-point operations per second of one large bf16 product."""
    left = torch.randn(side, side, device="cuda", dtype=torch.bfloat16)

    def multiply() -> None:
        for _ in range(10):
            left @ left
        torch.cuda.synchronize()

    return 10 * 2 * side**3 / _best_seconds(multiply)


def _best_seconds(work: Callable[[], object], rounds: int = 5) -> float:
    work()  # compiles and warms up
    found = []
    for _ in range(rounds):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return min(found)
