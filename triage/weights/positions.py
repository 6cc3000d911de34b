"""Names for the layers of cloneofsimo/lora, which only counts them.

Its files say ``unet:17:down``: the 18th linear layer that the tool met on its way through the
network. The way is the order in which diffusers 0.10 to 0.14 defined the blocks, so that the
names can be told from the numbers, and the layers' widths say whether that is true of a file.

Source: ``lora_diffusion/lora.py`` (``_find_modules_v2``) and diffusers' ``UNet2DConditionModel``.
"""

import re
from collections.abc import Mapping
from typing import Final

Shape = tuple[int, ...]

POSITION: Final = re.compile(r"(unet|text_encoder):(\d{1,4}):(up|down)")

_BLOCKS: Final = (
    *(f"down_blocks_{block}_attentions_{layer}" for block in range(3) for layer in range(2)),
    *(f"up_blocks_{block}_attentions_{layer}" for block in range(1, 4) for layer in range(3)),
    "mid_block_attentions_0",
)
_PROJECTIONS: Final = ("to_q", "to_k", "to_v", "to_out")
_SELF: Final = tuple(f"attn1_{projection}" for projection in _PROJECTIONS)
_CROSS: Final = tuple(f"attn2_{projection}" for projection in _PROJECTIONS)
# With and without the feed-forward's first layer, which later versions of the tool include.
_LAYERS_OF_BLOCK: Final = ((*_SELF, "ff_net_0_proj", *_CROSS), (*_SELF, *_CROSS))
_TEXT_LAYERS: Final = tuple(
    f"encoder_layers_{layer}_self_attn_{projection}_proj"
    for layer in range(12)
    for projection in ("k", "v", "q", "out")
)
_CONTEXT_WIDTHS: Final = (768, 1024)  # Stable Diffusion 1 and 2


def layer_names(shapes: Mapping[str, Shape]) -> Mapping[str, str]:
    """Return ``{"unet:17": "unet_down_blocks_…"}`` for a file's tensors, given their shapes.

    Where the widths do not fit the known networks the number stays the name (``unet_17``), so
    that such files can still be compared with each other.
    """
    widths: dict[str, dict[int, int]] = {"unet": {}, "text_encoder": {}}
    for name, shape in shapes.items():
        match = POSITION.fullmatch(name)
        if match and match[3] == "down" and len(shape) >= 2:
            widths[match[1]][int(match[2])] = shape[1]
    names = {
        f"{component}:{index}": f"{component}_{index}"
        for component, of_component in widths.items()
        for index in of_component
    }
    unet = widths["unet"]
    for layers in _LAYERS_OF_BLOCK:
        if _is_known_unet(unet, layers):
            for index in unet:
                block, layer = divmod(index, len(layers))
                names[f"unet:{index}"] = (
                    f"unet_{_BLOCKS[block]}_transformer_blocks_0_{layers[layer]}"
                )
    text_encoder = widths["text_encoder"]
    if sorted(text_encoder) == list(range(len(_TEXT_LAYERS))):
        for index, name in enumerate(_TEXT_LAYERS):
            names[f"text_encoder:{index}"] = f"text_encoder_{name}"
    return names


def _is_known_unet(widths: Mapping[int, int], layers: tuple[str, ...]) -> bool:
    """Tell whether the input widths are those of the known blocks: only two see the text."""
    if sorted(widths) != list(range(len(_BLOCKS) * len(layers))):
        return False
    sees_text = [
        index for index in widths if layers[index % len(layers)] in ("attn2_to_k", "attn2_to_v")
    ]
    contexts = {widths[index] for index in sees_text}
    others = {width for index, width in widths.items() if index not in sees_text}
    return len(contexts) == 1 and contexts <= set(_CONTEXT_WIDTHS) and others <= {320, 640, 1280}
