"""Attention of SAM's image encoder on the CPU, without its score matrices in memory.

SAM adds to every score a term for the distance in rows and one for that in columns (Li et al., MViTv2), and so keeps
several matrices of tokens x tokens per head: 800 MB each in the global blocks of vit_b, written and read a few times.
Here scores are made, weighted and used up in blocks that stay in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from robis.encoders.without_compiler import compiler_left_out

with compiler_left_out():
    from segment_anything.modeling import Sam
    from segment_anything.modeling.image_encoder import Attention, get_rel_pos

# Scores at a time: 8 MB.
SCORES = 1 << 21


class BlockwiseAttention(nn.Module):
    """SAM's attention with its own weights; sums are taken in another order, results agree to rounding.

    On a GPU, or where gradients are wanted, it is SAM's own computation.
    """

    def __init__(self, original: Attention) -> None:
        super().__init__()
        # Under the same names, so that a state dict fits both.
        self.qkv, self.proj = original.qkv, original.proj
        if original.use_rel_pos:
            self.rel_pos_h, self.rel_pos_w = original.rel_pos_h, original.rel_pos_w
        self._heads, self._scale, self._relative = original.num_heads, original.scale, original.use_rel_pos
        # In a tuple, which is no submodule: the weights are registered above.
        self._original = (original,)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, H, W, C) to tokens (B, H, W, C)."""
        if x.device.type != "cpu" or torch.is_grad_enabled():
            return self._original[0](x)
        batch, height, width, channels = x.shape
        tokens, depth = height * width, channels // self._heads
        parts = self.qkv(x).reshape(batch, tokens, 3, self._heads, depth).permute(2, 0, 3, 1, 4)
        queries, keys, values = (part.reshape(batch * self._heads, tokens, depth) for part in parts)
        attended = torch.empty_like(queries)
        by_row = by_column = None
        if self._relative:
            grid = queries.view(-1, height, width, depth)
            rows = get_rel_pos(height, height, self.rel_pos_h)
            columns = get_rel_pos(width, width, self.rel_pos_w)
            by_row = torch.einsum("bhwc,hkc->bhwk", grid, rows).reshape(-1, tokens, height, 1)
            by_column = torch.einsum("bhwc,wkc->bhwk", grid, columns).reshape(-1, tokens, 1, width)
        # Some queries of one head, or all queries of several.
        some = min(tokens, max(1, SCORES // tokens))
        heads = max(1, SCORES // (some * tokens))
        scores = torch.empty(min(heads, len(queries)) * some * tokens, dtype=x.dtype)
        weights = torch.empty_like(scores)
        for first in range(0, len(queries), heads):
            group = slice(first, first + heads)
            transposed = keys[group].transpose(1, 2)
            for start in range(0, tokens, some):
                at = slice(start, start + some)
                group_queries = queries[group, at]
                shape = (*group_queries.shape[:2], tokens)
                size = shape[0] * shape[1] * tokens
                block, weighted = scores[:size].view(shape), weights[:size].view(shape)
                if by_row is None or by_column is None:
                    torch.baddbmm(block, group_queries, transposed, beta=0, alpha=self._scale, out=block)
                else:
                    torch.add(by_row[group, at], by_column[group, at], out=block.view(*shape[:2], height, width))
                    block.baddbmm_(group_queries, transposed, alpha=self._scale)
                torch.softmax(block, dim=-1, out=weighted)
                attended[group, at] = torch.bmm(weighted, values[group])
        joined = attended.view(batch, self._heads, height, width, depth).permute(0, 2, 3, 1, 4)
        return self.proj(joined.reshape(batch, height, width, channels))


def without_score_matrices(sam: Sam) -> Sam:
    """Let the image encoder of a SAM compute its attention in blocks; the weights stay, nothing is copied."""
    for block in sam.image_encoder.blocks:
        block.attn = BlockwiseAttention(block.attn)
    return sam
