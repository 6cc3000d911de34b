"""Runs any open_clip model with torch, in bf16 on a GPU.

Weights come from a checkpoint file, or from open_clip's cache on this disk by their tag. Nothing
is fetched here: ``manage.py encoder export`` is the one place that may download.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from open_clip.pretrained import _get_safe_alternatives
from open_clip.transform import PreprocessCfg, merge_preprocess_dict
from PIL import Image
from safetensors import SafetensorError
from tokenizers import Tokenizer

from triage.encoders.base import Array, EncoderError
from triage.encoders.open_clip_tokenizer import tokenizer_for
from triage.encoders.preprocessing import PREPROCESSING_VERSION, Preprocessing
from triage.encoders.vision_transformer import PatchedVision, has_patches

logger = logging.getLogger(__name__)
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
# What torch and open_clip raise on a checkpoint that is broken, or made for something else.
_UNUSABLE = (
    RuntimeError,
    UnpicklingError,
    SafetensorError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    StopIteration,
)


@dataclass(frozen=True, slots=True)
class OpenClipModel:
    """A model with its weights, and all that an encoder needs beside them."""

    architecture: str
    pretrained: str
    model: torch.nn.Module
    tokenizer: Tokenizer
    preprocess: Mapping[str, Any]  # open_clip's keys
    context_length: int
    dim: int
    logit_scale: float
    weights_sha256: str
    activation: str  # "gelu" or "quick_gelu"
    like: str = ""  # the tag whose activation and preprocessing a file was said to need

    @property
    def settings(self) -> str:
        """What was not in the weights, in words: activation and preprocessing."""
        return _in_words(self.activation, self.preprocess)


class OpenClipEncoder:
    """An encoder run by torch. Threads may share it. Make one with ``OpenClipEncoder.load``."""

    demo = False

    def __init__(self, source: OpenClipModel, *, device: str, compiled: bool = False) -> None:
        on_gpu = torch.device(device).type == "cuda"
        layout = torch.channels_last if on_gpu else torch.contiguous_format
        model: Any = source.model
        model = model.to(device=device, memory_format=layout).eval()
        self.name = f"{source.architecture} {Path(source.pretrained).name}"
        self.dim = source.dim
        self.logit_scale = source.logit_scale
        self.revision = _revision(source, "bf16" if on_gpu else "fp32")
        self._device = torch.device(device)
        self._layout = layout
        self._tokenizer = source.tokenizer
        self._preprocessing = Preprocessing.from_settings(source.preprocess)
        self._mean = torch.from_numpy(self._preprocessing.mean).view(1, 3, 1, 1).to(device)
        self._std = torch.from_numpy(self._preprocessing.std).view(1, 3, 1, 1).to(device)
        self._model = model
        self._visual: Any = torch.compile(model.visual) if compiled else model.visual
        self._patches = PatchedVision(model.visual) if has_patches(model.visual) else None

    @classmethod
    def load(
        cls,
        architecture: str,
        pretrained: str,
        *,
        device: str | None = None,
        compiled: bool = False,
    ) -> "OpenClipEncoder":
        """Return the encoder of an open_clip architecture with the weights of a tag or file.

        ``device`` is torch's name of one (CUDA where there is one, if left out); ``compiled``
        runs the image side through ``torch.compile``. Raises ``EncoderError``.
        """
        if doubt := disagreement(architecture, pretrained):
            logger.warning("%s", doubt)
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        return cls(load_model(architecture, pretrained), device=device, compiled=compiled)

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Return one unit row per picture, shape ``(len(images), dim)``; see ``Encoder``.

        Raises ``EncoderError``, as the others do, where torch cannot run it.
        """
        return self.embed_prepared([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return what ``embed_prepared`` takes of one picture, bytes of shape (size, size, 3)."""
        return self._preprocessing.square(image)

    def embed_prepared(self, prepared: Sequence[NDArray[np.uint8]]) -> Array:
        """Return one unit row per prepared picture; see ``embed_images``."""
        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        with self._running(f"{len(prepared)} pictures"):
            return self._unit(self._visual(self._pixels(np.stack(prepared))))

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, shape ``(len(texts), dim)``; longer texts are cut."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        codes = self._tokenizer.encode_batch(list(texts))
        with self._running(f"{len(texts)} texts"):
            tokens = torch.tensor([code.ids for code in codes], device=self._device)
            return self._unit(self._model.encode_text(tokens))

    def embed_patches(self, image: Image.Image) -> Array:
        """Return one unit row per patch of a picture, shape (rows, columns, dim).

        They lie in the space of texts (MaskCLIP); see ``triage.explain``. Raises ``EncoderError``
        if the image side is no plain vision transformer.
        """
        if self._patches is None:
            raise EncoderError(
                f"The encoder {self.name} cannot say where in a picture something is: its image "
                "side is no plain vision transformer."
            )
        with self._running("the patches of a picture"):
            _, patches = self._patches(self._pixels(np.stack([self.prepare(image)])))
            rows: Array = patches[0].float().cpu().numpy()
        return rows

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that is looked at: left, top, right, bottom in pixels."""
        return self._preprocessing.seen(width, height)

    def _pixels(self, squares: NDArray[np.uint8]) -> torch.Tensor:
        """Bring bytes to the device, where they are normalised: a quarter of the transfer."""
        batch = torch.from_numpy(squares)
        if self._device.type == "cuda":
            batch = batch.pin_memory().to(self._device, non_blocking=True)
        pixels = batch.permute(0, 3, 1, 2).float() / 255
        return ((pixels - self._mean) / self._std).contiguous(memory_format=self._layout)

    @contextmanager
    def _running(self, what: str) -> Iterator[None]:
        try:
            with torch.inference_mode(), self._precision():
                yield
        # All that torch raises while it runs, a card that is full or gone among it.
        except RuntimeError as error:
            raise EncoderError(
                f"The encoder {self.name} could not be run on {what}: {error}"
            ) from error

    def _precision(self) -> AbstractContextManager[Any]:
        on_gpu = self._device.type == "cuda"
        return torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=on_gpu)

    def _unit(self, rows: torch.Tensor) -> Array:
        unit: Array = torch.nn.functional.normalize(rows.float(), dim=-1).cpu().numpy()
        if not np.isfinite(unit).all():
            raise EncoderError(
                f"The encoder {self.name} answered with unusable numbers. Its weights are broken "
                "or overflow in this precision."
            )
        return unit


def load_model(architecture: str, pretrained: str, *, like: str = "") -> OpenClipModel:
    """Return an open_clip model with the weights of a tag or a local file, on the CPU in fp32.

    A file says nothing of the activation and the preprocessing that its weights were trained with:
    they are those of the tag ``like``, or else of the architecture. Never opens the network; a
    checkpoint is read with ``weights_only=True``. Raises ``EncoderError``.
    """
    path = find_weights(architecture, pretrained)
    tagged = _settings_of_tag(architecture, pretrained, like)
    activation = _activation(architecture, tagged)
    settings = open_clip.get_model_config(architecture) or {}
    if "hf_model_name" in settings.get("text_cfg", {}):
        raise EncoderError(
            f"The text side of {architecture} is a model of its own, which would have to be "
            "fetched. Choose an architecture whose text side is open_clip's."
        )
    context_length = int(settings.get("text_cfg", {}).get("context_length", 77))
    tokenizer = tokenizer_for(architecture, settings.get("text_cfg", {}), context_length, path)
    try:
        model = open_clip.create_model(
            architecture,
            load_weights=False,
            pretrained_text=False,
            # The activation belongs to the weights: OpenAI's need another one than most.
            quick_gelu=activation == "quick_gelu",
        )
        open_clip.load_checkpoint(model, str(path), strict=True, weights_only=True)
    except _UNUSABLE as error:
        raise EncoderError(
            f"{path} does not hold the weights of {architecture}: {error}. Choose the "
            "architecture that the file was made for, or fetch the file again."
        ) from error
    return OpenClipModel(
        architecture=architecture,
        pretrained=pretrained,
        model=model.eval(),
        tokenizer=tokenizer,
        preprocess={**_preprocess(tagged), "size": np.atleast_1d(model.visual.image_size).tolist()},
        context_length=context_length,
        dim=int(settings["embed_dim"]),
        logit_scale=float(model.logit_scale.detach().exp()),
        weights_sha256=_sha256(path),
        activation=activation,
        like=like,
    )


def disagreement(architecture: str, pretrained: str) -> str:
    """Return a sentence where a file may need other settings than it is read with, or nothing.

    The weights of some tags of its architecture do: nobody can tell from the file whether it is
    made from them.
    """
    if not Path(pretrained).is_file():
        return ""
    own = _in_words(_activation(architecture, {}), _preprocess({}))
    others = [
        tag
        for tag in open_clip.list_pretrained_tags_by_model(architecture)
        for settings in [open_clip.get_pretrained_cfg(architecture, tag)]
        if _in_words(_activation(architecture, settings), _preprocess(settings)) != own
    ]
    if not others:
        return ""
    return (
        f"{pretrained} is read with {own}. Nothing in the file says whether that is right, and "
        f"these weights of {architecture} need something else: {', '.join(others)}. If it is one "
        "of them or was made from one, export it with --like TAG: with the wrong settings all "
        "scores are worse."
    )


def _settings_of_tag(architecture: str, pretrained: str, like: str) -> Mapping[str, Any]:
    """Return what open_clip knows of the weights; nothing of a file that is like no tag."""
    tagged: Mapping[str, Any] = open_clip.get_pretrained_cfg(architecture, like or pretrained)
    if like and not (tagged and Path(pretrained).is_file()):
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise EncoderError(
            f"“{pretrained}” cannot be like “{like}”: it must be a file, and like a tag of "
            f"{architecture} (there are: {tags})."
        )
    return tagged


def _activation(architecture: str, tagged: Mapping[str, Any]) -> str:
    quick = (tagged or open_clip.get_model_config(architecture) or {}).get("quick_gelu", False)
    return "quick_gelu" if quick else "gelu"


def _preprocess(tagged: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = merge_preprocess_dict(asdict(PreprocessCfg()), tagged)
    return merged


def _in_words(activation: str, preprocess: Mapping[str, Any]) -> str:
    mean, std = (" ".join(f"{value:.3f}" for value in preprocess[name]) for name in ("mean", "std"))
    return (
        f"{activation}, mean {mean}, std {std}, {preprocess['interpolation']}, "
        f"{preprocess['resize_mode']}"
    )


def find_weights(architecture: str, pretrained: str) -> Path:
    """Return the file of weights on this disk, for a path or a tag of open_clip.

    Raises ``EncoderError`` where the architecture or tag is unknown, or the weights of the tag
    have never been downloaded.
    """
    if architecture not in open_clip.list_models():
        raise EncoderError(
            f"open_clip has no architecture “{architecture}”. Examples of those it has: ViT-B-32, "
            "ViT-B-16, ViT-L-14."
        )
    path = Path(pretrained)
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise EncoderError(
                f"{path} is no checkpoint that can be read safely; these are: "
                f"{', '.join(SUFFIXES)}."
            )
        return path
    tagged = open_clip.get_pretrained_cfg(architecture, pretrained)
    if not tagged:
        tags = ", ".join(open_clip.list_pretrained_tags_by_model(architecture)) or "none"
        raise EncoderError(
            f"“{pretrained}” is neither a file nor a tag of weights for {architecture} (there "
            f"are: {tags})."
        )
    found = _cached(tagged)
    if found is None:
        raise EncoderError(
            f"The weights “{pretrained}” of {architecture} are not on this machine, and nothing "
            "is fetched while the house runs. Export them once, on a machine that has a network, "
            f"with: manage.py encoder export --model {architecture} --pretrained {pretrained} "
            "--out DIR; then set ENCODER=onnx:DIR."
        )
    return found


def _cached(tagged: Mapping[str, Any]) -> Path | None:
    """Return where open_clip would have put the weights of a tag, if they are there."""
    repository, _, filename = tagged.get("hf_hub", "").rpartition("/")
    if repository:
        filename = filename or open_clip.constants.HF_WEIGHTS_NAME
        for name in (*_get_safe_alternatives(filename), filename):
            found = huggingface_hub.try_to_load_from_cache(repository, name)
            if isinstance(found, str):
                return Path(found)
    elif url := tagged.get("url", ""):
        path = Path("~/.cache/clip").expanduser() / url.rpartition("/")[2]
        return path if path.is_file() else None
    return None


def _revision(source: OpenClipModel, precision: str) -> str:
    """Return a name for all that decides an embedding or a score."""
    made_of = [
        PREPROCESSING_VERSION,
        source.architecture,
        source.weights_sha256,
        sorted((key, str(value)) for key, value in source.preprocess.items()),
        source.context_length,
        source.tokenizer.to_str(),
        precision,
    ]
    if source.activation != "gelu":
        made_of.append(source.activation)
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_worth_saying(record: logging.LogRecord) -> bool:
    """Drop what open_clip says while it builds: that a model is random before it is filled."""
    return record.levelno >= logging.ERROR or Path(record.pathname).parent.name != "open_clip"


# open_clip logs by the root logger, whose filters see only what is logged by it directly.
logging.getLogger().addFilter(_is_worth_saying)
