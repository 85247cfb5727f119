"""The shipped encoder and what it was trained with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from sklearn.metrics import roc_auc_score

from pretraining.defects import KINDS, damage
from pretraining.episodes import Episodes, PhotographEpisodes, Plan
from pretraining.objectives import OBJECTIVES, Material, nearest, patch_labels
from pretraining.statistics import COUNT, patch_statistics
from pretraining.textures import FAMILIES, Texture
from pretraining.train import RECIPE
from pretraining.train import main as train
from pretraining.trunk import GRID, PATCH, READ, WIDTH, build_trunk, tokens_of
from pretraining.validation import judge
from robis.encoders.build import build_encoder
from robis.encoders.names import ARCHITECTURES, own_input_size, quarter_blocks, superadd_blocks, weights_file

NAME = "robis_vit_tiny"
SHIPPED = Path(weights_file(NAME, "auto"))


def test_the_shipped_encoder_keeps_its_size() -> None:
    assert SHIPPED.stat().st_size <= 12_000_000
    encoder = build_encoder(NAME)
    assert sum(parameter.numel() for parameter in encoder.vit.parameters()) <= 6_000_000
    assert encoder.input_size == own_input_size(NAME) == 252
    assert encoder.grid == GRID == 252 // PATCH
    assert encoder.blocks == ARCHITECTURES[NAME].blocks


def test_auto_means_the_shipped_file_and_needs_no_network() -> None:
    named = build_encoder(NAME, input_size=196)
    given = build_encoder(NAME, weights=str(SHIPPED), input_size=196)
    for one, other in zip(named.vit.state_dict().values(), given.vit.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert weights_file(NAME, "random") == "random"
    assert weights_file("dinov2_vits14", "auto") == "auto"


def test_the_shipped_file_says_how_it_was_made() -> None:
    with safe_open(SHIPPED, framework="pt") as stream:
        about = stream.metadata()
    assert about["made_by"] == "pretraining.train"
    log = json.loads(about["log"])
    stages = [row["stage"] for row in log if "stage" in row]
    for stage, recipe in zip(stages, RECIPE, strict=True):
        assert (stage["objective"], stage["steps"], stage["seed"]) == (recipe.objective, recipe.steps, recipe.seed)
    assert log[-1]["step"] == RECIPE[-1].steps


@pytest.mark.parametrize("size", [196, 224, 252])
def test_robis_and_the_training_see_the_same_tokens(size: int) -> None:
    tiles = torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    encoder = build_encoder(NAME, input_size=size, blocks=READ)
    whole = build_encoder(NAME)
    whole.vit.patch_embed.strict_img_size = False
    # timm's own resizing of position embeddings against the training's.
    expected = tokens_of(whole.vit, tiles, grid=size // PATCH, corner=(0, 0))
    found = encoder(tiles)
    assert [one.shape for one in found] == [(2, (size // PATCH) ** 2, 192)] * 4
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other.detach(), atol=1e-3, rtol=1e-4)


def test_a_trunk_begins_with_filters_without_offset_but_for_means() -> None:
    """Edges and Laplacians see no even light; every filter has its negative, which GELU lets through in turn."""
    filters = build_trunk(0).patch_embed.backbone[0].conv.weight[:56].detach()
    assert torch.equal(filters[::2], -filters[1::2])
    torch.testing.assert_close(filters.flatten(1).norm(dim=1), torch.ones(56))
    means = filters.sum((1, 2, 3)).abs()
    assert (means < 1e-5).sum() == 56 - 2 * 3, "all but the three gray Gaussians"


def test_the_blocks_that_were_trained_are_those_that_detectors_read() -> None:
    depth = len(build_trunk(0).blocks)
    assert ARCHITECTURES[NAME].blocks == quarter_blocks(depth) == superadd_blocks(depth) == READ


def test_the_shipped_encoder_finds_defects_that_a_random_one_does_not() -> None:
    """Textures and defects made here, not by the training's generator: noisy stripes, turned a little in a disk."""
    side, radius = 196, 14
    y, x = np.mgrid[0:side, 0:side]
    centers = np.mgrid[0:14, 0:14] * PATCH + PATCH / 2

    def picture(noise: np.random.Generator, phase: float, row: int = 0, column: int = -99) -> torch.Tensor:
        turned = np.where(np.hypot(x - column, y - row) < radius, x + 0.3 * (y - row), x)
        gray = 120 + 25 * np.sin(2 * np.pi * turned / 11 + phase) + noise.normal(0, 12, (side, side))
        return torch.from_numpy(np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2))

    def auroc(weights: str) -> float:
        """Of patches, those in the disk against the others, mean of four disks."""
        encoder, noise = build_encoder(NAME, weights=weights, input_size=side, blocks=READ), np.random.default_rng(0)
        normal = [picture(noise, phase) for phase in (0, 1, 2.5)]
        found = []
        for n, (row, column) in enumerate([(60, 60), (130, 90), (90, 140), (150, 150)]):
            tokens = encoder(torch.stack([*normal, picture(noise, 0.7 * n, row, column)]))
            inside = np.hypot(centers[0] - row, centers[1] - column) < radius
            found.append(roc_auc_score(inside.ravel(), nearest(tokens, 1, 1)[-1].flatten()))
        return float(np.mean(found))

    assert auroc("auto") > 0.85 > auroc("random") + 0.05


