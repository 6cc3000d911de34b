"""Tiny open_clip models with random weights, saved as checkpoints the way real ones are."""

import importlib.util
import json
from pathlib import Path
from typing import Any

TINY = "tiny-vit"
TINY_RESNET = "tiny-resnet"
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_VISION: dict[str, dict[str, Any]] = {
    TINY: {"image_size": 64, "layers": 3, "width": 64, "head_width": 32, "patch_size": 16},
    TINY_RESNET: {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 16},
}


def have_torch() -> bool:
    """Return whether the extra “torch” is installed."""
    return all(importlib.util.find_spec(name) for name in ("torch", "open_clip", "onnxscript"))


def register(folder: Path) -> None:
    """Make the tiny architectures known to open_clip."""
    import open_clip

    for name, vision in _VISION.items():
        file = folder / f"{name}.json"
        file.write_text(json.dumps({"embed_dim": 24, "vision_cfg": vision, "text_cfg": _TEXT}))
        open_clip.add_model_config(file)


def checkpoint(folder: Path, architecture: str) -> Path:
    """Save a randomly initialised model and return its file."""
    import open_clip
    import torch

    torch.manual_seed(0)
    model = open_clip.create_model(architecture, load_weights=False)
    file = folder / f"{architecture}.pt"
    torch.save(model.state_dict(), file)
    return file
