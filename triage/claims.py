"""What a file of weights says about itself, as plain data.

Training programs write a diary into the file: the folders of pictures, how often each tag was
used, what the model is called and what it was made from. It is written by the uploader's machine
and easily changed, so it is a claim: evidence of what is there, never proof of what is not.

Sources: ``train_network.py`` and ``library/sai_model_spec.py`` of kohya-ss/sd-scripts for the
keys ``ss_*``, ``sshs_*`` and ``modelspec.*``; ``textual_inversion.py`` of the AUTOMATIC1111 web
UI for the values beside an embedding; cloneofsimo/lora for learned tokens among LoRA layers.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

from triage import sandbox
from triage.containers import safetensors, torch_tensors
from triage.containers.errors import ContainerError, Severity
from triage.containers.safetensors_header import header_length
from triage.containers.sniff import Format, sniff
from triage.weights.adapter import is_embedding
from triage.weights.tensors import Shape

# A diary with as many tags has left the range of training sets; the rest would go unread, and
# the reader says so.
MAX_CLAIMS = 200_000

# Enough of a fact to recognise it by; a session or a hash has at most 64 characters.
_SHOWN = 120

# A preview of 512 pixels in good quality takes a tenth of it.
MAX_THUMBNAIL = 2_000_000

# What says whom or what the model shows, as opposed to how it was made.
NAMING_KEYS = {
    "ss_output_name": "output name",
    "modelspec.title": "title in the file",
    "modelspec.trigger_phrase": "trigger phrase in the file",
    "name": "name of the embedding",
}
TEXT_KEYS = {
    "ss_training_comment": "training comment",
    "modelspec.description": "description in the file",
    "modelspec.tags": "tags in the file",
    "modelspec.usage_hint": "usage hint in the file",
    "modelspec.author": "author in the file",
    "modelspec.license": "licence in the file",
    "modelspec.merged_from": "models it was merged from",
    "ss_sd_model_name": "base model file",
    "ss_base_model_version": "base model",
    "sd_checkpoint_name": "base model file",
}
# Shown to people and never searched: they name machines' things, not subjects.
FACT_KEYS = (
    "modelspec.architecture",
    "modelspec.date",
    "modelspec.hash_sha256",
    "modelspec.implementation",
    "modelspec.is_negative_embedding",
    "modelspec.merged_from",
    "modelspec.prediction_type",
    "modelspec.resolution",
    "sd_checkpoint",
    "sd_checkpoint_name",
    "ss_base_model_version",
    "ss_epoch",
    "ss_network_dim",
    "ss_network_module",
    "ss_new_sd_model_hash",
    "ss_num_train_images",
    "ss_sd_model_hash",
    "ss_sd_model_name",
    "ss_session_id",
    "ss_steps",
    "ss_training_started_at",
    "sshs_legacy_hash",
    "sshs_model_hash",
    "step",
)
_THUMBNAIL = "modelspec.thumbnail"
_FOLDERS = ("ss_dataset_dirs", "ss_reg_dataset_dirs")

# Numbers, dates, switches and digests hold no words.
_WORDLESS = re.compile(
    r"[-+\d\s.,:()\[\]]*|[-+]?\d*\.?\d+e[-+]?\d+|[\d-]+T[\d:.]+Z?|true|false|none|null"
    r"|(?=[a-f]*\d)(?:0x)?[0-9a-f]{8,}",
    re.IGNORECASE,
)
# Numbered layers in cloneofsimo's metadata ("unet:12:rank") and the network's own settings.
_STRUCTURAL = re.compile(
    r"(?:unet|text_encoder)(?::\d+:rank)?|format|sshs_\w+hash|step|sd_checkpoint|string_to_.*"
)
# What an embedding's tensor is called where the tool gives it no name of its own.
_UNNAMED = ("emb_params", "clip_l", "clip_g", "string_to_param.*")
_MARKUP = re.compile(r"[{\[]")


@dataclass(frozen=True, slots=True)
class Claim:
    """One text in a file. ``count`` is how often the file says it was used.

    ``naming`` marks texts that say whom or what the model shows.
    """

    field: str
    text: str
    count: int = 1
    naming: bool = False


@dataclass(frozen=True, slots=True)
class DatasetFolder:
    """A folder of training pictures, such as ``10_name woman``: ten repeats, one class."""

    name: str
    repeats: int | None
    images: int | None
    regularisation: bool = False


@dataclass(frozen=True, slots=True)
class Claims:
    """Everything a file says about itself.

    ``facts`` are shown and not searched. ``thumbnail`` holds the picture's bytes as they were
    embedded, not decoded. ``notes`` are sentences about what could not be read; ``complete`` is
    false where texts were left out.
    """

    texts: tuple[Claim, ...] = ()
    folders: tuple[DatasetFolder, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    thumbnail: bytes | None = None
    notes: tuple[str, ...] = ()
    complete: bool = True


class _Pairs(list[tuple[str, object]]):
    """A JSON object as pairs, so that a repeated key hides nothing."""


def read_claims(path: Path) -> Claims:
    """Read, in a child process with limits, what a file of weights says about itself.

    Raises ``ContainerError`` where the file is neither safetensors nor a PyTorch checkpoint or is
    damaged, ``SandboxError`` where the child gave no answer.
    """
    answer = sandbox.run(claims_data, str(path))
    if "refused" in answer:
        raise ContainerError(str(answer["code"]), str(answer["refused"]))
    return _claims_from(answer)


def may_carry_thumbnail(path: Path) -> bool:
    """Say whether a file could hold a picture, from the bytes of its header and without parsing it.

    False only where it is certain: the name of the entry occurs nowhere in a safetensors header,
    nor does an escape by which JSON could spell it otherwise. It saves a process a file, 0.2 s, for
    the many that hold none. Raises ``OSError`` where the file cannot be opened.
    """
    with path.open("rb") as file:
        if sniff(file) is not Format.SAFETENSORS:
            return True
        file.seek(0)
        try:
            length = header_length(file, path.stat().st_size)
        except ContainerError:
            return True
        header = file.read(length)
    return _THUMBNAIL.encode() in header or b"\\u" in header


def claims_data(path: str) -> dict[str, object]:
    """Read a file's claims as JSON-able data; this is what runs in the child."""
    try:
        claims = parse_claims(Path(path))
    except ContainerError as error:
        return {"refused": error.sentence, "code": error.code}
    by_field: dict[tuple[str, bool], list[tuple[str, int]]] = {}
    for claim in claims.texts:
        by_field.setdefault((claim.field, claim.naming), []).append((claim.text, claim.count))
    thumbnail = claims.thumbnail
    return {
        "texts": [[name, naming, texts] for (name, naming), texts in by_field.items()],
        "folders": [astuple(folder) for folder in claims.folders],
        "facts": dict(claims.facts),
        "thumbnail": base64.b64encode(thumbnail).decode() if thumbnail is not None else None,
        "notes": claims.notes,
        "complete": claims.complete,
    }


