"""How adapters and embeddings are compared: names, updates, relations and merges."""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from tests.weight_files import (
    LAYERS,
    Matrix,
    Tensors,
    Update,
    diffusers,
    diffusers_old,
    kohya,
    mix,
    peft,
    save,
    updates,
)
from triage.compare import Relation, compare, explain_merge
from triage.weights.errors import WeightsError
from triage.weights.families import Family
from triage.weights.names import canonical, parse
from triage.weights.reading import Kind, read

# Real files.


def test_the_same_lora_under_other_key_names_is_the_same(shared_data: Path) -> None:
    loras = shared_data / "loras"
    found = compare(loras / "timohavdk_new.safetensors", loras / "timohavdk_2100-lora.safetensors")
    assert found.relation is Relation.SAME
    assert found.cosine is not None and found.cosine >= 0.9999
    assert found.layers == (128, 128, 128)


def test_an_earlier_checkpoint_of_one_training_run_is_the_same(shared_data: Path) -> None:
    loras = shared_data / "loras"
    found = compare(
        loras / "timohavdk_new.safetensors", loras / "timohavdk_pytorch_lora_weights.safetensors"
    )
    assert found.relation is Relation.SAME
    assert found.cosine is not None and 0.95 <= found.cosine < 0.999
    assert found.identical_tensors == 0.0


def test_all_unrelated_real_loras_are_unrelated(shared_data: Path) -> None:
    paths = sorted((shared_data / "loras").iterdir())
    pairs = [(a, b) for a, b in combinations(paths, 2) if not a.name[:5] == b.name[:5] == "timoh"]
    assert len(pairs) == 18
    for a, b in pairs:
        found = compare(a, b)
        assert found.relation is Relation.UNRELATED
        assert found.cosine is not None and abs(found.cosine) <= 0.05
        assert min(found.layers) >= 128  # they do have layers in common: four ways of naming them


def test_two_files_of_one_name_can_be_two_loras(shared_data: Path) -> None:
    loras = shared_data / "loras"
    found = compare(loras / "catundchat.bin", loras / "catundchat.safetensors")
    assert found.relation is Relation.UNRELATED
    assert found.families == (Family.SD1, Family.SD1)


def test_embeddings_in_all_layouts_are_read(shared_data: Path) -> None:
    vectors = {}
    for path in (shared_data / "embeddings").iterdir():
        weights = read(path)
        assert (weights.kind, weights.family) == (Kind.EMBEDDING, Family.SD1)
        assert weights.adapter is not None
        vectors[path.stem] = weights.adapter.vectors
    assert vectors == {
        "EasyNegative": 8,
        "EasyNegativeV2": 16,
        "bad-hands-5": 2,
        "badhandv4": 6,
        "invokeai_test_embedding": 5,
        "learned_embeds_fastai": 1,
        "negative_hand-neg": 8,
    }


def test_only_the_two_editions_of_one_real_embedding_are_related(shared_data: Path) -> None:
    related = [
        (a.stem, b.stem)
        for a, b in combinations(sorted((shared_data / "embeddings").iterdir()), 2)
        if compare(a, b).relation is not Relation.UNRELATED
    ]
    assert related == [("EasyNegative", "EasyNegativeV2")]


def test_a_merge_of_two_real_loras_is_taken_apart(shared_data: Path, tmp_path: Path) -> None:
    parts = [
        shared_data / "loras" / name for name in ("catundchat.bin", "timohavdk_new.safetensors")
    ]
    tensors: Tensors = {}
    adapters = [read(path).adapter for path in parts]
    first, second = (adapter.layers for adapter in adapters if adapter is not None)
    for layer, a in first.items():
        b = second[layer]
        tensors[f"lora_{layer}.lora_down.weight"] = np.concatenate([a.down, b.down])
        tensors[f"lora_{layer}.lora_up.weight"] = np.concatenate([0.6 * a.up, 0.4 * b.up], axis=1)
    merged = save(tmp_path / "merged.safetensors", tensors)
    found = explain_merge(merged, parts)
    assert found.coefficients == pytest.approx((0.6, 0.4), abs=0.001)
    assert found.unexplained < 1e-5
    assert compare(merged, parts[1]).relation is not Relation.UNRELATED


# Names.


@pytest.mark.parametrize("write", [diffusers, diffusers_old, peft, kohya])
def test_every_naming_scheme_means_the_same_layers(tmp_path: Path, write: object) -> None:
    assert callable(write)
    update = updates(1)
    a = save(tmp_path / "a.safetensors", diffusers(update))
    b = save(tmp_path / "b.safetensors", write(update))
    found = compare(a, b)
    assert found.layers == (len(LAYERS),) * 3
    assert found.cosine == pytest.approx(1.0, abs=1e-6)
    assert found.families == (Family.SD1, Family.SD1)


