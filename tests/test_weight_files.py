"""Odd files of weights, full models, and the sketches that find relatives."""

from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tests.weight_files import (
    LAYERS,
    Tensors,
    diffusers,
    kohya,
    save,
    updates,
)
from triage.compare import Relation, compare, explain_merge
from triage.known import KnownCollection, KnownModel
from triage.weights import sketches
from triage.weights.errors import WeightsError
from triage.weights.families import Family
from triage.weights.fingerprints import fingerprints
from triage.weights.names import canonical
from triage.weights.reading import Kind, read

# Odd files.


def test_an_adapter_that_changes_nothing_is_called_out(tmp_path: Path) -> None:
    tensors = diffusers(updates(1))
    null = {name: array * (".up." not in name) for name, array in tensors.items()}
    path = save(tmp_path / "null.safetensors", null)
    found = compare(save(tmp_path / "a.safetensors", tensors), path)
    assert (found.relation, found.cosine) == (Relation.UNRELATED, None)
    assert any("changes nothing" in reason for reason in found.reasons)
    assert not read(path).sketch().any()


def test_half_a_layer_is_called_out(tmp_path: Path) -> None:
    tensors = diffusers(updates(1))
    del tensors[f"unet.{LAYERS[0]}.lora.up.weight"]
    weights = read(save(tmp_path / "a.safetensors", tensors))
    assert weights.layer_count == len(LAYERS) - 1
    assert any(canonical(LAYERS[0]) in remark for remark in weights.remarks())