@pytest.mark.parametrize("family", list(FAMILIES))
def test_pictures_depend_on_their_seeds_alone(family: str) -> None:
    first, again, other = (
        Texture(seed, (family,)).picture(np.random.default_rng(picture), 112)
        for seed, picture in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).mean() > 0.05
    photo = Texture(1, (family,)).photograph(np.random.default_rng(0), first)
    assert photo.dtype == np.uint8 and photo.shape == (112, 112, 3)


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_mask_holds_what_changed_visibly(kind: str) -> None:
    rng = np.random.default_rng(3)
    before, donor = (Texture(seed, ("weave",)).picture(rng, 112) for seed in (5, 6))
    masks = []
    for _ in range(6):
        after, mask = damage(rng, before, donor, (kind,))
        change = np.abs(after - before).max(axis=2)
        masks.append(mask.sum())
        # A 3 x 3 mean above 10 levels needs a pixel above 10 within it.
        assert not mask[change.max() <= 10].any()
        if mask.any():
            rows, columns = np.nonzero(mask)
            around = change[max(0, rows[0] - 1) : rows[0] + 2, max(0, columns[0] - 1) : columns[0] + 2]
            assert around.max() > 10
        assert (change[~mask] < 90.1).all()
    assert max(masks) > 0


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    plan = Plan(seed=4, steps=3, textures=2)
    pictures, masks = Episodes(plan)[1]
    again = Episodes(plan)[1]
    assert pictures.shape == (2, 4, 112, 112, 3) and masks.shape == (2, 2, 112, 112)
    assert torch.equal(pictures, again[0]) and torch.equal(masks, again[1])
    assert not torch.equal(pictures, Episodes(plan)[2][0])


def test_statistics_of_a_flat_and_of_a_striped_patch() -> None:
    flat = np.full((112, 112, 3), 128, np.uint8)
    striped = flat.copy()
    striped[:, ::2] = 200
    plain, stripes = patch_statistics(torch.from_numpy(np.stack([flat, striped])))
    assert plain.shape == (64, COUNT)
    # Every patch of an even picture is like every other, and gradients are as low as the logarithm goes.
    torch.testing.assert_close(plain, plain[:1].expand_as(plain), atol=1e-5, rtol=0)
    torch.testing.assert_close(plain[:, :4], torch.full((64, 4), 0.5 * np.log(1e-3)), atol=1e-3, rtol=0)
    # Stripes: from left to right (72 / 127.5)^2, from top to bottom none. The last column has no right neighbor.
    torch.testing.assert_close(stripes[0, 0], torch.tensor((72 / 127.5) ** 2 + 1e-3).log() / 2, atol=1e-3, rtol=0)
    torch.testing.assert_close(stripes[:, 1], plain[:, 1], atol=1e-3, rtol=0)


def test_labels_of_patches() -> None:
    masks = torch.zeros(1, 28, 28, dtype=torch.bool)
    masks[0, :14, :14] = True
    masks[0, 14, 14:16] = True  # 2 of 196 pixels: too little to ask for
    target, weight = patch_labels(masks)
    assert target[0, 0] == 1 and target[0, 1] == target[0, 2] == 0
    # The whole patches beside a wholly damaged one see it too, at the edge: they do not count.
    assert weight.tolist() == [[1.0, 0.0, 0.0, 0.0]]


def test_distances_to_the_nearest_are_those_of_cdist() -> None:
    tokens = torch.randn(2 * 3, 5, 7, generator=torch.Generator().manual_seed(0))
    found = nearest([tokens], 2, 1)
    spread = tokens.flatten(0, 1).var(0).sum().sqrt()
    for episode in range(2):
        support, query = tokens[3 * episode : 3 * episode + 2].flatten(0, 1), tokens[3 * episode + 2]
        expected = torch.cdist(query.double(), support.double()).amin(1) / spread
        torch.testing.assert_close(found[0][episode].double(), expected.double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found[-1], found[0])


