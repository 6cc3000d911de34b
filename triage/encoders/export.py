"""Writes an open_clip model as an encoder folder that runs without torch.

The one place that may download weights, and only when it is asked to by ``manage.py encoder
export``.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
import torch
from torch import nn

from triage.encoders.base import EncoderError
from triage.encoders.onnx import PATCHES
from triage.encoders.open_clip import OpenClipModel, find_weights
from triage.encoders.open_clip_tokenizer import TOKENIZER_FILES
from triage.encoders.quantise import quantise
from triage.encoders.vision_transformer import PatchedVision, has_patches

# A protocol buffer holds 2 GiB at most; larger weights go into a file beside it.
_LARGEST_MODEL_BYTES = 1_900_000_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written. ``size`` is that of the whole folder, in bytes."""

    folder: Path
    name: str
    dim: int
    precision: str
    patches: bool
    settings: str  # activation and preprocessing, in words
    files: int
    size: int


class _Vision(nn.Module):
    """The image side of any model, as one module that torch can export."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pixels, normalize=True)
        return features


class _Text(nn.Module):
    """The text side of any model, as one module that torch can export."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_text(tokens, normalize=True)
        return features


def fetch_weights(architecture: str, pretrained: str) -> Path:
    """Return the file of weights for a tag or path; a tag's are downloaded if they are not here.

    Raises ``EncoderError`` where there are none, or they cannot be downloaded.
    """
    tagged = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tagged or Path(pretrained).is_file():
        return find_weights(architecture, pretrained)
    text = (open_clip.get_model_config(architecture) or {}).get("text_cfg", {})
    try:
        open_clip.download_pretrained(tagged)
        if repository := text.get("hf_tokenizer_name", ""):
            for name in TOKENIZER_FILES:
                huggingface_hub.hf_hub_download(repository, name)
    # The hub's client and urllib raise OSError, open_clip RuntimeError on a wrong checksum.
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"The weights “{pretrained}” of {architecture} could not be downloaded: {error}. "
            "Check the network, or give a file that you fetched yourself."
        ) from error
    return find_weights(architecture, pretrained)


def export(source: OpenClipModel, folder: Path, *, int8: bool = False) -> Exported:
    """Write the encoder folder that ``triage.encoders.onnx`` reads; all of it or nothing.

    With ``int8`` the image side is quantised. The text side stays fp32: prompts are embedded once
    for a policy, so it would gain nothing. Raises ``EncoderError`` if the folder is not empty, and
    ``OSError`` where it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise EncoderError(f"{folder} is not empty. Choose another folder, or remove it first.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".encoder-") as scratch:
        unfinished = Path(scratch) / "encoder"
        patches = _write_models(source, unfinished, int8=int8)
        source.tokenizer.save(str(unfinished / "tokenizer.json"))
        _write_json(unfinished / "preprocess_cfg.json", source.preprocess)
        files = sorted(path for path in unfinished.rglob("*") if path.is_file())
        name = f"{source.architecture} {Path(source.pretrained).stem}"
        precision = "int8" if int8 else "fp32"
        _write_json(
            unfinished / "config.json",
            {
                "name": f"{name} int8" if int8 else name,
                "revision": source.weights_sha256[:16],
                "demo": False,
                "dim": source.dim,
                "context_length": source.context_length,
                "logit_scale": source.logit_scale,
                "precision": precision,
                "activation": source.activation,
                # By which `manage.py encoder verify` finds the original to compare with.
                "source": {
                    "architecture": source.architecture,
                    "pretrained": source.pretrained,
                    "weights_sha256": source.weights_sha256,
                    "like": source.like,
                },
                "files": {path.relative_to(unfinished).as_posix(): _sha256(path) for path in files},
            },
        )
        size = sum(path.stat().st_size for path in unfinished.rglob("*") if path.is_file())
        if folder.exists():
            folder.rmdir()
        shutil.move(unfinished, folder)
    return Exported(
        folder, name, source.dim, precision, patches, source.settings, len(files) + 1, size
    )


def _write_models(source: OpenClipModel, folder: Path, *, int8: bool) -> bool:
    """Write both models and return whether the image side gives patches."""
    (folder / "visual").mkdir(parents=True)
    (folder / "textual").mkdir()
    model: Any = source.model
    patches = has_patches(model.visual)
    side = int(source.preprocess["size"][0])
    vision = PatchedVision(model.visual) if patches else _Vision(model)
    outputs = ["unit_embedding", PATCHES] if patches else ["unit_embedding"]
    with _plain_attention():
        _to_onnx(vision, torch.zeros(2, 3, side, side), folder / "visual", "pixels", outputs)
        tokens = torch.ones(2, source.context_length, dtype=torch.int64)
        _to_onnx(_Text(model), tokens, folder / "textual", "tokens", ["unit_embedding"])
    if int8:
        quantise(folder / "visual" / "model.onnx")
    return patches


def _to_onnx(
    module: nn.Module, example: torch.Tensor, folder: Path, name: str, outputs: list[str]
) -> None:
    weights = sum(weight.numel() * weight.element_size() for weight in module.parameters())
    torch.onnx.export(
        module.eval(),
        (example,),
        folder / "model.onnx",
        input_names=[name],
        output_names=outputs,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=weights > _LARGEST_MODEL_BYTES,
        verbose=False,
    )


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Switch off the fused attention of eval mode, which has no ONNX counterpart."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
