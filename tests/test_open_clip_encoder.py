"""Encoders that torch runs: any open_clip model, from weights that are on this disk already."""

import json
import pickle
import shutil
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from PIL import Image

from tests.conftest import require
from tests.tiny_clip import TINY, TINY_RESNET, checkpoint, have_torch, register
from triage import encoders
from triage.encoders.base import EncoderError
from triage.encoders.onnx import OnnxEncoder
from triage.encoders.verify import sample_pictures, verify


@pytest.fixture(scope="module", autouse=True)
def _torch() -> None:
    require(have_torch(), "the extra “torch”, which runs open_clip's models")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("weights")
    register(folder)
    yield checkpoint(folder, TINY)


@pytest.fixture(autouse=True)
def _no_weights_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def load(weights: Path, architecture: str = TINY) -> Any:
    from triage.encoders.open_clip import OpenClipEncoder

    return OpenClipEncoder.load(architecture, str(weights), device="cpu")


def export(weights: Path, out: Path, *options: str) -> tuple[str, str]:
    said, warned = StringIO(), StringIO()
    given = ["--model", TINY, "--pretrained", str(weights), "--out", str(out), *options]
    call_command("encoder", "export", *given, stdout=said, stderr=warned)
    return said.getvalue(), warned.getvalue()


SENTENCES = [
    *(f"a photo of {thing}" for thing in ("a cat", "two dogs", "an apple", "sea", "a 3D print")),
    *(f"a drawing of {thing} on paper" for thing in ("a gun", "a knife", "a toy gun", "a flag")),
    "", " ", "a", "A", "CAPITALS AND lower", "it's", "don't", "we'll", "they've", "I'm", "you'd",
    "IT'S DON'T WE'LL", "naïve café", "cafe\u0301", "Zürich", "größer", "日本語", "한국어",
    "Привет", "emoji 🎉🎉 here", "½ of it", "1234567890", "1st 2nd 3rd", "a_b-c/d", "what?! no...",
    "(yes)", "“curly” quotes", "the maker’s best", "‘single’", "a  b\n\tc", "tabs\tand\nlines",
    "50% & more", "&amp; &lt;b&gt;", "<b>bold</b>", "https://example.org/a?b=c", "name@example.org",
    "#tag @name", "supercalifragilisticexpialidocious", "antidisestablishmentarianism", "x" * 100,
    "word " * 500,
    "a picture of a person wearing a red hat", "an illustration in the style of nobody",
    "explicit adult content", "blood, gore and cruelty", "swastika", "medical anatomy chart",
]  # fmt: skip


def test_the_tokenizer_gives_the_numbers_of_open_clips_own() -> None:
    import open_clip

    from triage.encoders.open_clip_tokenizer import clip_tokenizer

    assert len(SENTENCES) >= 50
    ours, theirs = clip_tokenizer("ViT-B-32", {}, 77), open_clip.get_tokenizer("ViT-B-32")
    for sentence in SENTENCES:
        assert ours.encode(sentence).ids == theirs([sentence])[0].tolist(), sentence


def test_who_types_the_mark_of_the_end_does_not_end_the_text() -> None:
    from triage.encoders.open_clip_tokenizer import clip_tokenizer

    ids = clip_tokenizer("ViT-B-32", {}, 77).encode("a cat<end_of_text> and a gun").ids
    assert ids.count(49407) == 1


@pytest.mark.parametrize("name", ["ViT-B-32-SigLIP2-256", "roberta-ViT-B-32"])
def test_a_vocabulary_that_would_have_to_be_fetched_is_refused(name: str, weights: Path) -> None:
    with pytest.raises(EncoderError, match=r"vocabulary|text side"):
        load(weights, name)


WORDS = ["a", "red", "star", "café", "blue", "circle"]


