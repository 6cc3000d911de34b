"""Which base model a file of weights is made for, told from the widths of its layers.

The layers that read the prompt are as wide as the text encoder's output, which differs between
the families: 768 (CLIP ViT-L) in Stable Diffusion 1, 1024 (OpenCLIP ViT-H) in 2, 2048 (two
encoders side by side) in SDXL. Transformers without a UNet have blocks of other names.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from triage.weights.adapter import Adapter
from triage.weights.names import canonical
from triage.weights.tensors import Shape


class Family(StrEnum):
    """Base models whose adapters fit each other."""

    SD1 = "SD1.x"
    SD2 = "SD2.x"
    SDXL = "SDXL"
    SD3 = "SD3"
    FLUX = "Flux"
    UNKNOWN = "unknown"


_CONTEXT: Final = {768: Family.SD1, 1024: Family.SD2, 2048: Family.SDXL}
_EMBEDDING: Final = {
    ("embedding_768",): Family.SD1,
    ("embedding_1024",): Family.SD2,
    ("embedding_1280",): Family.SDXL,
    ("embedding_1280", "embedding_768"): Family.SDXL,
}
_UNET: Final = ("unet_down_blocks_", "unet_mid_block_", "unet_up_blocks_")
_FLUX: Final = ("unet_single_transformer_blocks_", "unet_single_blocks_", "unet_double_blocks_")


def of_adapter(adapter: Adapter) -> Family:
    """Return the family that an adapter or an embedding is made for."""
    return _family({name: layer.down.shape[1] for name, layer in adapter.layers.items()})


def of_checkpoint(shapes: Mapping[str, Shape]) -> Family:
    """Return the family of a full model, given the shapes of its tensors."""
    return _family(
        {canonical(name.removesuffix(".weight")): s[1] for name, s in shapes.items() if len(s) > 1}
    )


def _family(widths: Mapping[str, int]) -> Family:
    """Return the family, given the input width of each layer by its common name."""
    if tuple(sorted(widths)) in _EMBEDDING:
        return _EMBEDDING[tuple(sorted(widths))]
    if any(name.startswith(_FLUX) for name in widths):
        return Family.FLUX
    if any(name.startswith("unet_joint_blocks_") or "_attn_add_k_proj" in name for name in widths):
        return Family.SD3
    contexts = {
        width
        for name, width in widths.items()
        if name.startswith(_UNET) and name.endswith(("_attn2_to_k", "_attn2_to_v"))
    }
    if len(contexts) == 1:
        return _CONTEXT.get(contexts.pop(), Family.UNKNOWN)
    if not contexts and any(name.startswith("text_encoder_2_") for name in widths):
        return Family.SDXL
    return Family.UNKNOWN
