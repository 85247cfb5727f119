"""SAM's attention in blocks against segment-anything's own."""

from __future__ import annotations

import copy

import pytest
import torch
from segment_anything.modeling.image_encoder import Attention

from robis.refinement import sam_attention
from robis.refinement.sam_attention import LeanAttention, without_score_matrices
from tests.unit.test_refinement import build_tiny


def attention(relative: bool, size: tuple[int, int]) -> Attention:
    torch.manual_seed(0)
    original = Attention(24, num_heads=3, use_rel_pos=relative, input_size=size).eval()
    for name, parameter in original.named_parameters():
        if name.startswith("rel_pos"):
            torch.nn.init.normal_(parameter, std=0.5)
    return original


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 6, 5), (4, 3, 3), (3, 1, 7)])
@pytest.mark.parametrize("scores", [1, 50, 200, 1 << 21])
def test_blocks_give_what_whole_matrices_give(
    monkeypatch: pytest.MonkeyPatch, relative: bool, batch: int, height: int, width: int, scores: int
) -> None:
    monkeypatch.setattr(sam_attention, "SCORES", scores)
    original = attention(relative, (height, width))
    tokens = torch.randn(batch, height, width, 24)
    with torch.inference_mode():
        expected = original(tokens)
        found = LeanAttention(original)(tokens)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize(("batch", "height", "width"), [(1, 6, 5), (4, 3, 3), (3, 1, 7)])
def test_what_a_gpu_computes_is_what_whole_matrices_give(
    monkeypatch: pytest.MonkeyPatch, relative: bool, batch: int, height: int, width: int
) -> None:
    monkeypatch.setattr(sam_attention, "blockwise_attention", sam_attention.fused_attention)
    original = attention(relative, (height, width))
    tokens = torch.randn(batch, height, width, 24)
    with torch.inference_mode():
        torch.testing.assert_close(LeanAttention(original)(tokens), original(tokens), rtol=0, atol=1e-6)


def test_a_table_of_other_distances_is_resampled_as_sam_does() -> None:
    original = attention(True, (6, 5))
    tokens = torch.randn(2, 4, 7, 24)
    with torch.inference_mode():
        torch.testing.assert_close(LeanAttention(original)(tokens), original(tokens), rtol=0, atol=1e-6)


def test_with_gradients_it_is_sams_own_computation() -> None:
    original = attention(True, (4, 4))
    tokens = torch.randn(1, 4, 4, 24)
    assert torch.equal(LeanAttention(original)(tokens), original(tokens))
    LeanAttention(original)(tokens).sum().backward()
    assert original.rel_pos_h.grad is not None and original.rel_pos_h.grad.abs().sum() > 0


def test_the_weights_keep_their_names_and_are_not_copied() -> None:
    sam = build_tiny()
    before = {name: tensor.data_ptr() for name, tensor in sam.state_dict().items()}
    image = torch.rand(1, 3, sam.image_encoder.img_size, sam.image_encoder.img_size)
    original = copy.deepcopy(sam).eval()
    changed = without_score_matrices(sam.eval())
    assert {name: tensor.data_ptr() for name, tensor in changed.state_dict().items()} == before
    with torch.inference_mode():
        torch.testing.assert_close(changed.image_encoder(image), original.image_encoder(image), rtol=0, atol=1e-5)
