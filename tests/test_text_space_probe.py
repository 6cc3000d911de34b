"""What learned words and changed layers do to the language of a text encoder.

A tiny text tower of open_clip, trained here on a handful of words, stands in for a real one.
"""

import importlib.util
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from triage.probes.text_space import TextSpaceProbe
from triage.sample import Concept, Finding, Outcome, Policy, Rule, Sample, WeightFile
from triage.text_parts import parse_text_parts, read_text_parts

if TYPE_CHECKING:
    from triage.encoders.text_tower import OpenClipTextTower

DATA = Path(os.environ.get("WEIGHHOUSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="The folder of real files is absent; set WEIGHHOUSE_TEST_DATA."
)
HAS_TORCH = importlib.util.find_spec("torch") is not None
if os.environ.get("CI") == "true" and not HAS_TORCH:
    raise RuntimeError("These tests have to run in CI; install the “torch” extra.")
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="Needs the “torch” extra.")

Matrix = NDArray[np.float32]

WIDTH, CONTEXT = 64, 10
PROHIBITED = ("gore", "blood", "entrails", "wound", "corpse")
CONTRAST = ("tomato", "ketchup", "paint", "apron", "butcher")
ORDINARY = (
    *("table", "chair", "house", "tree", "river", "stone", "cloud", "bread", "paper", "window"),
    *("door", "garden", "street", "bridge", "mountain", "horse", "bird", "fish", "cat", "dog"),
    *("sheep", "cow", "flower", "grass", "leaf", "apple", "pear", "lemon", "cheese", "butter"),
    *("clock", "lamp", "book", "pencil", "bottle", "glass", "plate", "spoon", "knife", "fork"),
    *("shirt", "shoe", "button", "ribbon", "candle", "mirror", "carpet", "curtain", "ladder"),
)
RULE = Rule(
    "gore",
    "Gore",
    0.5,
    0.9,
    signals=("text_space",),
    concepts=(Concept("gore", PROHIBITED, CONTRAST),),
)
POLICY = Policy("test", 1, (RULE,), neutral=("picture",), templates=("a photo of {}", "{}"))


class WholeWords:
    """A vocabulary with one token a word, and one for all others."""

    def __init__(self) -> None:
        names = [*PROHIBITED, *CONTRAST, *ORDINARY, "a", "photo", "of", "picture", "zorblax"]
        self.words: Sequence[str] = [
            "<pad>",
            "<start>",
            "<unknown>",
            *(f"{name} " for name in names),
            "<end>",
        ]
        self.start, self.end, self.padding = 1, len(self.words) - 1, 0
        self._numbers = {name: number for number, name in enumerate(names, 3)}

    def encode(self, text: str) -> list[int]:
        return [self._numbers.get(word, 2) for word in text.lower().split()]


@pytest.fixture(scope="module")
def tower() -> "OpenClipTextTower":
    import open_clip
    import torch

    from triage.encoders.text_tower import OpenClipTextTower

    torch.manual_seed(0)
    vocabulary = WholeWords()
    model = open_clip.CLIP(
        embed_dim=32,
        vision_cfg={"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        text_cfg={
            "context_length": CONTEXT,
            "vocab_size": len(vocabulary.words),
            "width": WIDTH,
            "heads": 2,
            "layers": 2,
        },
    )
    # Just enough language: each word has a place of its own, and the prohibited words
    # lie together, as do those that they could be taken for.
    topics = torch.nn.functional.normalize(torch.randn(2, 32), dim=1)
    places = torch.nn.functional.normalize(torch.randn(len(vocabulary.words), 32), dim=1)
    for topic, group in enumerate((PROHIBITED, CONTRAST)):
        for word in group:
            places[vocabulary.encode(word)[0]] += 3 * topics[topic]
    words = [*PROHIBITED, *CONTRAST, *ORDINARY, "zorblax"]
    tokens = torch.zeros(2 * len(words), CONTEXT, dtype=torch.long)
    for row, text in enumerate([*words, *(f"a photo of {word}" for word in words)]):
        marked = [vocabulary.start, *vocabulary.encode(text), vocabulary.end]
        tokens[row, : len(marked)] = torch.tensor(marked)
    wanted = places[[vocabulary.encode(word)[0] for word in words]].repeat(2, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.003)
    for _ in range(100):
        loss = -torch.cosine_similarity(model.encode_text(tokens), wanted).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return OpenClipTextTower(model.eval(), vocabulary, name="tiny")


