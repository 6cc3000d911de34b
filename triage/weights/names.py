"""One name for one layer, whichever tool wrote the file.

The same update of the same layer is called, among others,

* ``unet.down_blocks.0.….attn1.to_k.lora.down.weight`` or ``….lora_A.weight`` (diffusers, peft),
* ``down_blocks.0.….attn1.processor.to_k_lora.down.weight`` (diffusers before 0.22),
* ``lora_unet_down_blocks_0_…_attn1_to_k.lora_down.weight`` (kohya-ss/sd-scripts),
* ``unet:1:down`` (cloneofsimo/lora), see ``positions.py``.

Since kohya's names cannot be split at underscores again, the common form joins with underscores:
``unet_down_blocks_0_…_attn1_to_k``.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

Role = Literal[
    "down",
    "up",
    "mid",
    "alpha",
    "magnitude",
    "other",
    "hada_w1_a",
    "hada_w1_b",
    "hada_w2_a",
    "hada_w2_b",
    "lokr_w1",
    "lokr_w1_a",
    "lokr_w1_b",
    "lokr_w2",
    "lokr_w2_a",
    "lokr_w2_b",
]


@dataclass(frozen=True, slots=True)
class Part:
    """Which layer a tensor belongs to and what it does there."""

    layer: str
    role: Role


# What the end of a name says, after ``.`` and ``:`` have become ``_``. LoHa and LoKr are the
# parametrisations of the LyCORIS library. "other" ends parts that are recognised but not used.
_ENDINGS: Final[tuple[tuple[Role, str], ...]] = (
    ("down", r"lora_(?:down|A)(?:_(?!bias)\w+?)?_weight|lora_linear_layer_down_weight|lora_down"),
    ("up", r"lora_(?:up|B)(?:_(?!bias)\w+?)?_weight|lora_linear_layer_up_weight|lora_up"),
    ("mid", r"lora_mid_weight"),
    ("alpha", r"(?:lora_)?alpha"),
    ("magnitude", r"dora_scale|lora_magnitude_vector(?:_\w+?)?"),
    ("hada_w1_a", r"hada_w1_a"),
    ("hada_w1_b", r"hada_w1_b"),
    ("hada_w2_a", r"hada_w2_a"),
    ("hada_w2_b", r"hada_w2_b"),
    ("lokr_w1_a", r"lokr_w1_a"),
    ("lokr_w1_b", r"lokr_w1_b"),
    ("lokr_w2_a", r"lokr_w2_a"),
    ("lokr_w2_b", r"lokr_w2_b"),
    ("lokr_w1", r"lokr_w1"),
    ("lokr_w2", r"lokr_w2"),
    ("other", r"diff|diff_b|hada_t[12]|lokr_t2|lora_(?:up|B)_\w*bias|w_norm|b_norm"),
)
_PARTS: Final = tuple(
    (role, re.compile(rf"(?P<layer>.+?)_(?:{ending})", re.ASCII)) for role, ending in _ENDINGS
)

# Taken off the front for as long as one fits; some tools write two ("lora_unet_unet_").
_WRAPPERS: Final = re.compile(
    r"base_model_model_|model_diffusion_model_|diffusion_model_|lycoris_|lora_(?=unet_|te|transf)"
    r"|unet_|transformer_(?!blocks_)"
)
_TEXT_ENCODERS: Final = (
    ("text_encoder_3", re.compile(r"(?:te3|text_encoder_3|text_encoders_t5xxl_transformer)_")),
    ("text_encoder_2", re.compile(r"(?:te2|text_encoder_2|text_encoders_clip_g_transformer)_")),
    ("text_encoder", re.compile(r"(?:te1?|text_encoder|text_encoders_clip_l_transformer)_")),
)
_TEXT_PROJECTION: Final = re.compile(r"self_attn_to_(q|k|v|out)$")

# The UNet of the original code has numbered blocks; diffusers groups three of them, the third
# being the change of resolution. Source: ``convert_ldm_unet_checkpoint`` in diffusers.
_NUMBERED_BLOCK: Final = re.compile(r"(input|output)_blocks_(\d+)_(\d+)_(.+)")
_MIDDLE_BLOCK: Final = re.compile(r"middle_block_(\d)_(.+)")
_RESIDUAL: Final = {
    "in_layers_0": "norm1",
    "in_layers_2": "conv1",
    "out_layers_0": "norm2",
    "out_layers_3": "conv2",
    "emb_layers_1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def parse(name: str) -> Part | None:
    """Return the layer and role that the name of a tensor stands for, or ``None``.

    ``None`` means that the name is not one of an adapter's, as with a full checkpoint.
    """
    flat = re.sub(r"[.:/]", "_", name)
    for role, pattern in _PARTS:
        if match := pattern.fullmatch(flat):
            return Part(canonical(match["layer"]), role)
    return None


def canonical(layer: str) -> str:
    """Return the common name of a layer from any tool's name for it."""
    flat = re.sub(r"[.:/]", "_", layer)
    while match := _WRAPPERS.match(flat):
        flat = flat[match.end() :]
    for encoder, prefix in _TEXT_ENCODERS:
        if match := prefix.match(flat):
            inner = flat[match.end() :].removeprefix("text_model_")
            inner = _TEXT_PROJECTION.sub(_text_projection, inner)
            return f"{encoder}_{inner}"
    inner = flat.replace("_processor_", "_").replace("_to_out_0", "_to_out")
    return f"unet_{_diffusers_block(inner)}"


def _text_projection(match: re.Match[str]) -> str:
    return f"self_attn_{match[1]}_proj"


def _diffusers_block(name: str) -> str:
    """Translate a block of the original UNet's numbering; leave other names alone."""
    if match := _NUMBERED_BLOCK.fullmatch(name):
        side, number, part, rest = match[1], int(match[2]), match[3], match[4]
        if side == "input":
            if number == 0:
                return "conv_in"
            block, layer = f"down_blocks_{(number - 1) // 3}", (number - 1) % 3
        else:
            block, layer = f"up_blocks_{number // 3}", number % 3
        if rest in ("op", "conv"):
            return f"{block}_{'down' if side == 'input' else 'up'}samplers_0_conv"
        kind = "resnets" if part == "0" else "attentions"
        return f"{block}_{kind}_{layer}_{_RESIDUAL.get(rest, rest)}"
    if match := _MIDDLE_BLOCK.fullmatch(name):
        kind = "attentions_0" if match[1] == "1" else f"resnets_{int(match[1]) // 2}"
        return f"mid_block_{kind}_{_RESIDUAL.get(match[2], match[2])}"
    return name
