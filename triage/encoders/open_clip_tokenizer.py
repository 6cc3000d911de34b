"""open_clip's tokenizer in the format of the ``tokenizers`` package, which needs no torch."""

from collections.abc import Mapping
from typing import Any

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


def clip_tokenizer(
    architecture: str, settings: Mapping[str, Any], context_length: int
) -> Tokenizer:
    """Return the tokenizer of an architecture, from the vocabulary that open_clip carries.

    ``settings`` is the architecture's ``text_cfg``. Raises ``EncoderError`` where it uses a
    vocabulary that open_clip would have to fetch.
    """
    if "hf_tokenizer_name" in settings or "siglip" in architecture.lower():
        raise EncoderError(
            f"{architecture} does not use CLIP's own vocabulary, and its own is not part of "
            "open_clip. Choose an architecture that does, such as ViT-B-32 or ViT-L-14."
        )
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