def vector_of(tower: "OpenClipTextTower", *words: str) -> Matrix:
    _, table = tower.token_table()
    return table[[WholeWords().encode(word)[0] for word in words]]


def weights(folder: Path, tensors: Mapping[str, Matrix]) -> WeightFile:
    path = folder / "stored"
    save_file({name: np.ascontiguousarray(value) for name, value in tensors.items()}, path)
    return WeightFile("f1", "word.safetensors", path, path.stat().st_size, "0" * 64)


def examine(
    tower: "OpenClipTextTower | None", *files: WeightFile, policy: Policy = POLICY, **page: Any
) -> list[Finding]:
    # In this process, for speed; the child process has tests of its own below.
    probe = TextSpaceProbe(lambda: tower, read=parse_text_parts)
    return list(probe.examine(Sample("v1", policy, files=files, **page)))


def evidence(found: Finding) -> dict[str, Any]:
    return dict(found.evidence)


@needs_torch
def test_the_opened_tower_embeds_texts_as_the_whole_model_does() -> None:
    import open_clip
    import torch

    from triage.encoders.text_tower import ClipVocabulary, OpenClipTextTower

    torch.manual_seed(0)
    tokenizer = open_clip.get_tokenizer("ViT-B-32")
    model = open_clip.CLIP(
        embed_dim=16,
        vision_cfg={"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "head_width": 32},
        text_cfg={"vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    ).eval()
    texts = ["a photo of a cat", "", "naïve 猫 " * 30]
    with torch.no_grad():
        expected = model.encode_text(tokenizer(texts), normalize=True).numpy()
    opened = OpenClipTextTower(model, ClipVocabulary(tokenizer), name="tiny")
    np.testing.assert_allclose(opened.embed_texts(texts), expected, atol=1e-5)


@needs_torch
def test_a_words_own_vector_in_its_place_reads_as_the_word(tower: "OpenClipTextTower") -> None:
    placed = tower.embed_with_vectors(["a photo of {}", "{}"], vector_of(tower, "gore"))
    written = tower.embed_texts(["a photo of gore", "gore"])
    np.testing.assert_allclose(placed, written, atol=1e-6)


@needs_torch
@pytest.mark.parametrize("word", PROHIBITED)
def test_the_vector_of_a_prohibited_word_scores_like_the_word(
    tower: "OpenClipTextTower", tmp_path: Path, word: str
) -> None:
    (found,) = examine(tower, weights(tmp_path, {"emb_params": vector_of(tower, word)}))
    assert found.outcome is Outcome.SCORED
    assert found.rule == "gore"
    assert found.score is not None
    assert found.score > 0.5
    assert evidence(found)["words"][0]["nearest_tokens"][0][0] == {"token": word, "cosine": 1.0}
    assert evidence(found)["readings"][0]["prompt"] == word
    assert word in found.reason


@needs_torch
@pytest.mark.parametrize("word", ["table", "mirror", "zorblax", "tomato", "butcher"])
def test_the_vector_of_an_ordinary_word_scores_low(
    tower: "OpenClipTextTower", tmp_path: Path, word: str
) -> None:
    (found,) = examine(tower, weights(tmp_path, {"<new>": vector_of(tower, word)}))
    assert found.score is not None
    assert found.score < 0.5


@needs_torch
def test_a_disguised_vector_still_reads_like_the_word_it_stands_for(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    vector = vector_of(tower, "gore")
    noise = np.random.default_rng(0).normal(0, 0.3 * vector.std(), vector.shape)
    disguised = (1.1 * vector + noise).astype(np.float32)
    (found,) = examine(tower, weights(tmp_path, {"string_to_param.*": disguised}))
    assert found.score is not None
    assert found.score > 0.5


@needs_torch
def test_the_strongest_of_several_learned_words_decides(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    file = weights(
        tmp_path, {"<s1>": vector_of(tower, "table")[0], "<s2>": vector_of(tower, "gore")[0]}
    )
    (found,) = examine(tower, file)
    assert "<s2>" in found.reason
    first, second = evidence(found)["readings"]
    assert "<s2>" in first["what"]
    assert first["z"] > second["z"]


@needs_torch
def test_the_length_of_the_vectors_is_shown_beside_ordinary_ones(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    long = 30 * vector_of(tower, "table")
    (found,) = examine(tower, weights(tmp_path, {"emb_params": long}))
    shown = evidence(found)["words"][0]
    assert shown["norms"][0] > 10 * shown["ordinary_norms"][2]


@needs_torch
def test_vectors_of_another_width_abstain_and_name_both_widths(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    (found,) = examine(tower, weights(tmp_path, {"emb_params": np.ones((2, 768), np.float32)}))
    assert found.outcome is Outcome.ABSTAINED
    assert found.code == "text_space.misfit"
    assert "768" in found.reason
    assert str(WIDTH) in found.reason


@needs_torch
def test_more_vectors_than_fit_into_a_text_abstain(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    many = np.ones((tower.room + 1, WIDTH), np.float32)
    (found,) = examine(tower, weights(tmp_path, {"emb_params": many}))
    assert found.outcome is Outcome.ABSTAINED


@needs_torch
def test_values_that_break_the_tower_are_a_failed_look(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    huge = np.full((1, WIDTH), 1e30, np.float32) * np.linspace(-1, 1, WIDTH, dtype=np.float32)
    (found,) = examine(tower, weights(tmp_path, {"emb_params": huge}))
    assert found.outcome is Outcome.FAILED


def test_a_deployment_without_a_tower_abstains_and_says_what_is_missing(tmp_path: Path) -> None:
    file = weights(tmp_path, {"emb_params": np.ones((1, WIDTH), np.float32)})
    (found,) = examine(None, file)
    assert found.outcome is Outcome.ABSTAINED
    assert found.code == "text_space.no_tower"
    assert "torch" in found.reason


def test_a_file_without_a_text_side_abstains(tmp_path: Path) -> None:
    file = weights(tmp_path, {"lora_unet_x.lora_down.weight": np.ones((1, 320), np.float32)})
    (found,) = examine(None, file)
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "text_space.nothing")


def test_a_file_that_cannot_be_read_is_a_failed_look(tmp_path: Path) -> None:
    path = tmp_path / "stored"
    path.write_bytes(b"nothing of the kind")
    (found,) = examine(None, WeightFile("f1", "x.pt", path, 19, "0" * 64))
    assert found.outcome is Outcome.FAILED


def test_a_policy_without_such_rules_abstains_once() -> None:
    (found,) = examine(None, policy=Policy("test", 1, ()))
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "text_space.no_rules")


def trained_layers(
    tower: "OpenClipTextTower", texts: list[str], target: str, still: list[str]
) -> dict[str, Matrix]:
    """Train a LoRA of rank 4 that makes texts mean the target and leaves others still."""
    import torch

    torch.manual_seed(0)
    names = [f"encoder_layers_{n}_mlp_fc2" for n in range(2)]
    down = [torch.randn(4, 4 * WIDTH) / 16 for _ in names]
    up = [torch.zeros(WIDTH, 4) for _ in names]
    for factor in (*down, *up):
        factor.requires_grad_()
    blocks = tower._transformer.resblocks
    vocabulary = WholeWords()
    tokens = tower._rows([vocabulary.encode(text) for text in [*texts, *still]])
    wanted = torch.from_numpy(tower.embed_texts([target] * len(texts) + still))
    optimiser = torch.optim.Adam([*down, *up], lr=0.03)
    ends = [row.index(vocabulary.end) for row in tokens.tolist()]
    for _ in range(40):
        changes = {
            f"resblocks.{n}.mlp.c_proj.weight": blocks[n].mlp.c_proj.weight.detach()
            + up[n] @ down[n]
            for n in range(2)
        }
        values = torch.func.functional_call(
            tower._transformer,
            changes,
            (tower._table[tokens] + tower._positions,),
            {"attn_mask": tower._mask},
        )
        pooled = tower._normalise(values)[range(len(ends)), ends] @ tower._projection
        loss = -torch.cosine_similarity(pooled, wanted).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    tensors: dict[str, Matrix] = {}
    for name, factor_up, factor_down in zip(names, up, down, strict=True):
        stem = f"lora_te_text_model_{name}"
        tensors[f"{stem}.lora_up.weight"] = factor_up.detach().numpy()
        tensors[f"{stem}.lora_down.weight"] = factor_down.detach().numpy()
    return tensors


@needs_torch
def test_a_lora_that_makes_its_trigger_word_mean_something_prohibited_is_seen(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    still = [text for word in ORDINARY for text in (word, f"a photo of {word}")]
    layers = trained_layers(tower, ["zorblax", "a photo of zorblax"] * 20, "gore", still)
    file = weights(tmp_path, layers)
    (found,) = examine(tower, file, trigger_words=("zorblax",))
    assert found.score is not None
    assert found.score > 0.5
    assert "zorblax" in found.reason
    (innocent,) = examine(tower, file, trigger_words=("mirror",))
    assert innocent.score is not None
    assert innocent.score < found.score


@needs_torch
def test_a_lora_that_drags_every_word_along_is_seen_without_a_trigger(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    everything = [text for word in ORDINARY for text in (word, f"a photo of {word}")]
    file = weights(tmp_path, trained_layers(tower, everything, "gore", []))
    (found,) = examine(tower, file, trigger_words=("mirror",))
    assert found.score is not None
    assert found.score > 0.5
    assert "Every word" in found.reason


@needs_torch
def test_a_lora_that_teaches_a_harmless_word_scores_low(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    layers = trained_layers(tower, ["zorblax", "a photo of zorblax"], "mirror", ["table", "chair"])
    (found,) = examine(tower, weights(tmp_path, layers), trigger_words=("zorblax",))
    assert found.score is not None
    assert found.score < 0.5


@needs_torch
def test_trying_a_lora_leaves_the_tower_as_it_was(
    tower: "OpenClipTextTower", tmp_path: Path
) -> None:
    before = tower.embed_texts(["a photo of gore"])
    layers = trained_layers(tower, ["table"], "gore", [])
    examine(tower, weights(tmp_path, layers), trigger_words=("table",))
    np.testing.assert_array_equal(tower.embed_texts(["a photo of gore"]), before)


@needs_torch
def test_layers_of_a_longer_tower_abstain(tower: "OpenClipTextTower", tmp_path: Path) -> None:
    stem = "lora_te_text_model_encoder_layers_9_self_attn_q_proj"
    ones = np.ones((1, WIDTH), np.float32)
    file = weights(tmp_path, {f"{stem}.lora_down.weight": ones, f"{stem}.lora_up.weight": ones.T})
    (found,) = examine(tower, file)
    assert (found.outcome, found.code) == (Outcome.ABSTAINED, "text_space.misfit")


@needs_torch
@needs_data
@pytest.mark.parametrize(
    ("name", "words", "layers"),
    [
        ("embeddings/EasyNegative.pt", {"emb_params": 8}, 0),
        ("embeddings/EasyNegativeV2.safetensors", {"emb_params": 16}, 0),
        ("embeddings/bad-hands-5.pt", {"*": 2}, 0),
        ("embeddings/learned_embeds_fastai.bin", {"<birb-style>": 1}, 0),
        ("loras/lora_disney.safetensors", {"<s1>": 1, "<s2>": 1}, 48),
        ("loras/analog_svd_rank4.safetensors", {}, 48),
        ("loras/catundchat.bin", {}, 0),
    ],
)
def test_real_files_are_read_and_abstain_where_the_tower_is_another_one(
    tower: "OpenClipTextTower", name: str, words: dict[str, int], layers: int
) -> None:
    parts = read_text_parts(DATA / name)
    assert {word: len(vectors) for word, vectors in parts.words.items()} == words
    assert len(parts.layers) == layers
    (found,) = examine(tower, WeightFile("f1", name, DATA / name, 1, "0" * 64))
    assert found.outcome is Outcome.ABSTAINED
    if words or layers:
        assert found.code == "text_space.misfit"
        assert "768" in found.reason
    else:
        assert found.code == "text_space.nothing"


def test_parts_larger_than_one_answer_arrive_whole(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tensors: dict[str, Matrix] = {}
    for n in range(6):
        stem = f"lora_te_text_model_encoder_layers_{n}_mlp_fc1"
        tensors[f"{stem}.lora_down.weight"] = random.normal(size=(128, 768)).astype(np.float32)
        tensors[f"{stem}.lora_up.weight"] = random.normal(size=(3072, 128)).astype(np.float32)
    layers = read_text_parts(weights(tmp_path, tensors).path).layers
    assert len(layers) == 6
    last = layers["text_encoder_encoder_layers_5_mlp_fc1"]
    np.testing.assert_array_equal(
        last.up, tensors["lora_te_text_model_encoder_layers_5_mlp_fc1.lora_up.weight"]
    )
