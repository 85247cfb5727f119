"""Attention of SAM's image encoder without its score matrices in memory.

SAM adds to every score a term for the distance in rows and one for that in columns (Li et al., MViTv2), and so keeps
several matrices of tokens x tokens per head: 800 MB each in the global blocks of vit_b, written and read a few times.
On a CPU scores are made, weighted and used up in blocks that stay in the cache. On a GPU, in reduced precision, the two
terms become channels of queries and keys, so that torch's fused attention computes them.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robis.encoders.without_compiler import compiler_left_out

with compiler_left_out():
    from segment_anything.modeling import Sam
    from segment_anything.modeling.image_encoder import Attention, get_rel_pos

# Scores at a time: 8 MB.
SCORES = 1 << 21


class LeanAttention(nn.Module):
    """SAM's attention with its own weights; sums are taken in another order, results agree to rounding.

    Where gradients are wanted, and in float32 on a GPU, it is SAM's own computation.
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
        on_gpu = x.device.type != "cpu"
        if torch.is_grad_enabled() or (on_gpu and not torch.is_autocast_enabled(x.device.type)):
            return self._original[0](x)
        batch, height, width, channels = x.shape
        tokens, depth = height * width, channels // self._heads
        parts = self.qkv(x).reshape(batch, tokens, 3, self._heads, depth).permute(2, 0, 3, 1, 4)
        queries, keys, values = (part.reshape(batch * self._heads, tokens, depth) for part in parts)
        terms = self._terms(queries, height, width) if self._relative else None
        attend = fused_attention if on_gpu else blockwise_attention
        attended = attend(queries, keys, values, terms, self._scale)
        joined = attended.view(batch, self._heads, height, width, depth).permute(0, 2, 3, 1, 4)
        return self.proj(joined.reshape(batch, height, width, channels))

    def _terms(self, queries: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
        """What the distance in rows (N, T, H) and in columns (N, T, W) adds to the scores of queries (N, T, C)."""
        grid = queries.view(-1, height, width, queries.shape[-1])
        rows = _relative_positions(height, self.rel_pos_h).to(queries.dtype)
        columns = _relative_positions(width, self.rel_pos_w).to(queries.dtype)
        by_row = torch.einsum("bhwc,hkc->bhwk", grid, rows)
        by_column = torch.einsum("bhwc,wkc->bhwk", grid, columns)
        return by_row.reshape(-1, height * width, height), by_column.reshape(-1, height * width, width)


def blockwise_attention(
    queries: Tensor, keys: Tensor, values: Tensor, terms: tuple[Tensor, Tensor] | None, scale: float
) -> Tensor:
    """Attention by blocks of scores that stay in a processor's cache.

    Args:
        queries, keys, values: (N, T, C), N heads.
        terms: (N, T, H) and (N, T, W) with T = H * W: added to the scores of the tokens in a row and in a column.
        scale: of the product of queries and keys.

    Returns:
        (N, T, C).
    """
    tokens = queries.shape[1]
    attended = torch.empty_like(queries)
    # Some queries of one head, or all queries of several.
    some = min(tokens, max(1, SCORES // tokens))
    heads = max(1, SCORES // (some * tokens))
    scores = torch.empty(min(heads, len(queries)) * some * tokens, dtype=queries.dtype)
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
            if terms is None:
                torch.baddbmm(block, group_queries, transposed, beta=0, alpha=scale, out=block)
            else:
                by_row, by_column = (term[group, at] for term in terms)
                grid = block.view(*shape[:2], by_row.shape[-1], by_column.shape[-1])
                torch.add(by_row[..., None], by_column[..., None, :], out=grid)
                block.baddbmm_(group_queries, transposed, alpha=scale)
            torch.softmax(block, dim=-1, out=weighted)
            attended[group, at] = torch.bmm(weighted, values[group])
    return attended


def fused_attention(
    queries: Tensor, keys: Tensor, values: Tensor, terms: tuple[Tensor, Tensor] | None, scale: float
) -> Tensor:
    """As `blockwise_attention`, by torch's fused attention, with the terms as channels.

    A query's channels are followed by its terms, a key's by a one in the place of its row and one in that of its
    column, so that the product of both is the whole score.
    """
    depth = values.shape[-1]
    if terms is not None:
        by_row, by_column = terms
        places = _places(by_row.shape[-1], by_column.shape[-1], keys.device, keys.dtype)
        queries = torch.cat((queries * scale, by_row, by_column), dim=-1)
        keys = torch.cat((keys, places.expand(len(keys), -1, -1)), dim=-1)
        # Fused kernels want as many channels of values.
        values, scale = F.pad(values, (0, places.shape[-1])), 1.0
    attended = F.scaled_dot_product_attention(queries[None], keys[None], values[None], scale=scale)[0]
    return attended[..., :depth]


def _relative_positions(size: int, table: Tensor) -> Tensor:
    """(size, size, C): the vector of each distance of a query from a key."""
    if len(table) != 2 * size - 1:
        return get_rel_pos(size, size, table)
    # SAM's own function computes the distances on the CPU each time, and a GPU waits for them.
    return table[_distances(size, table.device)]


@lru_cache(maxsize=16)
def _distances(size: int, device: torch.device) -> Tensor:
    """int64 (size, size): places in a table of relative positions."""
    with torch.inference_mode(False):
        places = torch.arange(size, device=device)
        return places[:, None] - places + size - 1


@lru_cache(maxsize=16)
def _places(height: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(H * W, H + W): a one for the row of each token and one for its column."""
    with torch.inference_mode(False):
        rows, columns = (torch.eye(size, device=device, dtype=dtype) for size in (height, width))
        return torch.cat((rows.repeat_interleave(width, 0), columns.repeat(height, 1)), dim=1)


def without_score_matrices(sam: Sam) -> Sam:
    """Let the image encoder of a SAM attend by `LeanAttention`; the weights stay, nothing is copied."""
    for block in sam.image_encoder.blocks:
        block.attn = LeanAttention(block.attn)
    return sam