def _claims_from(answer: Mapping[str, Any]) -> Claims:
    """Take in a child's answer, which is checked since the file may have captured the child."""
    try:
        encoded = answer["thumbnail"]
        return Claims(
            texts=tuple(
                Claim(str(name), str(text), int(count), naming is True)
                for name, naming, texts in answer["texts"]
                for text, count in texts
            ),
            folders=tuple(
                DatasetFolder(str(name), _number(repeats), _number(images), regularisation is True)
                for name, repeats, images, regularisation in answer["folders"]
            ),
            facts={str(key): str(value) for key, value in answer["facts"].items()},
            thumbnail=base64.b64decode(encoded, validate=True) if encoded is not None else None,
            notes=tuple(map(str, answer["notes"])),
            complete=answer["complete"] is True,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ContainerError(
            "claims.answer", "The process that read the file gave an answer that makes no sense."
        ) from error


def parse_claims(path: Path) -> Claims:
    """Read what a safetensors file or a PyTorch checkpoint says about itself, in this process.

    No tensor is read and nothing is unpickled. Raises ``ContainerError`` where the file is
    neither or is damaged, ``OSError`` where it cannot be opened.
    """
    with path.open("rb") as file:
        form = sniff(file)
    metadata: Mapping[str, str]
    if form is Format.SAFETENSORS:
        header = safetensors.read_header(path)
        metadata = header.metadata
        shapes = {name: info.shape for name, info in header.tensors.items()}
    elif form in (Format.ZIP, Format.PICKLE):
        index = torch_tensors.read_index(path)
        metadata = {name: str(value) for name, value in index.values.items()}
        shapes = {name: tensor.shape for name, tensor in index.tensors.items()}
    else:
        raise ContainerError(
            "claims.unknown_format",
            "The file is neither a safetensors file nor a PyTorch checkpoint.",
            Severity.UNREADABLE,
        )
    return _Reader(metadata, shapes).claims()


class _Reader:
    """Collects claims from one file's metadata."""

    def __init__(self, metadata: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
        self._metadata = metadata
        self._shapes = shapes
        self._texts: dict[tuple[str, str], Claim] = {}
        self._folders: dict[str, DatasetFolder] = {}
        self._notes: list[str] = []
        self._complete = True

    def claims(self) -> Claims:
        """Return what was found."""
        for key, value in self._metadata.items():
            if key != _THUMBNAIL:
                self._entry(key, value)
        for token in self._tokens():
            self._add("token", token, naming=True)
        facts = {key: self._metadata[key][:_SHOWN] for key in FACT_KEYS if self._metadata.get(key)}
        return Claims(
            texts=tuple(self._texts.values()),
            folders=tuple(self._folders.values()),
            facts=facts,
            thumbnail=self._thumbnail(),
            notes=tuple(self._notes),
            complete=self._complete,
        )

    def _add(self, field: str, text: str, *, count: int = 1, naming: bool = False) -> None:
        if not text.strip() or _WORDLESS.fullmatch(text):
            return
        known = self._texts.get((field, text))
        if known is None and len(self._texts) >= MAX_CLAIMS:
            if self._complete:
                self._notes.append(f"Only the first {MAX_CLAIMS:,} texts in the file were read.")
            self._complete = False
            return
        total = count + (known.count if known else 0)
        self._texts[field, text] = Claim(field, text, total, naming)

    def _entry(self, key: str, value: str) -> None:
        if key in NAMING_KEYS:
            self._add(f"{NAMING_KEYS[key]} ({key})", value, naming=True)
            return
        if key in TEXT_KEYS:
            self._add(f"{TEXT_KEYS[key]} ({key})", value)
            return
        if not _STRUCTURAL.fullmatch(key) and not key.startswith(("ss_", "modelspec.")):
            self._add("metadata key", key)
        if not _MARKUP.match(value.lstrip()):
            if key not in FACT_KEYS:
                self._add(f"metadata ({key})", value)
            return
        try:
            # Repeated keys are kept, and a number too long to read is no reason to stop.
            content = json.loads(value, object_pairs_hook=_Pairs, parse_int=_whole_number)
        except (ValueError, RecursionError):
            self._notes.append(f"The metadata “{key[:80]}” is not valid JSON; it was read as text.")
            self._add(f"metadata ({key})", value)
            return
        if key == "ss_tag_frequency":
            self._tag_frequency(key, content)
        elif key in _FOLDERS:
            self._dataset_folders(content, regularisation=key == "ss_reg_dataset_dirs")
        elif key == "ss_datasets":
            self._datasets(key, content)
        else:
            self._anything(f"metadata ({key})", content)

    def _tag_frequency(self, key: str, content: object) -> None:
        for folder, tags in _items(content):
            self._add("dataset folder", folder, naming=True)
            for tag, count in _items(tags):
                field = f"training tag ({key}, {folder[:80]})"
                self._add(field, tag.strip(), count=_count(count), naming=True)
                self._anything(field, count)  # where a number should be, a text could hide

    def _dataset_folders(self, content: object, *, regularisation: bool) -> None:
        for folder, about in _items(content):
            self._folder(folder, _Pairs(_items(about)), regularisation=regularisation)
            self._anything("dataset folder", about)

    def _folder(self, name: str, about: _Pairs, *, regularisation: bool) -> None:
        known = dict(about)
        self._folders[name] = DatasetFolder(
            name,
            _number(known.get("n_repeats", known.get("num_repeats"))),
            _number(known.get("img_count")),
            regularisation,
        )
        # Pictures of a class in general, against forgetting: they name no subject.
        self._add(
            "regularisation folder" if regularisation else "dataset folder",
            name,
            naming=not regularisation,
        )

    def _datasets(self, key: str, content: object) -> None:
        for dataset in content if isinstance(content, list) else ():
            for name, value in _items(dataset):
                if name == "tag_frequency":
                    self._tag_frequency(f"{key}.tag_frequency", value)
                elif name == "subsets" and isinstance(value, list):
                    for subset in value:
                        self._subset(key, subset)
                elif name not in ("bucket_info", "resolution"):
                    self._anything(f"metadata ({key})", value)

    def _subset(self, key: str, subset: object) -> None:
        about = _Pairs(_items(subset))
        regularisation = dict(about).get("is_reg") is True
        for name, value in about:
            if name == "image_dir" and isinstance(value, str):
                self._folder(value, about, regularisation=regularisation)
            elif name == "class_tokens" and isinstance(value, str):
                self._add("class tokens", value, naming=not regularisation)
            else:
                self._anything(f"metadata ({key})", value)

    def _anything(self, field: str, content: object) -> None:
        """Take every text from JSON of unknown meaning."""
        waiting = [content]
        while waiting:
            item = waiting.pop()
            if isinstance(item, str):
                self._add(field, item)
            elif isinstance(item, _Pairs):
                waiting.extend(part for pair in reversed(item) for part in reversed(pair))
            elif isinstance(item, list):
                waiting.extend(reversed(item))

    def _tokens(self) -> Iterator[str]:
        """Yield the names of learned tokens, such as ``<birb-style>``."""
        embedding = is_embedding(self._shapes)
        for name in self._shapes:
            if (embedding or name.startswith("<")) and name not in (
                "emb_params",
                "clip_l",
                "clip_g",
            ):
                yield name.removeprefix("string_to_param.")

    def _thumbnail(self) -> bytes | None:
        value = self._metadata.get(_THUMBNAIL)
        if not value:
            return None
        encoded = value.split(",", 1)[1] if value.startswith("data:") and "," in value else value
        if len(encoded) > MAX_THUMBNAIL:
            self._notes.append("The picture in the metadata is too large to be read.")
            return None
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            self._notes.append("The picture in the metadata is not valid base64.")
            return None


def _items(content: object) -> list[tuple[str, object]]:
    return list(content) if isinstance(content, _Pairs) else []


def _whole_number(digits: str) -> int:
    # No training set has a quintillion pictures; such a number is a mistake or an attack.
    return int(digits) if len(digits) < 19 else 0


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _count(value: object) -> int:
    number = _number(value)
    return number if number is not None and number > 0 else 1
