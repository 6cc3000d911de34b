"""The text tower of an image model, opened up: its vocabulary, and what happens inside.

A textual inversion is a word in this tower's own language, and a LoRA can change what its words
mean. Both can be read only with the tower that they were trained for, and only with torch.
"""

import copy
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import nn

from triage.encoders.base import Array, EncoderError
from triage.encoders.open_clip import load_model
from triage.weights.adapter import Layer

# Where the words go in a template.
SLOT = "{}"


class Vocabulary(Protocol):
    """Turns text into numbers of tokens, without any marks around it."""

    words: Sequence[str]  # what each token reads as; one that ends a word has a space behind it
    start: int
    end: int
    padding: int

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        ...


class TextTower(Protocol):
    """The text side of a CLIP model, for looking inside."""

    name: str
    revision: str
    width: int  # of a token's vector
    dim: int  # of an embedded text
    logit_scale: float
    room: int  # how many tokens fit into one text, besides the marks

    def token_table(self) -> tuple[Sequence[str], Array]:
        """Return what each token reads as, and their vectors of shape ``(tokens, width)``."""
        ...

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, shape ``(len(texts), dim)``."""
        ...

    def embed_with_vectors(self, templates: Sequence[str], vectors: Array) -> Array:
        """Put vectors in the place of words: shape ``(n, width)`` in, one unit row a template out.

        Raises ``EncoderError`` where the width is another one or the values are out of range.
        """
        ...

    def with_delta(self, layers: Mapping[str, Layer]) -> "TextTower":
        """Return a tower whose layers have these updates added; this one stays as it is.

        Layers are called as in Hugging Face's CLIP, joined with underscores:
        ``encoder_layers_0_self_attn_q_proj``. Raises ``EncoderError`` where one does not fit.
        """
        ...


class OpenClipTextTower:
    """The text side of an open_clip model, in float32 on one device."""

    def __init__(self, model: nn.Module, vocabulary: Vocabulary, *, name: str) -> None:
        # Newer architectures keep the tower in one module, the original keeps its parts.
        side: Any = getattr(model, "text", model)
        for part in ("transformer", "token_embedding", "positional_embedding", "ln_final"):
            if not hasattr(side, part):
                raise EncoderError(
                    f"The text side of “{name}” is not built as CLIP's is, so it cannot be opened."
                )
        self._pooling = str(getattr(side, "text_pool_type", getattr(side, "pool_type", "argmax")))
        if getattr(side, "cls_emb", None) is not None or self._pooling not in _POOLED_AT:
            raise EncoderError(
                f"The text side of “{name}” pools its tokens in a way that is not known here."
            )
        self.name = name
        self._vocabulary = vocabulary
        self._table: torch.Tensor = side.token_embedding.weight.detach().float()
        self._positions: torch.Tensor = side.positional_embedding.detach().float()
        self._mask: torch.Tensor | None = side.attn_mask
        self._transformer: Any = side.transformer.eval()
        self._normalise: nn.Module = side.ln_final.eval()
        self._projection: Any = side.text_projection
        self.width = int(self._table.shape[1])
        self.room = len(self._positions) - 2
        self.logit_scale = float(model.logit_scale.detach().exp())  # type: ignore[operator]
        self.dim = self._embed(self._rows([[]])).shape[1]
        self.revision = self._digest()

    @classmethod
    def load(cls, architecture: str, pretrained: str) -> "OpenClipTextTower":
        """Load the text side of the very model that the encoder of these two is.

        Never opens the network. Raises ``EncoderError`` where it cannot be loaded.
        """
        settings = open_clip.get_model_config(architecture) or {}
        if settings.get("text_cfg", {}).get("hf_tokenizer_name"):
            raise EncoderError(f"“{architecture}” does not use CLIP's own vocabulary.")
        source = load_model(architecture, pretrained)
        return cls(source.model, ClipVocabulary(SimpleTokenizer()), name=architecture)

    def token_table(self) -> tuple[Sequence[str], Array]:
        """Return what each token reads as, and their vectors of shape ``(tokens, width)``."""
        table: Array = self._table.cpu().numpy()
        return self._vocabulary.words, table

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, shape ``(len(texts), dim)``."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        return self._embed(self._rows([self._vocabulary.encode(text) for text in texts]))

    def embed_with_vectors(self, templates: Sequence[str], vectors: Array) -> Array:
        """Put vectors in the place of words; one unit row a template.

        Of a template too long for them, the words behind the slot are cut off first.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.width:
            raise EncoderError(
                f"The vectors have the shape {vectors.shape}; "
                f"the text side of “{self.name}” takes (n, {self.width})."
            )
        if not 0 < len(vectors) <= self.room:
            raise EncoderError(
                f"There are {len(vectors)} vectors; a text of “{self.name}” takes 1 to {self.room}."
            )
        rows, places = [], []
        for template in templates:
            before, _, after = template.partition(SLOT)
            head = self._vocabulary.encode(before)[: self.room - len(vectors)]
            places.append(1 + len(head))
            rows.append(
                head + [self._vocabulary.padding] * len(vectors) + self._vocabulary.encode(after)
            )
        inserted = torch.from_numpy(np.ascontiguousarray(vectors, np.float32)).to(
            self._table.device
        )
        return self._embed(self._rows(rows), [(place, inserted) for place in places])

    def with_delta(self, layers: Mapping[str, Layer]) -> "OpenClipTextTower":
        """Return a tower whose layers have these updates added; this one stays as it is."""
        changed = copy.copy(self)
        changed._transformer = copy.deepcopy(self._transformer)
        for name, layer in layers.items():
            weight = _weight(changed._transformer, name)
            if weight is None or weight.shape != (layer.up.shape[0], layer.down.shape[1]):
                raise EncoderError(f"The text side of “{self.name}” has no place for “{name}”.")
            update = torch.from_numpy(layer.up * np.float32(layer.scale)) @ torch.from_numpy(
                layer.down
            )
            with torch.no_grad():
                weight += update.to(weight)
        changed.revision = f"{self.revision}+delta"
        return changed

    def _rows(self, tokens: Sequence[Sequence[int]]) -> torch.Tensor:
        """Return token numbers with marks and padding, shape ``(texts, positions)``."""
        words = self._vocabulary
        rows = [[words.start, *row[: self.room], words.end] for row in tokens]
        width = self.room + 2
        padded = [row + [words.padding] * (width - len(row)) for row in rows]
        return torch.tensor(padded, device=self._table.device)

    def _embed(
        self, rows: torch.Tensor, inserted: Sequence[tuple[int, torch.Tensor]] = ()
    ) -> Array:
        with torch.inference_mode():
            parts = [
                self._embed_batch(rows[at : at + _BATCH], inserted[at : at + _BATCH])
                for at in range(0, len(rows), _BATCH)
            ]
            unit: Array = torch.cat(parts).cpu().numpy()
        if not np.isfinite(unit).all():
            raise EncoderError("The values are so large that the text side breaks down on them.")
        return unit

    def _embed_batch(
        self, rows: torch.Tensor, inserted: Sequence[tuple[int, torch.Tensor]]
    ) -> torch.Tensor:
        values = self._table[rows]
        # The first end mark, since some vocabularies pad with the same number behind it.
        ends = torch.tensor([row.index(self._vocabulary.end) for row in rows.tolist()])
        for row, (place, vectors) in zip(values, inserted, strict=False):
            row[place : place + len(vectors)] = vectors
        values = self._transformer(values + self._positions, attn_mask=self._mask)
        values = self._normalise(values)
        pooled = values[torch.arange(len(rows)), _POOLED_AT[self._pooling](ends, len(rows[0]))]
        if isinstance(self._projection, nn.Linear):
            pooled = self._projection(pooled)
        elif self._projection is not None:
            pooled = pooled @ self._projection
        return nn.functional.normalize(pooled.float(), dim=-1)

    def _digest(self) -> str:
        """Return a name for these very weights; embeddings made with others are not comparable."""
        digest = hashlib.sha256(self._table.cpu().numpy().tobytes())
        for value in self._transformer.state_dict().values():
            digest.update(value.float().cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


class ClipVocabulary:
    """CLIP's byte-pair vocabulary, as open_clip carries it."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self.start = int(tokenizer.sot_token_id)
        self.end = int(tokenizer.eot_token_id)
        self.padding = 0
        bytes_of = tokenizer.byte_decoder
        self.words: Sequence[str] = [
            bytes(
                byte
                for c in tokenizer.decoder[number].replace("</w>", " ")
                for byte in ([bytes_of[c]] if c in bytes_of else c.encode())
            ).decode(errors="replace")
            for number in range(len(tokenizer.decoder))
        ]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text."""
        return list(self._tokenizer.encode(text))


# Texts in one pass: attention over 77 tokens in ViT-L's tower then takes about 100 MB.
_BATCH = 64

# Which position speaks for the whole text, given the end marks and the number of positions.
_POOLED_AT: dict[str, Callable[[torch.Tensor, int], torch.Tensor]] = {
    "argmax": lambda ends, positions: ends,
    "eos": lambda ends, positions: ends,
    "last": lambda ends, positions: torch.full_like(ends, positions - 1),
    "first": lambda ends, positions: torch.zeros_like(ends),
}

_LAYER = re.compile(
    r"encoder_layers_(\d{1,3})_(?:self_attn_(q|k|v|out)_proj|mlp_(fc1|fc2))", re.ASCII
)


def _weight(transformer: Any, name: str) -> torch.Tensor | None:
    """Return the part of open_clip's transformer that Hugging Face calls by this name.

    open_clip keeps the three projections of attention in one matrix, one above the other.
    """
    found = _LAYER.fullmatch(name)
    if found is None or int(found[1]) >= len(transformer.resblocks):
        return None
    block = transformer.resblocks[int(found[1])]
    weight: torch.Tensor
    if found[3]:
        weight = (block.mlp.c_fc if found[3] == "fc1" else block.mlp.c_proj).weight
    elif found[2] == "out":
        weight = block.attn.out_proj.weight
    else:
        part = "qkv".index(found[2])
        weight = block.attn.in_proj_weight.chunk(3)[part]
    return weight.detach()