def refusal(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        read(path).sketch()
    assert caught.value.sentence.endswith(".")
    return caught.value.code


def test_values_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    for value in (np.nan, np.inf):
        tensors = diffusers(updates(1))
        tensors[f"unet.{LAYERS[0]}.lora.up.weight"] = np.full((320, 4), value, dtype=np.float32)
        assert refusal(save(tmp_path / "a.safetensors", tensors)) == "weights.not_finite"
    model = {"a.weight": np.full((4, 4), np.nan, dtype=np.float32)}
    assert refusal(save(tmp_path / "m.safetensors", model)) == "weights.not_finite"


def test_two_claims_on_one_layer_are_refused(tmp_path: Path) -> None:
    both = diffusers(updates(1)) | kohya(updates(2))
    assert refusal(save(tmp_path / "a.safetensors", both)) == "weights.ambiguous"


def test_halves_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    tensors = diffusers(updates(1))
    tensors[f"unet.{LAYERS[0]}.lora.up.weight"] = np.ones((320, 3), dtype=np.float32)
    assert refusal(save(tmp_path / "a.safetensors", tensors)) == "weights.shapes"


def test_a_few_planted_layers_in_a_full_model_are_refused(tmp_path: Path) -> None:
    model: Tensors = {f"block.{i}.weight": np.ones((4, 4), dtype=np.float32) for i in range(50)}
    model |= dict(list(diffusers(updates(1)).items())[:4])
    assert refusal(save(tmp_path / "a.safetensors", model)) == "weights.mixed"


def test_an_embedding_padded_with_something_else_is_refused(tmp_path: Path) -> None:
    tensors: Tensors = {"emb_params": np.ones((2, 768), dtype=np.float32)}
    assert read(save(tmp_path / "a.safetensors", tensors)).kind is Kind.EMBEDDING
    tensors["padding"] = np.ones((500, 500), dtype=np.float32)
    assert refusal(save(tmp_path / "b.safetensors", tensors)) == "weights.mixed"


def test_the_two_text_encoders_of_sdxl_make_one_embedding(tmp_path: Path) -> None:
    small, large = np.ones((2, 768), dtype=np.float32), np.ones((2, 1280), dtype=np.float32)
    weights = read(save(tmp_path / "a.safetensors", {"clip_l": small, "clip_g": large}))
    assert (weights.kind, weights.family, weights.layer_count) == (Kind.EMBEDDING, Family.SDXL, 2)


def test_a_file_without_tensors_is_refused(tmp_path: Path) -> None:
    assert refusal(save(tmp_path / "a.safetensors", {})) == "weights.empty"


def test_a_lora_and_an_embedding_have_nothing_to_compare(tmp_path: Path) -> None:
    a = save(tmp_path / "a.safetensors", diffusers(updates(1)))
    b = save(tmp_path / "b.safetensors", {"emb_params": np.ones((2, 768), dtype=np.float32)})
    assert compare(a, b).relation is Relation.UNRELATED
    with pytest.raises(WeightsError) as caught:
        explain_merge(a, [b])
    assert caught.value.code == "weights.kinds"


# Full models.


def model(seed: int, prefix: str = "") -> Tensors:
    random = np.random.default_rng(seed)
    name = f"{prefix}down_blocks.0.attentions.0.transformer_blocks.0"
    return {
        f"{name}.attn2.to_k.weight": random.standard_normal((320, 768), dtype=np.float32),
        f"{name}.attn1.to_q.weight": random.standard_normal((320, 320), dtype=np.float32),
        f"{name}.norm1.weight": np.ones(320, dtype=np.float32),
    }


def test_a_full_model_saved_in_half_precision_is_the_same(tmp_path: Path) -> None:
    full = model(1)
    a = save(tmp_path / "a.safetensors", full)
    half = {name: array.astype(np.float16) for name, array in full.items()}
    b = save(tmp_path / "b.safetensors", half)
    found = compare(a, b)
    assert (found.kind, found.relation) == (Kind.CHECKPOINT, Relation.SAME)
    assert found.identical_tensors == 1.0
    assert found.families == (Family.SD1, Family.SD1)
    assert fingerprints(read(a).tensors) == fingerprints(read(b).tensors)


def test_a_fine_tuned_full_model_is_derived_and_another_one_is_not(tmp_path: Path) -> None:
    base, other = model(1), model(2)
    tuned = {name: base[name] + np.float32(0.05) * other[name] for name in base}
    a = save(tmp_path / "a.safetensors", base)
    assert compare(a, save(tmp_path / "t.safetensors", tuned)).relation is Relation.DERIVED
    assert compare(a, save(tmp_path / "o.safetensors", other)).relation is Relation.UNRELATED


def test_a_merge_of_full_models_is_taken_apart(tmp_path: Path) -> None:
    a, b = model(1), model(2, prefix="unet.")
    merged = {name: np.float32(0.3) * a[name] + np.float32(0.7) * b[f"unet.{name}"] for name in a}
    found = explain_merge(
        save(tmp_path / "m.safetensors", merged),
        [save(tmp_path / "a.safetensors", a), save(tmp_path / "b.safetensors", b)],
    )
    assert found.coefficients == pytest.approx((0.3, 0.7), abs=0.001)


def test_fingerprints_do_not_depend_on_names(tmp_path: Path) -> None:
    update = updates(1)
    a = read(save(tmp_path / "a.safetensors", diffusers(update)))
    b = read(save(tmp_path / "b.safetensors", kohya(update)))
    assert fingerprints(a.tensors) == fingerprints(b.tensors)
    other = read(save(tmp_path / "c.safetensors", kohya(updates(2))))
    assert not set(fingerprints(a.tensors)) & set(fingerprints(other.tensors))


# Sketches.


def test_sketches_estimate_the_cosines_of_real_loras(shared_data: Path) -> None:
    paths = sorted((shared_data / "loras").iterdir())
    stored = [sketches.unpack(sketches.pack(read(path).sketch())) for path in paths]
    for (a, sketch_a), (b, sketch_b) in combinations(zip(paths, stored, strict=True), 2):
        exact = compare(a, b).layer_cosine
        assert exact is not None
        assert abs(float(sketch_a @ sketch_b) - exact) < 0.1


def test_a_sketch_is_the_same_for_ever(tmp_path: Path) -> None:
    down = np.arange(1, 9, dtype=np.float32).reshape(2, 4)
    up = np.arange(1, 7, dtype=np.float32).reshape(3, 2)
    sketch = read(save(tmp_path / "a.safetensors", kohya({"some.layer": (down, up)}))).sketch()
    # Recorded when sketches were first stored. A change here makes every stored one worthless.
    places = np.flatnonzero(np.abs(sketch) > 1e-4)
    assert places.tolist() == RECORDED_PLACES
    assert sketch[places] == pytest.approx(RECORDED_VALUES, abs=1e-5)


RECORDED_PLACES = [19, 433, 551, 672, 855, 950, 1068, 1550, 1603, 1721, 1786, 1904]
RECORDED_VALUES = [
    0.268802,
    -0.284162,
    0.130561,
    -0.353282,
    0.522243,
    -0.176641,
    0.084481,
    0.437763,
    0.230401,
    -0.107521,
    -0.337922,
    0.153601,
]


def known(
    key: str, sketch: sketches.Sketch, state: Literal["removed", "published"] = "published"
) -> KnownModel:
    assert state in ("removed", "published")
    packed = sketches.pack(sketch)
    return KnownModel(
        key, key, key, "somebody", "removed" if state == "removed" else "published", packed
    )


def test_the_nearest_known_models_come_first_and_of_each_state(tmp_path: Path) -> None:
    random = np.random.default_rng(5)
    strangers = [
        known(f"stranger {i}", sketches.unit(random.standard_normal(2048))) for i in range(3000)
    ]
    base = sketches.unit(random.standard_normal(2048))
    copies = [
        known(f"copy {i}", sketches.unit(base + 0.002 * (i + 1) * random.standard_normal(2048)))
        for i in range(5)
    ]
    removed = known("removed", sketches.unit(base + 0.05 * random.standard_normal(2048)), "removed")
    collection = KnownCollection([*strangers, *reversed(copies), removed])
    assert collection.model_count() == 3006
    nearest = collection.nearest(base, 3)
    assert [n.model.key for n in nearest] == ["copy 0", "copy 1", "copy 2", "removed"]
    assert nearest[0].cosine > 0.99
    assert KnownCollection().nearest(base, 3) == ()


def test_a_stored_sketch_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="4096 bytes"):
        sketches.unpack(b"short")
    with pytest.raises(ValueError, match="no numbers"):
        sketches.unpack(np.full(2048, np.nan, dtype=np.float16).tobytes())