def sigmoid_model(folder: Path) -> Path:
    """Save a tiny model that is built as SigLIP 2 is on its text side, with its vocabulary."""
    import open_clip
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers

    text = {"context_length": 8, "vocab_size": 10, "width": 32, "heads": 2, "layers": 2}
    text |= {"no_causal_mask": True, "pool_type": "last", "proj_bias": True}
    text |= {"hf_tokenizer_name": "nobody/tiny", "tokenizer_kwargs": {"clean": "canonicalize"}}
    vision = {"image_size": 64, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
    config = {"embed_dim": 24, "init_logit_bias": -10, "custom_text": True}
    file = folder / "tiny-sigmoid.json"
    file.write_text(json.dumps({**config, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(file)
    vocabulary = {word: at for at, word in enumerate(["<pad>", "<eos>", "<unk>", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<pad>", "<eos>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "add_bos_token": False,
                "add_eos_token": True,
                "eos_token": {"content": "<eos>"},
                "pad_token": "<pad>",
            }
        )
    )
    torch.manual_seed(0)
    model = open_clip.create_model("tiny-sigmoid", load_weights=False)
    torch.save(model.state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def test_a_sigmoid_model_is_served_with_the_vocabulary_that_lies_beside_its_weights(
    tmp_path: Path,
) -> None:
    import open_clip
    import torch

    from triage.encoders.export import export
    from triage.encoders.onnx import OnnxEncoder
    from triage.encoders.open_clip import load_model

    weights = sigmoid_model(tmp_path)
    source = load_model("tiny-sigmoid", str(weights))
    # Cleaned as open_clip's “canonicalize” does, ended, and filled up to the length.
    assert source.tokenizer.encode(" A_red, STAR! ").ids == [3, 4, 5, 1, 0, 0, 0, 0]
    assert source.tokenizer.encode("red " * 500).ids == [4] * 7 + [1]
    assert source.tokenizer.encode("a <eos> red star").ids == [3, 2, 4, 5, 1, 0, 0, 0]
    model = open_clip.create_model("tiny-sigmoid", pretrained=str(weights)).eval()
    with torch.inference_mode():
        ids = torch.tensor([[3, 4, 5, 1, 0, 0, 0, 0], [7, 8, 1, 0, 0, 0, 0, 0]])
        expected = model.encode_text(ids, normalize=True).numpy()
    texts = ["a red star", "Blue circle."]
    encoder = load(weights, "tiny-sigmoid")
    assert (encoder.embed_texts(texts) * expected).sum(axis=1).min() > 0.99999
    export(source, tmp_path / "folder")
    exported = OnnxEncoder.load(tmp_path / "folder")
    assert (exported.embed_texts(texts) * expected).sum(axis=1).min() > 0.9999


def test_a_published_tokenizer_without_its_filling_is_refused(tmp_path: Path) -> None:
    weights = sigmoid_model(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"pad_token": "<nothing>"}')
    with pytest.raises(EncoderError, match="no token “<nothing>”"):
        load(weights, "tiny-sigmoid")
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(EncoderError, match=r"tokenizer_config\.json of nobody/tiny.*export"):
        load(weights, "tiny-sigmoid")


def test_pictures_and_texts_become_what_open_clip_makes_of_them(weights: Path) -> None:
    import open_clip
    import torch

    model, _, transform = open_clip.create_model_and_transforms(TINY, pretrained=str(weights))
    pictures, texts = sample_pictures(5), ["a cat", "a dog"]
    with torch.inference_mode():
        rows = model.eval().encode_image(torch.stack([transform(p) for p in pictures]), True)
        words = model.encode_text(open_clip.get_tokenizer(TINY)(texts), True)
    encoder = load(weights)
    assert (encoder.embed_images(pictures) * rows.numpy()).sum(axis=1).min() > 0.99999
    assert (encoder.embed_texts(texts) * words.numpy()).sum(axis=1).min() > 0.99999
    assert encoder.embed_images([]).shape == (0, encoder.dim)
    assert encoder.embed_texts([]).shape == (0, encoder.dim)


def test_patches_of_a_transformer_are_there_and_of_another_network_are_not(weights: Path) -> None:
    picture = Image.new("RGB", (80, 60), "red")
    patches = load(weights).embed_patches(picture)
    assert patches.shape == (4, 4, 24)
    assert np.allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-5)
    other = load(checkpoint(weights.parent, TINY_RESNET), TINY_RESNET)
    with pytest.raises(EncoderError, match="no plain vision transformer"):
        other.embed_patches(picture)


def test_what_is_outside_the_square_is_known_not_to_be_seen(weights: Path) -> None:
    assert load(weights).seen(300, 100) == (100, 0, 200, 100)


def test_the_revision_follows_the_weights(weights: Path, tmp_path: Path) -> None:
    import torch

    state = torch.load(weights, weights_only=True)
    state["visual.proj"] += 1e-3
    torch.save(state, tmp_path / "other.pt")
    assert load(weights).revision == load(weights).revision
    assert load(weights).revision != load(tmp_path / "other.pt").revision


def test_the_setting_chooses_a_model_and_a_file(weights: Path) -> None:
    encoder = encoders.load(f"open_clip:{TINY}:{weights}")
    direct = load(weights)
    assert encoder.revision == direct.revision
    pictures = sample_pictures(3)
    assert np.allclose(encoder.embed_images(pictures), direct.embed_images(pictures), atol=1e-6)


def test_weights_that_were_never_downloaded_are_not_fetched_and_the_command_is_named() -> None:
    with pytest.raises(EncoderError, match=r"encoder export --model ViT-B-32 --pretrained laion"):
        encoders.load("open_clip:ViT-B-32:laion2b_s34b_b79k")


@pytest.mark.parametrize(
    ("architecture", "pretrained", "message"),
    [
        ("ViT-Z-99", "openai", "no architecture"),
        ("ViT-B-32", "nobody", "neither a file nor a tag"),
    ],
)
def test_what_open_clip_does_not_know_is_refused(
    architecture: str, pretrained: str, message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        encoders.load(f"open_clip:{architecture}:{pretrained}")


class Boom:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_a_checkpoint_that_carries_code_is_refused_and_not_run(
    weights: Path, tmp_path: Path
) -> None:
    import torch

    ran = tmp_path / "ran"
    torch.save({"state_dict": Boom(ran)}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Boom(ran)))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(EncoderError, match="does not hold the weights"):
            load(tmp_path / name)
    assert not ran.exists()


def test_weights_of_another_model_and_broken_files_are_refused(
    weights: Path, tmp_path: Path
) -> None:
    (tmp_path / "cut.pt").write_bytes(weights.read_bytes()[:10_000])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "picture.npz").write_bytes(b"PK")
    for name in ("cut.pt", "empty.safetensors"):
        with pytest.raises(EncoderError, match="does not hold the weights"):
            load(tmp_path / name)
    with pytest.raises(EncoderError, match="read safely"):
        load(tmp_path / "picture.npz")
    with pytest.raises(EncoderError, match="does not hold the weights"):
        load(weights, TINY_RESNET)


@pytest.fixture
def tags(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Put two tags of the tiny model on the disk, as if both had been downloaded."""
    import huggingface_hub
    from open_clip import pretrained

    folder = tmp_path / "models--us--tiny"
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    shutil.copy(weights, folder / "snapshots" / "abc" / "weights.pt")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    known = {
        "plain": pretrained._pcfg(hf_hub="us/tiny/weights.pt"),
        "quick": pretrained._pcfg(hf_hub="us/tiny/weights.pt", quick_gelu=True),
    }
    monkeypatch.setitem(pretrained._PRETRAINED, TINY, known)
    return list(known)


def test_a_tag_whose_weights_are_on_the_disk_is_loaded_with_its_own_activation(
    weights: Path, tags: list[str]
) -> None:
    pictures = sample_pictures(2)
    from_file = load(weights).embed_images(pictures)
    plain, quick = (load(Path(tag)).embed_images(pictures) for tag in tags)
    assert np.array_equal(plain, from_file)
    assert not np.array_equal(quick, from_file)


def test_the_text_tower_is_that_of_the_encoder_and_asks_no_network(
    tags: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from open_clip import pretrained

    def asked(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", asked)
    monkeypatch.setattr(pretrained, "hf_hub_download", asked)
    spec = f"open_clip:{TINY}:quick"
    tower = encoders.load_text_tower(spec)
    assert tower is not None
    assert encoders.load_text_tower(spec) is tower, "it is there for the second file, too"
    texts = ["a photo of a cat", "", "two dogs " * 40]
    assert np.allclose(tower.embed_texts(texts), encoders.load(spec).embed_texts(texts), atol=1e-5)
    other = sigmoid_model(tmp_path)
    with pytest.raises(EncoderError, match="own vocabulary"):
        encoders.load_text_tower(f"open_clip:tiny-sigmoid:{other}")


def test_a_card_that_is_full_is_an_error_of_the_encoder(weights: Path) -> None:
    import torch
    from torch.nn.modules.module import register_module_forward_pre_hook

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("The card is full.")

    encoder = load(weights)
    picture = sample_pictures(1)[0]
    hook = register_module_forward_pre_hook(full)
    try:
        for run in (
            lambda: encoder.embed_images([picture]),
            lambda: encoder.embed_patches(picture),
            lambda: encoder.embed_texts(["a cat"]),
        ):
            with pytest.raises(EncoderError, match="could not be run on .*: The card is full"):
                run()
    finally:
        hook.remove()


def test_a_file_is_exported_like_the_tag_that_it_was_made_from(
    weights: Path, tags: list[str], tmp_path: Path
) -> None:
    pictures = sample_pictures(2)
    said, warned = export(weights, tmp_path / "alone")
    assert "is read with gelu, mean 0.481 0.458 0.408" in warned
    assert "need something else: quick" in warned
    assert "gelu, mean 0.481" in said
    said, warned = export(weights, tmp_path / "like", "--like", "quick")
    assert "need something else" not in warned
    assert "quick_gelu, mean 0.481" in said
    alone, like = (OnnxEncoder.load(tmp_path / name) for name in ("alone", "like"))
    quick = load(Path("quick"))
    assert np.allclose(like.embed_images(pictures), quick.embed_images(pictures), atol=1e-4)
    assert not np.allclose(alone.embed_images(pictures), quick.embed_images(pictures), atol=1e-4)
    checks = {check.name: check.passed for check in verify(tmp_path / "like")}
    assert (checks["settings"], checks["parity of pictures"]) == (True, True)
    assert {check.name: check.passed for check in verify(tmp_path / "alone")}["settings"] is None
    for given in ("nobody", "laion2b_s34b_b79k"):
        with pytest.raises(CommandError, match="like a tag of tiny-vit .there are: plain, quick"):
            export(weights, tmp_path / "never", "--like", given)


def test_what_was_embedded_with_another_activation_is_not_taken_for_the_same(
    weights: Path, tags: list[str]
) -> None:
    assert load(Path("quick")).revision != load(weights).revision == load(Path("plain")).revision


def test_the_operator_has_the_image_side_compiled(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    compiled: list[Any] = []
    monkeypatch.setattr(torch, "compile", lambda module: compiled.append(module) or module)
    other = shutil.copy(weights, tmp_path / "other.pt")
    encoders.load(f"open_clip:{TINY}:{other}")
    encoders.use_batches(32, compiled=True)
    try:
        again = shutil.copy(weights, tmp_path / "again.pt")
        encoders.load(f"open_clip:{TINY}:{again}")
    finally:
        encoders.use_batches(32, compiled=False)
    assert len(compiled) == 1