def test_the_numbered_layers_of_real_files_get_the_names_of_the_others(shared_data: Path) -> None:
    loras = shared_data / "loras"
    numbered = read(loras / "analog_svd_rank4.safetensors").adapter
    named = read(loras / "timohavdk_new.safetensors").adapter
    assert numbered is not None and named is not None
    assert set(named.layers) < set(numbered.layers)
    for name, layer in named.layers.items():
        assert layer.down.shape[1] == numbered.layers[name].down.shape[1]
        assert layer.up.shape[0] == numbered.layers[name].up.shape[0]


@pytest.mark.parametrize(
    ("numbered", "named"),
    [
        ("input_blocks_4_1_transformer_blocks_0_attn1_to_q", "down_blocks_1_attentions_0"),
        ("input_blocks_8_1_transformer_blocks_0_attn1_to_q", "down_blocks_2_attentions_1"),
        ("middle_block_1_transformer_blocks_0_attn1_to_q", "mid_block_attentions_0"),
        ("output_blocks_3_1_transformer_blocks_0_attn1_to_q", "up_blocks_1_attentions_0"),
    ],
)
def test_numbered_blocks_become_those_of_diffusers(numbered: str, named: str) -> None:
    expected = f"unet_{named}_transformer_blocks_0_attn1_to_q"
    assert canonical(f"lora_unet_{numbered}") == expected
    assert canonical(f"model.diffusion_model.{numbered}") == expected


@pytest.mark.parametrize(
    "name",
    [
        "lora_te_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight",
        "lora_te1_text_model_encoder_layers_3_self_attn_q_proj.lora_up.weight",
        "text_encoder.text_model.encoder.layers.3.self_attn.q_proj.lora_linear_layer.up.weight",
        "text_encoder.text_model.encoder.layers.3.self_attn.to_q_lora.up.weight",
        "text_encoder.text_model.encoder.layers.3.self_attn.q_proj.lora_B.weight",
    ],
)
def test_layers_of_the_text_encoder_have_one_name(name: str) -> None:
    part = parse(name)
    assert part is not None
    assert (part.layer, part.role) == ("text_encoder_encoder_layers_3_self_attn_q_proj", "up")


def test_names_of_full_models_are_no_parts_of_adapters() -> None:
    assert parse("model.diffusion_model.input_blocks.4.1.proj_in.weight") is None
    assert parse("alphas_cumprod") is None


# What does not hide a copy, and what does not make one.


def relation(tmp_path: Path, a: Tensors, b: Tensors) -> Relation:
    found = compare(save(tmp_path / "a.safetensors", a), save(tmp_path / "b.safetensors", b))
    json.dumps(found.as_dict())
    return found.relation


def test_mixing_rescaling_and_halving_precision_hide_nothing(tmp_path: Path) -> None:
    update = updates(1)
    random = np.random.default_rng(9)
    disguised: Update = {}
    for layer, (down, up) in update.items():
        mixer = random.standard_normal((4, 4)).astype(np.float32)
        disguised[layer] = (mixer @ down, 3 * up @ np.linalg.inv(mixer))
    tensors: Tensors = {n: array.astype(np.float16) for n, array in kohya(disguised, 2.0).items()}
    assert relation(tmp_path, diffusers(update), tensors) is Relation.SAME


def test_one_layer_of_huge_values_hides_nothing(tmp_path: Path) -> None:
    update = updates(1)
    decoy = diffusers(update)
    decoy["unet.nowhere.lora.down.weight"] = np.full((1, 320), 1e6, dtype=np.float32)
    decoy["unet.nowhere.lora.up.weight"] = np.full((320, 1), 1e6, dtype=np.float32)
    path = save(tmp_path / "decoy.safetensors", decoy)
    found = compare(save(tmp_path / "a.safetensors", diffusers(update)), path)
    assert found.cosine is not None and found.cosine < 0.01
    assert found.layer_cosine == pytest.approx(1.0)
    assert found.relation is Relation.DERIVED
    original = read(tmp_path / "a.safetensors").sketch()
    assert float(original @ read(path).sketch()) > 0.9


def test_a_subtracted_model_is_derived(tmp_path: Path) -> None:
    update = updates(1)
    negative = {layer: (down, -up) for layer, (down, up) in update.items()}
    assert relation(tmp_path, diffusers(update), diffusers(negative)) is Relation.DERIVED


def test_noise_on_the_factors_leaves_a_relative(tmp_path: Path) -> None:
    update, noise = updates(1), updates(2)
    noisy: Update = {
        layer: (down + noise[layer][0] / 2, up + noise[layer][1] / 2)
        for layer, (down, up) in update.items()
    }
    assert relation(tmp_path, diffusers(update), diffusers(noisy)) is Relation.DERIVED


def test_two_random_updates_are_unrelated(tmp_path: Path) -> None:
    assert relation(tmp_path, diffusers(updates(1)), kohya(updates(2))) is Relation.UNRELATED


def test_alpha_scales_each_layer(tmp_path: Path) -> None:
    update = updates(1)
    a = save(tmp_path / "a.safetensors", diffusers(update))
    b = save(tmp_path / "b.safetensors", kohya(update, alpha=1.0))
    assert explain_merge(b, [a]).coefficients == pytest.approx((1.0,), abs=1e-5)


