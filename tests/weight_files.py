"""Made-up adapters in the ways that tools write them."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

Matrix = NDArray[np.floating]
Tensors = dict[str, Matrix]
Update = dict[str, tuple[Matrix, Matrix]]

LAYERS = tuple(
    f"down_blocks.{block}.attentions.0.transformer_blocks.0.{attention}.{projection}"
    for block in range(3)
    for attention in ("attn1", "attn2")
    for projection in ("to_q", "to_k", "to_v", "to_out.0")
)


def width(layer: str, context: int = 768) -> int:
    return context if "attn2.to_k" in layer or "attn2.to_v" in layer else 320


def updates(seed: int, rank: int = 4, context: int = 768) -> Update:
    """Make up an adapter: ``{layer: (down, up)}``."""
    random = np.random.default_rng(seed)
    return {
        layer: (
            random.standard_normal((rank, width(layer, context)), dtype=np.float32),
            random.standard_normal((320, rank), dtype=np.float32),
        )
        for layer in LAYERS
    }


def diffusers(update: Update) -> Tensors:
    tensors: Tensors = {}
    for layer, (down, up) in update.items():
        tensors[f"unet.{layer}.lora.down.weight"] = down
        tensors[f"unet.{layer}.lora.up.weight"] = up
    return tensors


def peft(update: Update) -> Tensors:
    tensors: Tensors = {}
    for layer, (down, up) in update.items():
        tensors[f"base_model.model.{layer}.lora_A.default.weight"] = down
        tensors[f"base_model.model.{layer}.lora_B.default.weight"] = up
    return tensors


def diffusers_old(update: Update) -> Tensors:
    tensors: Tensors = {}
    for layer, (down, up) in update.items():
        block, attention, projection = layer.replace("to_out.0", "to_out").rsplit(".", 2)
        name = f"{block}.{attention}.processor.{projection}_lora"
        tensors[f"{name}.down.weight"] = down
        tensors[f"{name}.up.weight"] = up
    return tensors


def kohya(update: Update, alpha: float | None = None) -> Tensors:
    tensors: Tensors = {}
    for layer, (down, up) in update.items():
        name = f"lora_unet_{layer.replace('.', '_')}"
        scale = 1.0 if alpha is None else alpha / len(down)
        tensors[f"{name}.lora_down.weight"] = down
        tensors[f"{name}.lora_up.weight"] = (up / np.float32(scale)).astype(np.float32)
        if alpha is not None:
            tensors[f"{name}.alpha"] = np.array(alpha, dtype=np.float32)
    return tensors


def mix(parts: list[tuple[float, Update]]) -> Update:
    """Add updates up exactly, by putting their factors side by side."""
    return {
        layer: (
            np.concatenate([part[layer][0] for _, part in parts]),
            np.concatenate([np.float32(w) * part[layer][1] for w, part in parts], axis=1),
        )
        for layer in LAYERS
    }


def save(path: Path, tensors: Mapping[str, Matrix]) -> Path:
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, path)
    return path
