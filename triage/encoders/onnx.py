"""Runs an encoder folder with ONNX Runtime, on a CPU or a GPU, without torch.

A folder holds ``config.json``, ``visual/model.onnx``, ``textual/model.onnx``, ``tokenizer.json``
and ``preprocess_cfg.json`` (open_clip's keys), the layout of the public ONNX exports of CLIP.
``config.json`` gives name, revision, dim, logit_scale, context_length, and under ``files`` the
SHA-256 of every other file.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime as ort
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from PIL import Image
from tokenizers import Tokenizer

from triage.encoders.base import Array, EncoderError
from triage.encoders.preprocessing import PREPROCESSING_VERSION, Preprocessing

# The name of the second output of the visual model, where there is one.
PATCHES = "patch_embeddings"
REQUIRED = ("visual/model.onnx", "textual/model.onnx", "tokenizer.json", "preprocess_cfg.json")
_PREFERRED = ("CUDAExecutionProvider", "CPUExecutionProvider")
_RUNTIME_ERRORS = (
    ort_state.EPFail,
    ort_state.Fail,
    ort_state.InvalidArgument,
    ort_state.InvalidGraph,
    ort_state.InvalidProtobuf,
    ort_state.NoModel,
    ort_state.NoSuchFile,
    ort_state.NotFound,
    ort_state.NotImplemented,
    ort_state.RuntimeException,
    ValueError,
    MemoryError,
)
logger = logging.getLogger(__name__)
_Value = TypeVar("_Value")


class OnnxEncoder:
    """An encoder from a folder. Threads may share it. Make one with ``OnnxEncoder.load``."""

    def __init__(
        self,
        *,
        name: str,
        revision: str,
        dim: int,
        logit_scale: float,
        demo: bool,
        preprocessing: Preprocessing,
        tokenizer: Tokenizer,
        visual: ort.InferenceSession,
        textual: ort.InferenceSession,
    ) -> None:
        self.name = name
        self.revision = revision
        self.dim = dim
        self.logit_scale = logit_scale
        self.demo = demo
        self._preprocessing = preprocessing
        self._tokenizer = tokenizer
        self._visual = visual
        self._textual = textual

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> "OnnxEncoder":
        """Return the encoder in ``folder`` after checking every file against its SHA-256.

        ``providers`` are ONNX Runtime's execution providers, best first (if left out: CUDA where
        this build has it, then the CPU); ``threads`` is how many one call may use (all cores if
        left out). Raises ``EncoderError``, also where a provider that was asked for cannot be
        used; without being asked it is left out with a warning.
        """
        asked, providers = providers is not None, providers or available_providers()
        config = _read_json(folder, "config.json")
        sums = _checked_sums(folder, config)
        missing = [name for name in providers if name not in ort.get_available_providers()]
        if missing:
            raise EncoderError(
                f"ONNX Runtime on this machine has no {missing[0]}. Install the build of "
                "onnxruntime that has it, or choose CPUExecutionProvider."
            )
        dim = _entry(folder, config, "dim", int)
        context_length = _entry(folder, config, "context_length", int)
        name = _entry(folder, config, "name", str)
        logit_scale = _entry(folder, config, "logit_scale", float)
        # All that decides an embedding or a score goes into the revision.
        made_of = [PREPROCESSING_VERSION, dim, context_length, logit_scale, sorted(sums.items())]
        encoder = cls(
            name=name,
            revision=hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16],
            dim=dim,
            logit_scale=logit_scale,
            demo=bool(config.get("demo", False)),
            preprocessing=_preprocessing(folder),
            tokenizer=_tokenizer(folder, context_length, config),
            visual=_session(folder, "visual/model.onnx", providers, threads),
            textual=_session(folder, "textual/model.onnx", providers, threads),
        )
        encoder._try_out(folder)
        # ONNX Runtime goes on without a provider whose libraries it cannot load.
        unused = [name for name in providers if name not in encoder.providers]
        if unused:
            sentence = (
                f"ONNX Runtime could not use {unused[0]}, so {folder} runs with "
                f"{encoder.providers[0]}. Look at what it printed: most often the libraries of "
                "CUDA or cuDNN do not fit the build, or there is no card."
            )
            if asked:
                raise EncoderError(sentence)
            logger.warning("%s", sentence)
        return encoder

    @property
    def providers(self) -> list[str]:
        """ONNX Runtime's execution providers that really run the image side, best first."""
        found: list[str] = self._visual.get_providers()
        return found

    def embed_images(self, images: Sequence[Image.Image]) -> Array:
        """Return one unit row per picture, shape ``(len(images), dim)``; see ``Encoder``."""
        return self.embed_prepared([self.prepare(image) for image in images])

    def prepare(self, image: Image.Image) -> Array:
        """Return what ``embed_prepared`` takes of one picture, shape (3, size, size).

        Apart from the running, so that many threads can prepare for one that runs.
        """
        return self._preprocessing(image)

    def embed_prepared(self, prepared: Sequence[Array]) -> Array:
        """Return one unit row per prepared picture; see ``embed_images``."""
        if not prepared:
            return np.zeros((0, self.dim), np.float32)
        return self._run(self._visual, np.stack(prepared))

    def embed_patches(self, image: Image.Image) -> Array:
        """Return one unit row per patch of a picture, shape (rows, columns, dim).

        They lie in the space of texts (MaskCLIP) and say where a concept is; see
        ``triage.explain``. Raises ``EncoderError`` if the folder was exported without them.
        """
        outputs = [output.name for output in self._visual.get_outputs()]
        if PATCHES not in outputs:
            raise EncoderError(
                f"The encoder {self.name} cannot say where in a picture something is: it has no "
                "patches. Vision transformers exported with “manage.py encoder export” have them."
            )
        try:
            (patches,) = self._visual.run(
                [PATCHES], {self._visual.get_inputs()[0].name: self.prepare(image)[None]}
            )
        except _RUNTIME_ERRORS as error:
            raise EncoderError(f"The patches of {self.name} could not be run: {error}") from error
        return _unit(patches[0])

    def seen(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return the part of a picture that is looked at: left, top, right, bottom in pixels."""
        return self._preprocessing.seen(width, height)

    def embed_texts(self, texts: Sequence[str]) -> Array:
        """Return one unit row per text, shape ``(len(texts), dim)``; longer texts are cut."""
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        codes = self._tokenizer.encode_batch(list(texts))
        wants = np.int32 if self._textual.get_inputs()[0].type == "tensor(int32)" else np.int64
        return self._run(self._textual, np.array([code.ids for code in codes], dtype=wants))

    def _run(self, session: ort.InferenceSession, batch: np.ndarray[Any, Any]) -> Array:
        try:
            (rows,) = session.run(
                [session.get_outputs()[0].name],
                {session.get_inputs()[0].name: batch},
                _only_what_is_asked(),
            )
        except _RUNTIME_ERRORS as error:
            raise EncoderError(
                f"The encoder {self.name} could not be run on a batch of {len(batch)}: {error}"
            ) from error
        lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
        if rows.shape != (len(batch), self.dim) or not np.all(np.isfinite(lengths) & (lengths > 0)):
            raise EncoderError(
                f"The encoder {self.name} answered a batch of {len(batch)} with numbers of shape "
                f"{rows.shape}, some of them unusable, instead of {(len(batch), self.dim)}. "
                "Export the folder again."
            )
        unit: Array = (rows / lengths).astype(np.float32)
        return unit

    def _try_out(self, folder: Path) -> None:
        """Embed one grey picture and one word, so that a wrong folder fails at the start."""
        try:
            self.embed_images([Image.new("RGB", (8, 8), "grey")])
            self.embed_texts(["a"])
        except EncoderError as error:
            raise EncoderError(f"The encoder folder {folder} does not work: {error}") from error


def available_providers() -> list[str]:
    """Return the execution providers that this build of ONNX Runtime brings, best first."""
    return [name for name in _PREFERRED if name in ort.get_available_providers()]


def _only_what_is_asked() -> ort.RunOptions:
    """Return options by which the patches cost nothing where only the embedding is asked for."""
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    return options


def _unit(rows: Array) -> Array:
    unit: Array = (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)
    return unit


def _read_json(folder: Path, name: str) -> Mapping[str, Any]:
    try:
        content = json.loads((folder / name).read_bytes())
    except FileNotFoundError as error:
        raise EncoderError(
            f"The encoder folder {folder} has no {name}. Point the setting at a folder that was "
            "exported as an encoder."
        ) from error
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder / name} cannot be read as JSON: {error}") from error
    if not isinstance(content, dict):
        raise EncoderError(f"{folder / name} must hold one JSON object. Export the folder again.")
    return content


def _entry(
    folder: Path, config: Mapping[str, Any], key: str, kind: Callable[[Any], _Value]
) -> _Value:
    try:
        return kind(config[key])
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"{folder / 'config.json'} has no usable “{key}”. Export the folder again."
        ) from error


def _checked_sums(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Return path and SHA-256 of every file, after comparing them with what is there."""
    sums = _entry(folder, config, "files", dict)
    unlisted = [name for name in REQUIRED if name not in sums]
    # A model can pull in a file that lies beside it, so nothing there may go unchecked.
    for side in ("visual", "textual"):
        there = (path.relative_to(folder).as_posix() for path in (folder / side).rglob("*"))
        unlisted += [name for name in there if name not in sums]
    if unlisted:
        raise EncoderError(
            f"config.json in {folder} gives no SHA-256 for {unlisted[0]}. Export the folder again."
        )
    for name, expected in sums.items():
        try:
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise EncoderError(
                f"{folder / name} cannot be read ({error}). Fetch or export the encoder again."
            ) from error
        if found != expected:
            raise EncoderError(
                f"{folder / name} is not the file that config.json describes: its SHA-256 is "
                f"{found}, expected {expected}. Fetch or export the encoder again."
            )
    return sums


def _preprocessing(folder: Path) -> Preprocessing:
    try:
        return Preprocessing.from_settings(_read_json(folder, "preprocess_cfg.json"))
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"{folder / 'preprocess_cfg.json'} asks for something this encoder cannot do "
            f"({error}). It needs a square size, mean and std of three numbers, interpolation "
            "bicubic or bilinear, and resize_mode shortest or squash."
        ) from error


def _tokenizer(folder: Path, context_length: int, config: Mapping[str, Any]) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    # The tokenizers package raises nothing narrower.
    except Exception as error:  # noqa: BLE001
        raise EncoderError(f"{path} cannot be read: {error}. Export the folder again.") from error
    # Who types the mark of an end into a text must not end it.
    tokenizer.encode_special_tokens = True
    padding = tokenizer.padding or {}
    tokenizer.enable_truncation(max_length=context_length)
    tokenizer.enable_padding(
        length=context_length,
        pad_id=padding.get("pad_id", int(config.get("pad_id", 0))),  # 0 is open_clip's
        pad_token=padding.get("pad_token", "<pad>"),
    )
    return tokenizer


def _session(
    folder: Path, name: str, providers: Sequence[str], threads: int | None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # Threads that wait in a circle would take the cores from those that decode the next pictures.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Work is dealt in small pieces, so that a thread whose core is decoding holds nobody up.
    options.add_session_config_entry("session.dynamic_block_base", "4")
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        return ort.InferenceSession(folder / name, options, providers=list(providers))
    except _RUNTIME_ERRORS as error:
        raise EncoderError(
            f"{folder / name} cannot be loaded by ONNX Runtime: {error}. Export the folder again."
        ) from error
