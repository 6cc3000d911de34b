"""A vision transformer of open_clip, opened up at its last block.

Its embedding needs of the last block only what the class token sees, and its patches only their
values. Both are exact rearrangements of what the model computes anyway.
"""

from typing import Any

import torch
from open_clip.transformer import ResidualAttentionBlock, VisionTransformer
from torch import nn
from torch.nn.functional import linear, normalize


def has_patches(visual: nn.Module) -> bool:
    """Return whether the image side is built so that its patches can be told apart."""
    return (
        isinstance(visual, VisionTransformer)
        and visual.attn_pool is None
        and visual.proj is not None
        and visual.pool_type in ("tok", "avg")
        and isinstance(visual.transformer.resblocks[-1], ResidualAttentionBlock)
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

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return unit rows: embeddings (B, dim) and patches (B, rows, columns, dim)."""
        tokens = self.visual._embeds(pixels)
        *blocks, last = self.visual.transformer.resblocks
        for block in blocks:
            tokens = block(tokens)
        embeddings = self._pooled(last, tokens) @ self.visual.proj
        patches = self._values(last, tokens[:, 1:])
        grid = patches.unflatten(1, (self.rows, self.columns))  # type: ignore[no-untyped-call]
        return normalize(embeddings, dim=-1), normalize(grid, dim=-1)

    def _pooled(self, block: Any, tokens: torch.Tensor) -> torch.Tensor:
        if self.visual.pool_type != "tok":
            pooled: torch.Tensor = self.visual._pool(block(tokens))[0]
            return pooled
        # Only the class token leaves the last block, so only it asks, though all are asked.
        known, token = block.ln_1(tokens), tokens[:, :1]
        token = token + block.ls_1(block.attention(q_x=known[:, :1], k_x=known, v_x=known))
        token = token + block.ls_2(block.mlp(block.ln_2(token)))
        normed: torch.Tensor = self.visual.ln_post(token)[:, 0]
        return normed

    def _values(self, block: Any, tokens: torch.Tensor) -> torch.Tensor:
        attention = block.attn
        weight = attention.in_proj_weight.chunk(3)[2]
        bias = attention.in_proj_bias.chunk(3)[2]
        values = attention.out_proj(linear(block.ln_1(tokens), weight, bias))
        placed: torch.Tensor = self.visual.ln_post(values) @ self.visual.proj
        return placed
