"""WinCLIP against anomalib's (recorded), against the method written out window by window, and by hand; its stages."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from robis.detectors.few_shot import draw
from robis.detectors.model_files import write_model
from robis.detectors.winclip import infer as winclip_infer
from robis.detectors.winclip import scores as winclip
from robis.detectors.winclip import tiles as winclip_embed
from robis.detectors.winclip import train as winclip_train
from robis.detectors.winclip.prompts import prompts
from robis.detectors.winclip.scores import association, few_shot, over_windows, score, tile_maps
from robis.detectors.winclip.text import embed_prompts
from robis.detectors.winclip.tiles import embed
from robis.detectors.winclip.windows import window_tokens
from robis.encoders.clip import ClipEncoder, build_clip, build_clip_encoder, embed_sentences
from robis.encoders.weights import read_metadata
from robis.errors import ConfigError, DataError, WeightsError
from robis.io.ignored import encode
from robis.io.tables import read_table, write_table
from robis.tiles.store import TILE_COLUMNS
from tests.detector_jobs import embedding, inferring, training
from tests.tiny_clip import EMBEDDING, GRID, SIZE, WIDTH, numpy_state, random_tiles, write_config

RECORDED = Path(__file__).parents[1] / "parity" / "winclip.npz"
SCALES, TEMPERATURE, SEED = [2, 3], 0.07, 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("winclip")


@pytest.fixture(scope="module")
def encoder_options(folder: Path) -> dict[str, object]:
    """The encoder as the stages are given it: a config and a weights file."""
    config = write_config(folder)
    save_file(numpy_state(build_clip(str(config), weights="random"), SEED), folder / "tiny.safetensors")
    return {"name": str(config), "weights": str(folder / "tiny.safetensors"), "sha256": None}


@pytest.fixture(scope="module")
def encoder(encoder_options: dict) -> ClipEncoder:
    return build_clip_encoder(**encoder_options)


@pytest.fixture(scope="module")
def text(encoder_options: dict) -> dict[str, Tensor]:
    model = build_clip(**encoder_options)
    sides = zip(("normal", "anomalous"), prompts("metal_nut"), strict=True)
    cpu = torch.device("cpu")
    return {side: embed_sentences(model, encoder_options["name"], said, device=cpu).mean(0) for side, said in sides}


def references_of(features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: values.flatten(0, 1) for name, values in features.items() if name != "image"}


@pytest.mark.parametrize("shots", [0, 2])
def test_maps_and_scores_are_anomalibs(encoder: ClipEncoder, text: dict[str, Tensor], shots: int) -> None:
    recorded = np.load(RECORDED)
    features = embed(encoder, torch.from_numpy(recorded["tiles"]), SCALES)
    references = references_of(embed(encoder, torch.from_numpy(recorded["references"]), SCALES)) if shots else None
    whole, maps = score(features, text, references, grid=GRID, scales=SCALES, temperature=TEMPERATURE)
    assert recorded[f"maps_{shots}"].std() > 5e-3, "maps that are flat would agree with anything"
    np.testing.assert_allclose(whole.numpy(), recorded[f"scores_{shots}"], rtol=0, atol=1e-5)
    found = tile_maps(maps, input_size=SIZE, size=SIZE)
    np.testing.assert_allclose(found.numpy(), recorded[f"maps_{shots}"], rtol=0, atol=1e-5)


class Plain:
    """Section 4 of the paper for one tile, one window at a time, in float64, on open_clip's layers."""

    def __init__(self, encoder: ClipEncoder, text: dict[str, Tensor], scales: list[int]) -> None:
        self.encoder, self.scales = encoder, scales
        self.visual = encoder.vit
        self.text = {side: (value / value.norm()).double() for side, value in text.items()}

    def tokens(self, tile: np.ndarray) -> Tensor:
        image = (torch.from_numpy(tile).permute(2, 0, 1) / 255 - self.encoder.mean[0]) / self.encoder.std[0]
        patches = self.visual.conv1(image[None])[0].flatten(1).T
        both = torch.cat([self.visual.class_embedding[None], patches])
        return self.visual.ln_pre(both + self.visual.positional_embedding)

    def pass_alone(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Unit embedding (D,) and unit tokens (T, C) of class token and some tokens (1 + T, C)."""
        x = tokens[None]
        for block in self.visual.transformer.resblocks:
            x = block(x)
        x = self.visual.ln_post(x)[0]
        embedding = x[0] @ self.visual.proj
        return F.normalize(embedding.double(), dim=0), F.normalize(x[1:].double(), dim=1)

    def windows(self, tokens: Tensor, scale: int) -> dict[tuple[int, int], Tensor]:
        found = {}
        for row in range(GRID - scale + 1):
            for col in range(GRID - scale + 1):
                held = [1 + (row + r) * GRID + col + c for r in range(scale) for c in range(scale)]
                found[row, col] = self.pass_alone(tokens[[0, *held]])[0]
        return found

    def probability(self, embedding: Tensor) -> float:
        normal, anomalous = (float(embedding @ self.text[side]) / TEMPERATURE for side in ("normal", "anomalous"))
        return 1 / (1 + np.exp(normal - anomalous))

    def holding(self, scores: dict[tuple[int, int], float], scale: int, row: int, col: int) -> float:
        held = [s for (r, c), s in scores.items() if r <= row < r + scale and c <= col < c + scale]
        return len(held) / sum(1 / s for s in held)

    def zero_shot(self, tile: np.ndarray) -> tuple[float, np.ndarray]:
        tokens = self.tokens(tile)
        whole = self.probability(self.pass_alone(tokens)[0])
        scores = {}
        for scale in self.scales:
            scores[scale] = {at: self.probability(one) for at, one in self.windows(tokens, scale).items()}
        found = np.zeros((GRID, GRID))
        for row, col in np.ndindex(GRID, GRID):
            levels = [whole, *(self.holding(scores[scale], scale, row, col) for scale in self.scales)]
            found[row, col] = len(levels) / sum(1 / level for level in levels)
        return whole, found

    def few_shot(self, tile: np.ndarray, references: np.ndarray) -> np.ndarray:
        normal = [self.tokens(reference) for reference in references]
        tokens = self.tokens(tile)

        def distance(embedding: Tensor, others: list[Tensor]) -> float:
            return min((1 - float(embedding @ other)) / 2 for other in others)

        patches = [patch for one in normal for patch in self.pass_alone(one)[1]]
        levels = [np.array([distance(p, patches) for p in self.pass_alone(tokens)[1]]).reshape(GRID, GRID)]
        for scale in self.scales:
            others = [window for one in normal for window in self.windows(one, scale).values()]
            scores = {at: distance(one, others) for at, one in self.windows(tokens, scale).items()}
            level = [self.holding(scores, scale, row, col) for row, col in np.ndindex(GRID, GRID)]
            levels.append(np.array(level).reshape(GRID, GRID))
        return np.mean(levels, axis=0)


def test_one_window_at_a_time_says_the_same(encoder: ClipEncoder) -> None:
    scales, tiles = [2, 5], random_tiles(3, seed=3)
    rng = np.random.default_rng(0)
    sides = {side: torch.from_numpy(rng.standard_normal(EMBEDDING).astype("f4")) for side in ("normal", "anomalous")}
    plain = Plain(encoder, sides, scales)
    features = embed(encoder, torch.from_numpy(tiles), scales)
    queries = {name: values[:1] for name, values in features.items()}
    references = references_of({name: values[1:] for name, values in features.items()})
    settings = {"grid": GRID, "scales": scales, "temperature": TEMPERATURE}
    with torch.no_grad():
        whole, by_language = plain.zero_shot(tiles[0])
        by_example = plain.few_shot(tiles[0], tiles[1:])
    assert by_language.std() > 0.01 and by_example.std() > 0.001
    found_whole, found = score(queries, sides, **settings)
    assert found_whole.item() == pytest.approx(whole, abs=1e-5)
    np.testing.assert_allclose(found[0].numpy(), by_language, rtol=0, atol=1e-5)
    found_whole, found = score(queries, sides, references, **settings)
    assert found_whole.item() == pytest.approx((whole + by_example.max()) / 2, abs=1e-5)
    np.testing.assert_allclose(found[0].numpy(), (by_language + by_example) / 2, rtol=0, atol=1e-5)


def test_windows_in_order() -> None:
    assert window_tokens(3, 2).tolist() == [[0, 1, 3, 4], [1, 2, 4, 5], [3, 4, 6, 7], [4, 5, 7, 8]]
    assert window_tokens(2, 2).tolist() == [[0, 1, 2, 3]]


def test_harmonic_mean_by_hand() -> None:
    found = over_windows(torch.tensor([[1.0, 0.75, 0.5, 0.25]]), grid=3, scale=2)[0]
    # The corners lie in one window, the edges in two, the center in all four: 4 / (1 + 4/3 + 2 + 4) = 0.48.
    expected = [[1, 2 / (1 + 4 / 3), 0.75], [2 / 3, 0.48, 2 / (4 / 3 + 4)], [0.5, 2 / (2 + 4), 0.25]]
    torch.testing.assert_close(found, torch.tensor(expected))
    assert over_windows(torch.tensor([[0.0, 0.75, 0.5, 0.25]]), grid=3, scale=2)[0, :2, :2].tolist() == [[0, 0], [0, 0]]


def test_what_equals_a_reference_is_not_anomalous(encoder: ClipEncoder) -> None:
    tile = torch.from_numpy(random_tiles(1))
    features = embed(encoder, tile, SCALES)
    found = few_shot(features, references_of(features), grid=GRID, scales=SCALES)
    assert torch.isfinite(found).all()
    assert found.min() >= 0 and found.max() < 1e-6
    assert association(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[-2.0, 0.0]])).item() == 1


def test_batches_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch, encoder: ClipEncoder) -> None:
    tiles = torch.from_numpy(random_tiles(3))
    whole = embed(encoder, tiles, SCALES)
    distance = association(whole["patches"], whole["patches"][:1].flatten(0, 1))
    monkeypatch.setattr(winclip_embed, "WINDOWS_PER_PASS", 7)
    monkeypatch.setattr(winclip, "_REFERENCES", 5)
    for name, values in embed(encoder, tiles, SCALES).items():
        torch.testing.assert_close(values, whole[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(association(whole["patches"], whole["patches"][:1].flatten(0, 1)), distance)


infer_split, train_category = inferring(winclip_infer.infer_split), training(winclip_train.train_category)
embed_tiles = embedding(winclip_embed.embed_tiles)


def write_tiles(folder: Path, tiles: np.ndarray, names: list[str]) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "tiles.npy", tiles)
    rows = [(n, name, 0, 0, 0, 0, SIZE, SIZE) for n, name in enumerate(names)]
    write_table(folder / "tiles.parquet", pd.DataFrame(rows, columns=TILE_COLUMNS))
    return folder / "tiles.npy", folder / "tiles.parquet"


@pytest.fixture(scope="module")
def stored(folder: Path, encoder_options: dict) -> dict[str, Path]:
    """A test split of three tiles and a train split of five images with two tiles each, and their features."""
    tiles, table = write_tiles(folder / "test", random_tiles(3, seed=1), ["a", "b", "c"])
    names = [name for name in ("good/004", "good/000", "good/001", "good/003", "good/002") for _ in range(2)]
    train_tiles, train_table = write_tiles(folder / "train", random_tiles(10, seed=2), names)
    embed_prompts(folder / "text.safetensors", encoder=encoder_options, class_name="metal_nut")
    embed_tiles(tiles, table, folder / "features.npy", encoder=encoder_options, scales=SCALES, batch_size=2)
    return {
        "tiles": tiles,
        "table": table,
        "train_tiles": train_tiles,
        "train_table": train_table,
        "text": folder / "text.safetensors",
        "features": folder / "features.npy",
    }


def train(stored: dict[str, Path], model: Path, encoder: dict, **changes: object) -> dict[str, Tensor]:
    options = {"shots": 2, "reference_seed": 0, "scales": SCALES, "batch_size": 3} | changes
    history = model.with_suffix(".parquet")
    tiles, table = stored["train_tiles"], stored["train_table"]
    train_category(tiles, table, model, history, identity="x", encoder=encoder, **options)
    return load_file(model)


def drawn(model: Path) -> list[str]:
    return json.loads(read_metadata(model)["winclip"])["references"]


def infer(stored: dict[str, Path], folder: Path, encoder: dict, **changes: object) -> tuple[np.ndarray, pd.DataFrame]:
    options = {"scales": SCALES, "temperature": TEMPERATURE, "window": "image", "scale": 0.25, "batch_size": 2}
    inputs = {"features": stored["features"], "text": stored["text"]}
    maps, table = folder / "maps.npy", folder / "maps.parquet"
    infer_split(stored["tiles"], stored["table"], maps, table, encoder=encoder, **(inputs | options | changes))
    return np.load(maps), read_table(table)


def test_references_of_which_one_token_counts_have_the_windows_that_hold_it(
    stored: dict[str, Path], tmp_path: Path, encoder_options: dict
) -> None:
    """At least half of every window is ignored. Without any window, maps by example had nothing to compare with."""
    ignored = np.ones((SIZE, SIZE), bool)
    ignored[: SIZE // GRID, : SIZE // GRID] = False
    table = tmp_path / "ignored.parquet"
    write_table(table, read_table(stored["train_table"]).assign(ignored=encode(ignored)))
    model = tmp_path / "model.safetensors"
    features = train(stored | {"train_table": table}, model, encoder_options)
    # Two images of two tiles. The upper left token is in one window of each scale.
    assert {name: len(values) for name, values in features.items()} == dict.fromkeys(features, 4)
    maps, _ = infer(stored, tmp_path, encoder_options, model=model)
    assert np.isfinite(maps).all()


def test_text_features_are_unit_means(stored: dict[str, Path], text: dict[str, Tensor]) -> None:
    found = load_file(stored["text"])
    assert set(found) == {"normal", "anomalous"}
    for side, values in found.items():
        torch.testing.assert_close(values, F.normalize(text[side], dim=0), rtol=0, atol=1e-6)


def test_a_name_and_lists_of_ones_own_change_the_text(folder: Path, stored: dict, encoder_options: dict) -> None:
    own = folder / "own.safetensors"
    embed_prompts(own, encoder=encoder_options, class_name="bolt")
    assert not torch.equal(load_file(own)["normal"], load_file(stored["text"])["normal"])
    embed_prompts(own, encoder=encoder_options, class_name="metal_nut", anomalous_states=["rusty {}"])
    assert torch.equal(load_file(own)["normal"], load_file(stored["text"])["normal"])
    assert not torch.equal(load_file(own)["anomalous"], load_file(stored["text"])["anomalous"])


def test_features_are_one_record_per_tile(stored: dict[str, Path], encoder: ClipEncoder) -> None:
    records = np.load(stored["features"], mmap_mode="r")
    fields = {"image": (EMBEDDING,), "patches": (36, WIDTH), "windows_2": (25, EMBEDDING), "windows_3": (16, EMBEDDING)}
    assert {name: records[name].shape[1:] for name in records.dtype.names} == fields
    expected = embed(encoder, torch.from_numpy(random_tiles(3, seed=1)), SCALES)
    for name, values in expected.items():
        assert records[name].dtype == np.float32
        np.testing.assert_allclose(records[name], values.numpy(), rtol=0, atol=1e-5)


def test_reduced_precision_is_stored_in_half_the_space(folder: Path, stored: dict, encoder_options: dict) -> None:
    half = folder / "half.npy"
    options = {"encoder": encoder_options, "scales": SCALES, "batch_size": 4, "precision": "bf16"}
    embed_tiles(stored["tiles"], stored["table"], half, **options)
    assert {np.load(half)[name].dtype for name in ("image", "patches", "windows_3")} == {np.dtype(np.float16)}
    full, _ = infer(stored, folder, encoder_options)
    rounded, _ = infer(stored, folder, encoder_options, features=half)
    np.testing.assert_allclose(rounded, full, rtol=0, atol=5e-3)


@pytest.mark.parametrize("shots", [0, 2])
def test_stages_give_what_the_functions_give(
    folder: Path, stored: dict, encoder_options: dict, encoder: ClipEncoder, text: dict[str, Tensor], shots: int
) -> None:
    features = embed(encoder, torch.from_numpy(random_tiles(3, seed=1)), SCALES)
    references, model = None, None
    if shots:
        model = folder / "model.safetensors"
        train(stored, model, encoder_options, references=["good/001", "good/004", "good/000"])
        # In the table, image 004 has tiles 0 and 1, and image 001 has tiles 4 and 5.
        normal = torch.from_numpy(random_tiles(10, seed=2)[[0, 1, 4, 5]])
        references = references_of(embed(encoder, normal, SCALES))
    whole, expected = score(features, text, references, grid=GRID, scales=SCALES, temperature=TEMPERATURE)
    maps, table = infer(stored, folder, encoder_options, model=model)
    assert (maps.dtype, maps.shape) == (np.float32, (3, SIZE, SIZE))
    at_size = F.interpolate(expected[:, None], size=SIZE, mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(maps, at_size.numpy(), rtol=0, atol=5e-4)
    assert list(table.columns) == [*TILE_COLUMNS, "score", "embedding"]
    np.testing.assert_allclose(table["score"], whole.numpy(), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.stack(table["embedding"]), features["image"].numpy(), rtol=0, atol=1e-5)
    assert table["embedding"][0].dtype == np.float32
    smaller, _ = infer(stored, folder, encoder_options, model=model, window=128, scale=0.25)
    assert smaller.shape == (3, 32, 32)
    again = F.interpolate(at_size[:, None], size=32, mode="bilinear", align_corners=False)[:, 0]
    np.testing.assert_allclose(smaller, again.numpy(), rtol=0, atol=5e-4)


def test_history_is_empty_and_the_model_names_its_references(folder: Path, stored: dict, encoder_options: dict) -> None:
    model = folder / "drawn.safetensors"
    kept = train(stored, model, encoder_options)
    # Two images of two tiles each.
    assert {name: tuple(values.shape) for name, values in kept.items()} == {
        "patches": (4 * 36, WIDTH),
        "windows_2": (4 * 25, EMBEDDING),
        "windows_3": (4 * 16, EMBEDDING),
    }
    assert json.loads(read_metadata(model)["winclip"])["encoder"] == encoder_options["name"]
    assert len(set(drawn(model))) == 2
    history = read_table(model.with_suffix(".parquet"))
    assert list(history.columns) == ["step", "epoch", "loss", "coherence", "lr", "images_per_second"]
    assert history.empty
    first = model.read_bytes()
    train(stored, model, encoder_options)
    assert model.read_bytes() == first


def test_draws_are_nested_and_follow_the_seed(tmp_path: Path) -> None:
    names = [f"{n:03}" for n in range(200)]
    longest = draw("winclip", names, 200, 5, source=tmp_path)
    assert sorted(longest) == names
    assert all(draw("winclip", names, shots, 5, source=tmp_path) == longest[:shots] for shots in (1, 2, 4, 8))
    assert draw("winclip", names, 8, 6, source=tmp_path) != longest[:8]


def test_the_draw_does_not_depend_on_the_order_of_files(folder: Path, stored: dict, encoder_options: dict) -> None:
    train(stored, folder / "one.safetensors", encoder_options, shots=3)
    names = [f"good/00{n}" for n in range(5)]
    tiles, table = write_tiles(folder / "sorted", random_tiles(5), names)
    train(stored | {"train_tiles": tiles, "train_table": table}, folder / "two.safetensors", encoder_options, shots=3)
    assert drawn(folder / "one.safetensors") == drawn(folder / "two.safetensors")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"shots": 6}, DataError, r"winclip\.shots: found 6, but .*tiles\.parquet has 5 training images\. Lower"),
        ({"shots": 0}, ConfigError, r"winclip\.shots: found 0; expected at least 1"),
        (
            {"references": ["good/01", "good/000"]},
            ConfigError,
            r"'good/01' is no training image\. The nearest of 5",
        ),
        (
            {"references": ["good/000"]},
            ConfigError,
            r"found 1 different images; expected at least 2, which",
        ),
        ({"scales": [2, 7]}, ConfigError, r"winclip\.scales: found \[2, 7\]; expected different numbers from 1 to 6"),
        ({"scales": [2, 2]}, ConfigError, r"winclip\.scales: found \[2, 2\]; expected different"),
    ],
)
def test_references_that_cannot_be_had(
    folder: Path, stored: dict, encoder_options: dict, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(stored, folder / "none.safetensors", encoder_options, **changes)
    assert not (folder / "none.safetensors").exists()


def test_files_that_do_not_belong_together(folder: Path, stored: dict, encoder_options: dict) -> None:
    model = folder / "other.safetensors"
    train(stored, model, encoder_options, scales=[2])
    with pytest.raises(
        WeightsError, match=r"other\.safetensors: has no 'windows_3', only patches, windows_2\..*`train` runs again"
    ):
        infer(stored, folder, encoder_options, model=model)
    with pytest.raises(
        WeightsError, match=r"other\.safetensors: made for .*tiny\.json; expected clip_vitb16\. Delete it"
    ):
        infer(stored, folder, {"name": "clip_vitb16"}, model=model)
    with pytest.raises(WeightsError, match=r"nowhere\.safetensors: does not exist\. The stage `train` writes it"):
        infer(stored, folder, encoder_options, model=folder / "nowhere.safetensors")
    with pytest.raises(DataError, match=r"features\.npy: no field 'windows_4'; found image, patches, windows_2"):
        infer(stored, folder, encoder_options, scales=[2, 4])
    write_model(folder / "narrow.safetensors", {"normal": torch.ones(8), "anomalous": torch.ones(8)}, "winclip")
    with pytest.raises(WeightsError, match=r"narrow\.safetensors: 'normal' is \(8,\); expected \(24\)"):
        infer(stored, folder, encoder_options, text=folder / "narrow.safetensors")
    np.save(folder / "short.npy", np.load(stored["features"])[:2])
    with pytest.raises(DataError, match=r"short\.npy: features of 2 tiles; the tile store has 3"):
        infer(stored, folder, encoder_options, features=folder / "short.npy")
    (folder / "damaged.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match=r"damaged\.npy: not a readable \.npy file"):
        infer(stored, folder, encoder_options, features=folder / "damaged.npy")


def test_encoders_without_language_or_patches_are_refused(folder: Path, stored: dict) -> None:
    with pytest.raises(ConfigError, match=r"'dinov2_reg_vitb14', which knows no language; .*: clip_vitb32, clip_"):
        embed_prompts(folder / "x", encoder={"name": "dinov2_reg_vitb14"}, class_name="lid")
    pooling = write_config(folder, "pooling.json", vision_cfg={"attentional_pool": True, "attn_pooler_queries": 5})
    options = {"encoder": {"name": str(pooling), "weights": "random"}, "scales": [2], "batch_size": 2}
    with pytest.raises(ConfigError, match="image tower pools its patches"):
        embed_tiles(stored["tiles"], stored["table"], folder / "pooled.npy", **options)
    assert not (folder / "pooled.npy").exists()


def test_embeddings_that_are_not_finite_are_refused(folder: Path, stored: dict, encoder_options: dict) -> None:
    state = load_file(folder / "tiny.safetensors")
    state["visual.proj"][0, 0] = float("inf")
    save_file(state, folder / "infinite.safetensors")
    options = encoder_options | {"weights": str(folder / "infinite.safetensors")}
    with pytest.raises(
        DataError, match=r"tile 0 gives embeddings that are not finite\. Set infer\.precision to float32"
    ):
        embed_tiles(stored["tiles"], stored["table"], folder / "bad.npy", encoder=options, scales=[2], batch_size=2)
    assert not (folder / "bad.npy").exists()