def test_other_base_models_are_told_from_the_widths(tmp_path: Path) -> None:
    families = []
    for context in (768, 1024, 2048, 1152):
        tensors = diffusers(updates(1, context=context))
        families.append(read(save(tmp_path / f"{context}.safetensors", tensors)).family)
    assert families == [Family.SD1, Family.SD2, Family.SDXL, Family.UNKNOWN]
    pair = np.ones((2, 4), dtype=np.float32), np.ones((4, 2), dtype=np.float32)
    flux = kohya({"single_blocks.0.linear1": pair})
    assert read(save(tmp_path / "flux.safetensors", flux)).family is Family.FLUX
    sd3 = kohya({"joint_blocks.0.context_block.attn.qkv": pair})
    assert read(save(tmp_path / "sd3.safetensors", sd3)).family is Family.SD3


def test_an_adapter_for_another_base_model_says_so(tmp_path: Path) -> None:
    a = save(tmp_path / "a.safetensors", diffusers(updates(1)))
    b = save(tmp_path / "b.safetensors", diffusers(updates(1, context=2048)))
    assert any("different base models" in reason for reason in compare(a, b).reasons)


# The other parametrisations, against the update multiplied out.


def multiplied(path: Path, layer: str) -> Matrix:
    adapter = read(path).adapter
    assert adapter is not None
    found = adapter.layers[layer]
    return found.scale * found.up @ found.down


def test_loha_lokr_and_convolutions_are_brought_to_low_rank_exactly(tmp_path: Path) -> None:
    random = np.random.default_rng(3)

    def matrix(*shape: int) -> Matrix:
        return random.standard_normal(shape, dtype=np.float32)

    a, b, c, d = matrix(6, 2), matrix(2, 8), matrix(6, 2), matrix(2, 8)
    whole, left, right = matrix(2, 4), matrix(3, 2), matrix(2, 5)
    down, core, up = matrix(2, 5, 1, 1), matrix(3, 2, 3, 3), matrix(4, 3, 1, 1)
    tensors: Tensors = {
        "lora_unet_one.hada_w1_a": a,
        "lora_unet_one.hada_w1_b": b,
        "lora_unet_one.hada_w2_a": c,
        "lora_unet_one.hada_w2_b": d,
        "lora_unet_one.alpha": np.array(1.0, dtype=np.float32),
        "lora_unet_two.lokr_w1": whole,
        "lora_unet_two.lokr_w2_a": left,
        "lora_unet_two.lokr_w2_b": right,
        "lora_unet_three.lora_down.weight": down,
        "lora_unet_three.lora_mid.weight": core,
        "lora_unet_three.lora_up.weight": up,
    }
    path = save(tmp_path / "a.safetensors", tensors)
    np.testing.assert_allclose(multiplied(path, "unet_one"), (a @ b) * (c @ d) / 2, atol=1e-5)
    np.testing.assert_allclose(
        multiplied(path, "unet_two"), np.kron(whole, left @ right), atol=1e-5
    )
    kernel = np.einsum("or,rshw,si->oihw", up[:, :, 0, 0], core, down[:, :, 0, 0])
    np.testing.assert_allclose(multiplied(path, "unet_three"), kernel.reshape(4, -1), atol=1e-5)


# Merges.


def test_a_merge_is_recovered_and_what_is_new_is_reported(tmp_path: Path) -> None:
    a, b, new = updates(1), updates(2), updates(3)
    paths = [
        save(tmp_path / "a.safetensors", diffusers(a)),
        save(tmp_path / "b.safetensors", kohya(b)),
    ]
    merged = save(tmp_path / "m.safetensors", peft(mix([(0.6, a), (0.4, b)])))
    found = explain_merge(merged, paths)
    assert found.coefficients == pytest.approx((0.6, 0.4), abs=0.001)
    assert found.unexplained < 1e-6
    trained = save(tmp_path / "t.safetensors", peft(mix([(0.6, a), (0.4, b), (0.4, new)])))
    further = explain_merge(trained, paths)
    assert further.coefficients == pytest.approx((0.6, 0.4), abs=0.01)
    # Random updates are as good as orthogonal, so that the energies add up.
    assert further.unexplained == pytest.approx(0.16 / (0.36 + 0.16 + 0.16), abs=0.02)


def test_a_part_given_twice_shares_its_coefficient(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", diffusers(updates(1)))
    found = explain_merge(path, [path, path])
    assert sum(found.coefficients) == pytest.approx(1.0)
    assert found.unexplained < 1e-6


def test_nothing_explains_a_model_that_changes_nothing(tmp_path: Path) -> None:
    path = save(tmp_path / "a.safetensors", diffusers(updates(1)))
    null = {name: 0 * array for name, array in diffusers(updates(1)).items()}
    with pytest.raises(WeightsError) as caught:
        explain_merge(save(tmp_path / "null.safetensors", null), [path])
    assert caught.value.code == "weights.null"
