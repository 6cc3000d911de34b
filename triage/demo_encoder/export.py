"""Writes a trained demo encoder as an encoder folder: ONNX, tokenizer, settings, SHA-256 sums."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
import torch
from open_clip import CLIP
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordLevel


class _Visual(torch.nn.Module):
    """The image side alone, as one module that torch can export."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pixels, normalize=True)
        return features


class _Textual(torch.nn.Module):
    """The text side alone, as one module that torch can export."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_text(tokens, normalize=True)
        return features


def word_tokenizer(words: Sequence[str], context_length: int) -> Tokenizer:
    """Return a tokenizer with one token a word; unknown words share one token.

    ``<end>`` gets the highest number: open_clip pools the text there, by argmax.
    """
    names = ["<pad>", "<start>", "<unknown>", *words, "<end>"]
    numbers = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(WordLevel(numbers, unk_token="<unknown>"))  # noqa: S106 (no secret)
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(pattern=",", behavior="removed"), pre_tokenizers.Whitespace()]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>",
        special_tokens=[("<start>", numbers["<start>"]), ("<end>", numbers["<end>"])],
    )
    tokenizer.enable_truncation(max_length=context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="<pad>")  # noqa: S106
    return tokenizer


def export_folder(
    model: CLIP,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    config: Mapping[str, object],
    preprocess: Mapping[str, object],
) -> None:
    """Write the encoder folder that ``triage.encoders.onnx`` reads.

    ``config`` holds name, revision, dim, context_length and demo; the temperature and the
    SHA-256 of every file are added to it. ``preprocess`` has the keys of open_clip's file.
    """
    model.eval()
    size = int(str(preprocess["size"]))
    context = int(str(config["context_length"]))
    (folder / "visual").mkdir(parents=True, exist_ok=True)
    (folder / "textual").mkdir(parents=True, exist_ok=True)
    # The fused attention of eval mode has no ONNX counterpart.
    torch.backends.mha.set_fastpath_enabled(False)
    sides = (
        ("visual", _Visual(model), torch.zeros(2, 3, size, size), "pixels"),
        ("textual", _Textual(model), torch.ones(2, context, dtype=torch.int64), "tokens"),
    )
    for side, module, example, name in sides:
        torch.onnx.export(
            module.eval(),
            (example,),
            folder / side / "model.onnx",
            input_names=[name],
            output_names=["unit_embedding"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        _forget_source(folder / side / "model.onnx")
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "preprocess_cfg.json", preprocess)
    written = ("visual/model.onnx", "textual/model.onnx", "tokenizer.json", "preprocess_cfg.json")
    sums = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in written}
    scale = float(model.logit_scale.exp().item())
    _write_json(folder / "config.json", {**config, "logit_scale": scale, "files": sums})


def _forget_source(path: Path) -> None:
    """Take out where in whose source files each step came from, which torch notes down."""
    model = onnx.load(path)
    model.ClearField("metadata_props")
    model.graph.ClearField("metadata_props")
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    for part in (*model.graph.input, *model.graph.output):
        part.ClearField("metadata_props")
    onnx.save(model, path)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