@pytest.mark.parametrize("objective", list(OBJECTIVES))
def test_every_objective_teaches_the_encoder(objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vit = build_trunk(0)
    task = OBJECTIVES[objective](vit)
    pictures, masks = Episodes(Plan(seed=1, steps=1, textures=2))[0]
    optimizer = torch.optim.AdamW([p for p in task.parameters() if p.requires_grad], lr=3e-4)
    losses = []
    for _ in range(6):
        loss = task.loss(pictures, masks, torch.Generator().manual_seed(0))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        task.after_step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    assert all(block.mlp.fc1.weight.grad is not None for block in list(vit.blocks)[: READ[0] + 1])


def test_the_command_writes_an_encoder_that_robis_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", "--steps", "2", "--workers", "0", "--validation", "0", "--out"]
    files = [tmp_path / name / "robis_vit_tiny.safetensors" for name in "ab"]
    for file in files:
        monkeypatch.setattr("sys.argv", [*arguments, str(file.parent)])
        train()
    first, again = (build_encoder(NAME, weights=str(file)).vit.state_dict() for file in files)
    assert all(torch.equal(one, again[key]) for key, one in first.items())
    before = load_file(files[0].with_name("stage_1.safetensors"))
    key = "blocks.0.mlp.fc1.weight"
    assert not torch.equal(before[key].float(), build_trunk(0).state_dict()[key])
    assert not torch.equal(before[key].float(), first[key])
    # A stage whose file is there is not trained again; the next goes on from it.
    files[0].unlink()
    monkeypatch.setattr("sys.argv", [*arguments, str(files[0].parent)])
    changed = {name: value * 0 if name == "norm.weight" else value for name, value in before.items()}
    save_file(changed, files[0].with_name("stage_1.safetensors"), metadata={"log": "[]"})
    train()
    assert not load_file(files[0])["norm.weight"].any()
    assert not list(files[0].parent.glob("*.partial"))


def test_validation_judges_by_distance_alone() -> None:
    """Tokens that tell damage perfectly, and tokens that tell nothing, as an encoder would give them."""
    episodes = PhotographEpisodes(Plan(seed=3, steps=1, textures=2, supports=2, queries=4))
    _, masks = episodes[0]
    target, _ = patch_labels(masks.flatten(0, 1))
    damaged = torch.cat([torch.zeros(2, 2, 64), (target > 0.5).float().view(2, 4, 64)], 1).flatten(0, 1)
    perfect = judge(lambda pictures: [damaged[..., None] + torch.zeros(3)], episodes)
    assert perfect["patches within a texture"] == perfect["patches of all textures"] == 1
    assert perfect["images of a texture"] == 1
    blind = judge(lambda pictures: [torch.eye(64).expand(12, 64, 64)], episodes)
    assert blind["patches within a texture"] == blind["patches of all textures"] == 0.5


def test_an_unsteady_texture_is_the_same_surface_under_other_light() -> None:
    def levels(unsteady: bool) -> np.ndarray:
        """Mean level of 12 pictures each of 24 textures."""
        rng, means = np.random.default_rng(0), []
        for seed in range(24):
            texture = Texture(seed, ("grain",), 0.0, unsteady)
            means.append([texture.photograph(rng, texture.picture(rng, 56)).mean() for _ in range(12)])
        return np.array(means)

    steady, unsteady = levels(False), levels(True)
    assert unsteady.std(1).mean() > 1.3 * steady.std(1).mean()
    # Other pictures of the same surfaces: colors do not change with the light.
    assert np.corrcoef(steady.mean(1), unsteady.mean(1))[0, 1] > 0.9


def test_material_asks_whole_patches_which_texture_they_are_of() -> None:
    """Tokens that name the texture and its damage leave nothing to learn; tokens that name another texture do."""
    masks = torch.zeros(2, 4, 28, 28, dtype=torch.bool)
    masks[:, 1, :14, :14] = True

    def loss(texture: list[float], masks: torch.Tensor = masks) -> float:
        task = Material(build_trunk(0))
        named = torch.tensor(texture).view(2, 1, 1, 1) * torch.eye(WIDTH)[0]
        damage = torch.zeros(2, 4, 4, 1)
        damage[:, 1, 0] = 30
        tokens = (named + damage * torch.eye(WIDTH)[1] + torch.zeros(2, 4, 4, 1)).flatten(0, 1)
        return float(task.told([tokens] * len(READ), masks, torch.Generator().manual_seed(0)).detach())

    assert loss([-10, 10]) < loss([0, 0]) - 0.5
    # A texture without a whole patch to compare with asks for nothing.
    ruined = masks.clone()
    ruined[0] = True
    assert loss([-10, 10], ruined) < 2
