"""A vision transformer of open_clip, opened up for export.

Its embedding needs of the last block only what the class token sees, and its patches only their
values. The blocks before it keep pictures in the first dimension and give each product its bias:
`nn.MultiheadAttention` turns its input and its output around, which the exported graph would do
with a copy each. All of it is an exact rearrangement of what the model computes anyway.
"""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn.functional import linear, normalize, scaled_dot_product_attention


def has_patches(visual: nn.Module) -> bool:
    """Return whether the image side is built so that its patches can be told apart."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.proj is not None
        and visual.pool_type in ("tok", "avg")
        and all(_is_plain(block) for block in visual.transformer.resblocks)
    )


def _is_plain(block: nn.Module) -> bool:
    return (
        isinstance(block, ResidualAttentionBlock)
        and isinstance(block.attn, nn.MultiheadAttention)
        and block.attn.in_proj_weight is not None
        and block.attn.in_proj_bias is not None
    )


class PatchedVision(nn.Module):
    """Gives the embedding and, beside it, each patch in the space of the texts.

    The patches follow MaskCLIP (Zhou et al. 2022, "Extract Free Dense Labels from CLIP"): the
    attention of the last block is skipped, and the value of each patch goes straight through the
    output projection, the last norm and the projection into the shared space.
    """

    def __init__(self, visual: Any) -> None:
        super().__init__()
        self.visual = visual
        self.rows, self.columns = visual.grid_size
        attention = visual.transformer.resblocks[-1].attn
        self.heads: int = attention.num_heads
        # Taken apart here and not in `forward`: only matrices that are constants of the exported
        # graph can be quantised.
        weights = attention.in_proj_weight.detach().chunk(3)
        biases = attention.in_proj_bias.detach().chunk(3)
        self.projections = nn.ParameterList(
            nn.Parameter(part.clone(), requires_grad=False) for part in (*weights, *biases)
        )

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit rows: embeddings (B, dim) and patches (B, rows, columns, dim)."""
        tokens = self.visual._embeds(pixels)
        *blocks, last = self.visual.transformer.resblocks
        for block in blocks:
            tokens = self._block(block, tokens)
        known = last.ln_1(tokens)
        query, key, value, query_bias, key_bias, value_bias = self.projections
        values = linear(known, value, value_bias)
        if self.visual.pool_type == "tok":
            # Only the class token leaves the last block, so only it asks, though all are asked.
            asked = linear(known[:, :1], query, query_bias)
            seen = self._attention(asked, linear(known, key, key_bias), values)
            token = tokens[:, :1] + last.ls_1(last.attn.out_proj(seen))
            token = token + last.ls_2(last.mlp(last.ln_2(token)))
            pooled = self.visual.ln_post(token)[:, 0]
        else:
            pooled = self.visual._pool(last(tokens))[0]
        placed = self.visual.ln_post(last.attn.out_proj(values[:, 1:])) @ self.visual.proj
        grid = placed.unflatten(1, (self.rows, self.columns))
        return normalize(pooled @ self.visual.proj, dim=-1), normalize(grid, dim=-1)

    def _block(self, block: Any, tokens: torch.Tensor) -> torch.Tensor:
        """Return what a block makes of tokens (B, tokens, width).

        Products run over (B x tokens, width): so each becomes one operator with its bias.
        """
        shape = tokens.shape[:2]
        known = block.ln_1(tokens).flatten(0, 1)
        asked = linear(known, block.attn.in_proj_weight, block.attn.in_proj_bias)
        seen = self._attention(*asked.unflatten(0, shape).chunk(3, dim=-1)).flatten(0, 1)
        tokens = tokens + block.ls_1(block.attn.out_proj(seen)).unflatten(0, shape)
        thought = block.mlp(block.ln_2(tokens).flatten(0, 1))
        added: torch.Tensor = tokens + block.ls_2(thought).unflatten(0, shape)
        return added

    def _attention(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        split = [
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in (query, key, value)
        ]
        return scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
