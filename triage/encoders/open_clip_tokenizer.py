"""open_clip's tokenizers in the format of the ``tokenizers`` package, which needs no torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import huggingface_hub
import open_clip
from open_clip.tokenizer import SimpleTokenizer
from tokenizers import Regex, Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE

from triage.encoders.base import EncoderError

START, END = "<start_of_text>", "<end_of_text>"
# How CLIP cuts a text into words before it looks for pieces of words.
_WORDS = r"(?i)'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# What open_clip's cleaning (ftfy, then HTML entities) does to text as people type it. Repairing
# text that was decoded wrongly is left out: no prompt is.
_CLEANING = (
    (Regex("[\u02bc\u2018-\u201b]"), "'"),
    (Regex("[\u201c-\u201f]"), '"'),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&quot;", '"'),
    ("&#39;", "'"),
    ("&nbsp;", " "),
    ("&amp;", "&"),
)
# open_clip's “canonicalize”, after big_vision: how the texts of SigLIP are cleaned.
_CANONICAL = (
    ("_", " "),
    (Regex(r"[!-/:-@\[-`{-~]"), ""),
    (Regex(r"\s+"), " "),
)
# What a published tokenizer consists of; the second says how texts end and are filled up.
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json")


def tokenizer_for(
    architecture: str, settings: Mapping[str, Any], context_length: int, weights: Path
) -> Tokenizer:
    """Return the tokenizer of an architecture; ``settings`` is its ``text_cfg``.

    One that open_clip does not carry is read from the folder of the ``weights``, or from where
    ``manage.py encoder export`` has put it. Raises ``EncoderError``.
    """
    repository = settings.get("hf_tokenizer_name", "")
    if not repository:
        return clip_tokenizer(architecture, settings, context_length)
    if settings.get("tokenizer_kwargs") != {"clean": "canonicalize"}:
        raise EncoderError(
            f"{architecture} cleans its texts in a way of its own "
            f"({settings.get('tokenizer_kwargs')}), which cannot be exported."
        )
    found = [_on_this_machine(repository, name, weights.parent) for name in TOKENIZER_FILES]
    missing = [name for name, path in zip(TOKENIZER_FILES, found, strict=True) if path is None]
    if missing:
        raise EncoderError(
            f"The vocabulary of {architecture} is not on this machine: {' and '.join(missing)} of "
            f"{repository}. “manage.py encoder export” fetches it with the weights of a tag; "
            "beside a file of weights, put these files yourself."
        )
    try:
        vocabulary, config = (path.read_text(encoding="utf-8") for path in found if path)
        return _canonical(Tokenizer.from_str(vocabulary), json.loads(config), context_length)
    # The tokenizers package raises nothing narrower.
    except Exception as error:  # noqa: BLE001
        raise EncoderError(
            f"The vocabulary of {architecture} cannot be used: {error}. Fetch it again."
        ) from error


def _on_this_machine(repository: str, name: str, folder: Path) -> Path | None:
    if (folder / name).is_file():
        return folder / name
    found = huggingface_hub.try_to_load_from_cache(repository, name)
    return Path(found) if isinstance(found, str) else None


def _canonical(tokenizer: Tokenizer, config: Mapping[str, Any], context_length: int) -> Tokenizer:
    """Let a published tokenizer clean, end and fill up texts as transformers would."""
    own = [tokenizer.normalizer] if tokenizer.normalizer else []
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(found, put) for found, put in (*_CLEANING, *_CANONICAL)),
            normalizers.Lowercase(),
            normalizers.Strip(),
            *own,
        ]
    )
    if "add_eos_token" in config or "add_bos_token" in config:
        start = _token(config, "bos_token") if config.get("add_bos_token") else ""
        end = _token(config, "eos_token") if config.get("add_eos_token") else ""
        around = [token for token in (start, end) if token]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=" ".join(filter(None, (start, "$A", end))),
            special_tokens=[(token, _number(tokenizer, token)) for token in around],
        )
    pad = _token(config, "pad_token")
    tokenizer.enable_truncation(max_length=context_length)
    tokenizer.enable_padding(length=context_length, pad_id=_number(tokenizer, pad), pad_token=pad)
    tokenizer.encode_special_tokens = True
    return tokenizer


def _token(config: Mapping[str, Any], name: str) -> str:
    given = config[name]
    return str(given["content"] if isinstance(given, dict) else given)


def _number(tokenizer: Tokenizer, token: str) -> int:
    number = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"it has no token “{token}”")
    return int(number)


def clip_tokenizer(
    architecture: str, settings: Mapping[str, Any], context_length: int
) -> Tokenizer:
    """Return the tokenizer of an architecture, from the vocabulary that open_clip carries.

    ``settings`` is the architecture's ``text_cfg``. Raises ``EncoderError`` where it uses a
    vocabulary that open_clip does not carry.
    """
    if settings.get("tokenizer_kwargs"):
        raise EncoderError(
            f"{architecture} cleans its texts in a way of its own ({settings['tokenizer_kwargs']}),"
            " which cannot be exported."
        )
    original = open_clip.get_tokenizer(architecture)
    if not isinstance(original, SimpleTokenizer):
        raise EncoderError(f"{architecture} does not use CLIP's own vocabulary.")
    merges = sorted(original.bpe_ranks, key=original.bpe_ranks.__getitem__)
    tokenizer = Tokenizer(
        BPE(vocab=original.encoder, merges=merges, end_of_word_suffix="</w>", unk_token=END)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFC(),
            *(normalizers.Replace(found, put) for found, put in _CLEANING),
            normalizers.Lowercase(),
        ]
    )
    # START and END are no special tokens here: whoever types “<end_of_text>” into a text must
    # not end it, since the text is read off at its end and the rest would go unseen.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{START} $A {END}",
        special_tokens=[(START, original.sot_token_id), (END, original.eot_token_id)],
    )
    tokenizer.enable_truncation(max_length=context_length)
    tokenizer.enable_padding(length=context_length, pad_id=0, pad_token="!")  # noqa: S106
    return tokenizer
