"""What a GPU computes. ROBIS_GPU_TESTS=cpu rehearses it on a CPU, with Triton's interpreter for the kernel."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.sam_models import coarse_mask, random_sam
from robis.detectors.memory_bank.bank import Bank
from robis.detectors.musc import nearest
from robis.detectors.musc.nearest import plan_memory
from robis.detectors.patchcore.coreset import k_center
from robis.detectors.reconstruction.loop import TrainingState, train
from robis.detectors.superadd.thinning import select
from robis.refinement.sam import SamRefiner
from tests.unit.test_musc import PLENTY, random_tokens, scores_of
from tests.unit.test_training import LOSS, RECIPE, small_model

DEVICE = torch.device(os.environ.get("ROBIS_GPU_TESTS", "cuda"))
REHEARSED = DEVICE.type == "cpu"
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not REHEARSED and not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("compiled", [False, True])
def test_bf16_training(tmp_path: Path, rng: np.random.Generator, compiled: bool) -> None:
    tiles = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    recipe = replace(RECIPE, precision="bf16", compile=compiled)
    model = small_model().to(DEVICE)
    rows = train(model, LOSS, tiles, recipe, TrainingState(tmp_path / "state.pt", tmp_path / "events", "gpu"))
    assert np.isfinite(rows["loss"]).all()
    assert rows["loss"].iloc[-1] < rows["loss"].iloc[0]


def test_training_goes_on_from_its_state(tmp_path: Path, rng: np.random.Generator, caplog) -> None:
    """The state is read on the CPU, and weights and the optimizer's values go to the device."""
    tiles = rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)
    recipe = replace(RECIPE, checkpoint_every=3, steps=5)
    state = TrainingState(tmp_path / "state.pt", tmp_path / "events", "gpu")
    caplog.set_level("INFO")
    whole, rest = (train(small_model().to(DEVICE), LOSS, tiles, recipe, state)["loss"] for _ in range(2))
    assert "Resuming at step 3" in caplog.text
    assert rest[:3].tolist() == whole[:3].tolist()
    np.testing.assert_allclose(rest, whole, rtol=1e-3)


def clumps(count: int, width: int, *, offset: float, seed: int = 0) -> torch.Tensor:
    """Tokens in clumps, so that some have many near neighbors and some none."""
    generator = torch.Generator().manual_seed(seed)
    centers = 4 * torch.randn(max(1, count // 12), width, generator=generator)
    spread = 0.05 + torch.rand(len(centers), 1, generator=generator)
    owner = torch.randint(len(centers), (count,), generator=generator)
    return centers[owner] + spread[owner] * torch.randn(count, width, generator=generator) + offset


def test_distances_and_choice_of_superadd() -> None:
    bank, queries = clumps(20_000, 64, offset=100), clumps(3_000, 64, offset=100, seed=1)
    if REHEARSED:
        bank, queries = bank[:3_000], queries[:300]
    distances = Bank.of(bank.to(DEVICE)).nearest(queries.to(DEVICE)).cpu().double()
    exact = torch.cdist(queries.double(), bank.double(), compute_mode="donot_use_mm_for_euclid_dist").min(1).values
    torch.testing.assert_close(distances, exact, rtol=0, atol=1e-3)
    part = bank[:2000]
    chosen = [
        select(tokens, 300, neighbors=20, radius_growth=1.1, rng=np.random.default_rng(0))
        for tokens in (part, part.to(DEVICE))
    ]
    assert len(set(chosen[0].tolist()) & set(chosen[1].tolist())) > 295


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_kernel_of_musc(dtype: torch.dtype) -> None:
    kernel = pytest.importorskip("robis.detectors.musc.kernel", exc_type=ImportError)
    fused, tokens, width = kernel.pair_maxima, 1369, 1024
    if REHEARSED:
        if os.environ.get("TRITON_INTERPRET") != "1" or dtype == torch.bfloat16:
            pytest.skip("needs TRITON_INTERPRET=1, which multiplies no bfloat16")
        fused, tokens, width = partial(fused, launch=kernel.Launch(16, 16, 16, 4, 2)), 37, 24
    generator = torch.Generator().manual_seed(0)
    x, y = (F.normalize(torch.randn(3, tokens, width, generator=generator), dim=-1).to(DEVICE, dtype) for _ in range(2))
    # Every second row, as of a selection: pairs need not be contiguous.
    pairs = torch.cartesian_prod(torch.arange(3), torch.arange(3)).repeat(1, 2).int().to(DEVICE)
    pairs = pairs.repeat_interleave(2, 0)[::2]
    results = []
    for products in (fused, nearest.pair_maxima):
        rows, cols = (torch.full((3, 3, tokens), -2.0, device=DEVICE) for _ in range(2))
        products(x, y, pairs, rows, cols)
        results.append((rows.cpu(), cols.cpu()))
    for found, expected in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    exact = torch.einsum("atc,bsc->abts", x.double(), y.double())
    torch.testing.assert_close(results[0][0].double(), exact.amax(3).cpu(), rtol=0, atol=1e-5)
    torch.testing.assert_close(results[0][1].double(), exact.amax(2).transpose(0, 1).cpu(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("share", [2.0, 0.5, 0.01])
def test_scores_of_musc(share: float) -> None:
    raw = random_tokens(2, 9, grid=9, width=64)
    memory = int(share * plan_memory(np.arange(9), 81, 64, 4, PLENTY).bytes)
    options = {
        "memory": memory,
        "scratch": lambda shape, kind: torch.empty(shape, dtype=kind),
        "device": DEVICE,
    }
    torch.testing.assert_close(scores_of(raw, **options), scores_of(raw), rtol=0, atol=1e-5)
    for dtype, error in ((torch.float16, 1e-3), (torch.bfloat16, 1e-2)):
        torch.testing.assert_close(scores_of(raw, **options, dtype=dtype), scores_of(raw), rtol=0, atol=error)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_sam_in_mixed_precision_is_near_float32(precision: str) -> None:
    sam = random_sam("tiny").to(DEVICE)
    image = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
    coarse = coarse_mask(90, 120)
    exact = SamRefiner(sam, 3, False)(image, coarse)
    assert exact.any() and not exact.all()
    assert (SamRefiner(sam, 3, False, precision)(image, coarse) != exact).mean() < 0.05


def test_a_coreset_is_that_of_the_cpu(rng: np.random.Generator) -> None:
    points, starts = torch.from_numpy(rng.standard_normal((5000, 128)).astype(np.float32)), np.arange(10)
    assert k_center(points.to(DEVICE), 300, starts).tolist() == k_center(points, 300, starts).tolist()
