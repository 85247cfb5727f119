"""Nothing that a GPU computes mixes its tensors with those of the CPU.

No GPU is needed: torch's fake tensors have a device, which every operation checks, but no values. They have no backward
pass without a GPU; there the device "meta" stands for it, on which most operations check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.sam_models import random_sam
from robis.detectors.batches import in_passes
from robis.detectors.dinomaly.model import Dinomaly, DinomalyLoss
from robis.detectors.inp_former.model import InpFormer, InpFormerLoss
from robis.detectors.jobs import Compute
from robis.detectors.memory_bank.bank import Bank, neighbor_distances
from robis.detectors.musc.nearest import lowest_mean, nearest_cosines
from robis.detectors.musc.nearest import pair_maxima as plain_pair_maxima
from robis.detectors.musc.scores import Scoring, layer_norm, lnamd, token_store
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.reconstruction.optimizer import StableAdamW
from robis.detectors.subspace.infer import token_maps as subspace_maps
from robis.detectors.subspace.pca import Moments, Subspace
from robis.detectors.subspace.tokens import joint_tokens
from robis.detectors.superadd.joined import Joining, joined_tokens
from robis.detectors.superadd.maps import token_maps
from robis.detectors.winclip.scores import score
from robis.detectors.winclip.scores import tile_maps as winclip_maps
from robis.detectors.winclip.tiles import embed
from robis.detectors.winclip.windows import field_of
from robis.encoders import cnn as cnn_encoders
from robis.encoders.build import build_encoder
from robis.encoders.clip import build_clip_encoder
from robis.encoders.encoder import Encoder
from tests import tiny_clip

GPU = torch.device("cuda", 0)
SIDE, BATCH, MAP = 32, 2, 16
pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch was built without CUDA")


@pytest.fixture
def fake() -> Iterator[FakeTensorMode]:
    with FakeTensorMode() as mode, torch.inference_mode():
        yield mode


def on_gpu(module: Any) -> Any:
    """A module whose parameters and buffers are fake tensors on a GPU: `Module.to` cannot swap them."""
    for part in module.modules():
        for kind in (part._parameters, part._buffers):
            for name, value in kind.items():
                if value is not None:
                    moved = torch.empty(value.shape, dtype=value.dtype, device=GPU)
                    kind[name] = nn.Parameter(moved, value.requires_grad) if isinstance(value, nn.Parameter) else moved
    return module


def random(*shape: int) -> Tensor:
    return torch.empty(shape, device=GPU)


def tiles(side: int = SIDE) -> Tensor:
    return torch.empty(BATCH, side, side, 3, dtype=torch.uint8, device=GPU)


def vit(**options: Any) -> Encoder:
    return build_encoder("vit_tiny_patch16_224", weights="random", input_size=SIDE, blocks=[0, 1], **options)


# Built before the fake mode begins, in which values cannot be computed.
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "ViT": vit,
    "DINOv2 with registers": lambda: build_encoder("dinov2_reg_vits14", weights="random", input_size=28, blocks=[0, 1]),
    "DINOv3": lambda: build_encoder("vit_small_patch16_dinov3", weights="random", input_size=SIDE, blocks=[0, 1]),
    "CNN": lambda: build_encoder("resnet18", weights="random", input_size=64),
    "CNN with equal widths": lambda: build_encoder("resnet18", weights="random", input_size=64, equal_widths=True),
}


def test_a_tensor_left_on_the_cpu_is_noticed(fake: FakeTensorMode) -> None:
    with pytest.raises(RuntimeError, match=r"cuda:0 and cpu"):
        random(3) + torch.ones(3)


@pytest.mark.parametrize("name", ENCODERS)
def test_encoders(name: str) -> None:
    encoder = ENCODERS[name]()
    with FakeTensorMode(), torch.inference_mode():
        on_gpu(encoder)
        part = tiles(encoder.input_size)
        tokens, embedding = encoder.with_embedding(part)
        for values in (*encoder(part), *encoder.with_prefix(part), *tokens, embedding):
            assert values.device == GPU and len(values) == BATCH


@pytest.mark.parametrize("model", [InpFormer, Dinomaly])
def test_maps_of_reconstruction(model: Callable[[Encoder], Any]) -> None:
    network = model(vit()).eval()
    with FakeTensorMode(), torch.inference_mode():
        on_gpu(network)
        compute = Compute(batch_size=4)
        (maps,) = in_passes(lambda part: tile_maps(network, part, MAP), tiles(), compute)
        assert maps.device == GPU and maps.shape == (4, MAP, MAP)


@pytest.mark.parametrize(
    ("model", "loss"),
    [(InpFormer, InpFormerLoss(0.2, 3.0)), (Dinomaly, DinomalyLoss(rise=1))],
    ids=["inp_former", "dinomaly"],
)
def test_a_step_of_training(
    model: Callable[[Encoder], Any], loss: Callable[..., tuple[Tensor, Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # "meta" has no mixed precision.
    monkeypatch.setattr(torch, "autocast", lambda *arguments, **options: nullcontext())
    network = model(vit()).to("meta").train()
    batch = torch.empty(BATCH, SIDE, SIDE, 3, dtype=torch.uint8, device="meta")
    value, coherence = loss(network(batch), 3)
    value.backward()
    parameters = [p for p in network.parameters() if p.requires_grad]
    assert {str(p.grad.device) for p in parameters if p.grad is not None} == {"meta"}
    assert all(p.grad is not None for p in parameters)
    StableAdamW(parameters).step()
    assert str(value.device) == str(coherence.device) == "meta"


def test_superadd(fake: FakeTensorMode) -> None:
    bank = Bank.of(random(30, 8))
    assert bank.nearest(random(20, 8)).device == GPU
    assert neighbor_distances(random(30, 8), 5).device == GPU
    assert token_maps([random(2, 4, 4), random(2, 2, 2)], (MAP, MAP), 2.0).device == GPU


def test_superadd_of_whole_images() -> None:
    encoder = vit()
    with FakeTensorMode(), torch.inference_mode():
        image = torch.empty(70, 90, 3, dtype=torch.uint8, device=GPU)
        tokens = joined_tokens(on_gpu(encoder), image, Joining(0.75, 0.25), Compute(batch_size=4), 1.1)
        assert [str(block.device) for block in tokens] == ["cuda:0"] * 2


def test_subspace() -> None:
    encoder = vit()
    with FakeTensorMode(), torch.inference_mode():
        tokens = joint_tokens(on_gpu(encoder), tiles())
        moments = Moments.of([tokens.flatten(0, 1), tokens.flatten(0, 1)])
        assert moments.covariance.device == moments.mean.device == GPU
        subspace = Subspace(random(encoder.width), random(5, encoder.width))
        assert subspace_maps(subspace.distances(tokens).unflatten(1, (2, 2)), MAP).device == GPU


@pytest.mark.parametrize("on_disk", [False, True])
def test_musc(fake: FakeTensorMode, on_disk: bool) -> None:
    def room(shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=dtype)

    of = np.arange(4)
    scoring = Scoring([3], (0.0, 0.3), [of], 0 if on_disk else 1 << 30, room, GPU, torch.bfloat16)
    (stored,) = token_store([8], (4, 9), of, scoring)
    assert stored.device.type == ("cpu" if on_disk else "cuda")
    stored[:2] = layer_norm(random(2, 9, 8))
    features = lnamd(stored.to(GPU).float(), 3, 3).to(scoring.dtype)
    best = room((4, 4, 9), torch.float32) if on_disk else random(4, 4, 9)
    blocks = [range(2), range(2, 4)] if on_disk else [range(4)]

    def products(x: Tensor, y: Tensor, pairs: Tensor, rows: Tensor, cols: Tensor) -> None:
        assert x.device == y.device == pairs.device == rows.device == cols.device == GPU
        # A fake tensor has no numbers, which the products read.
        listed = type("Pairs", (), {"tolist": lambda self: [[0, 1, 0, 1]]})()
        plain_pair_maxima(x, y, listed, rows, cols)

    nearest_cosines(lambda chosen: features[chosen], of, blocks, best, products, lambda count: None)
    assert best.device.type == ("cpu" if on_disk else "cuda")
    assert lowest_mean(best, 0, 2, GPU).device.type == "cpu"


def test_winclip(tmp_path: Path) -> None:
    encoder = build_clip_encoder(str(tiny_clip.write_config(tmp_path)), weights="random")
    with FakeTensorMode(), torch.inference_mode():
        vectors = embed(on_gpu(encoder), tiles(tiny_clip.SIZE), [2])
        assert {str(values.device) for values in vectors.values()} == {"cuda:0"}
        text = {side: random(tiny_clip.EMBEDDING) for side in ("normal", "anomalous")}
        references = {"patches": random(7, tiny_clip.WIDTH), field_of(2): random(7, tiny_clip.EMBEDDING)}
        options = {"grid": tiny_clip.GRID, "scales": [2], "temperature": 0.07}
        whole, maps = score(vectors, text, references, **options)
        assert whole.device == GPU
        assert winclip_maps(maps, input_size=tiny_clip.SIZE, size=MAP).device == GPU


def test_sam() -> None:
    sam = random_sam("tiny")
    with FakeTensorMode(), torch.inference_mode():
        on_gpu(sam)
        embedding = sam.image_encoder(sam.preprocess(random(1, 3, 48, 64)))
        sparse, dense = sam.prompt_encoder(points=None, boxes=random(3, 4), masks=None)
        low, _ = sam.mask_decoder(
            image_embeddings=embedding,
            image_pe=sam.prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        assert sam.postprocess_masks(low, input_size=(48, 64), original_size=(24, 32)).device == GPU


def test_weights_that_a_cnn_gets_on_a_device_leave_all_of_it_there(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = build_encoder("resnet18", weights="random", input_size=64)
    places = cnn_encoders.measure_stages(encoder.maps, encoder._steps, 64 + 2 * encoder.margin, torch.device("cpu"))
    # The places follow from values, which "meta" lacks.
    monkeypatch.setattr(cnn_encoders, "measure_stages", lambda *arguments: places)
    monkeypatch.setattr(cnn_encoders, "load_cnn_state", lambda *arguments, **options: None)
    encoder.to("meta").load_weights({}, source="test", name="resnet18")
    assert {str(value.device) for value in encoder.buffers()} == {"meta"}
