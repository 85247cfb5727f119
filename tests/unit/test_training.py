"""Optimizer, schedule, augmentation, and a training loop that resumes where it was stopped."""

from __future__ import annotations

import math
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from robis.detectors.batches import one_behind
from robis.detectors.inp_former.model import InpFormer, InpFormerLoss, initialize
from robis.detectors.reconstruction import loop as training
from robis.detectors.reconstruction import optimizer as optimization
from robis.detectors.reconstruction import step as training_step
from robis.detectors.reconstruction.augmentation import augment
from robis.detectors.reconstruction.loop import TrainingState, train
from robis.detectors.reconstruction.maps import tile_maps
from robis.detectors.reconstruction.optimizer import StableAdamW, learning_rate
from robis.detectors.reconstruction.step import JoinedTiles, Order, Recipe, training_batches
from robis.encoders.build import build_encoder
from robis.errors import DataError, TrainingError

# Ten tiles make two steps an epoch.
RECIPE = Recipe(
    section="inp_former",
    steps=8,
    batch_size=4,
    learning_rate=1e-3,
    final_learning_rate=1e-4,
    warmup_steps=2,
    weight_decay=1e-4,
    eps=1e-10,
    gradient_clip=0.1,
    augment=True,
    precision="float32",
    compile=False,
    checkpoint_every=2,
    seed=7,
)
LOSS = InpFormerLoss(coherence_weight=0.2, mining_power=3.0)


def small_model() -> InpFormer:
    model = InpFormer(build_encoder("vit_tiny_patch16_224", weights="random", input_size=32, blocks=[2, 5]), 3)
    initialize(model, RECIPE.seed)
    return model


@pytest.fixture
def tiles(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 256, (10, 32, 32, 3), dtype=np.uint8)


def run(folder: Path, tiles: np.ndarray, recipe: Recipe = RECIPE, identity: str = "same"):
    model = small_model()
    rows = train(model, LOSS, tiles, recipe, TrainingState(folder / "state.pt", folder / "tensorboard", identity))
    return {name: value.clone() for name, value in model.trainable().items()}, rows


def test_stable_adamw_by_hand_for_two_steps() -> None:
    lr, decay, eps = 0.1, 0.01, 1e-10
    p = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64, requires_grad=True)
    optimizer = StableAdamW([p], lr=lr, weight_decay=decay)
    value = p.detach().numpy().copy()
    mean, square, largest = np.zeros(3), np.zeros(3), np.zeros(3)
    # In one place the second gradient is smaller, so that amsgrad keeps the first maximum there.
    for step, gradient in enumerate(([0.5, -1.0, 2.0], [6.0, 0.1, -5.0]), start=1):
        p.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        g = np.array(gradient)
        value *= 1 - lr * decay
        mean = 0.9 * mean + 0.1 * g
        square = 0.999 * square + 0.001 * g * g
        largest = np.maximum(largest, square)
        denominator = np.sqrt(largest) / math.sqrt(1 - 0.999**step) + eps
        rms = math.sqrt(np.mean((g / denominator) ** 2))
        value -= lr / (1 - 0.9**step) / max(1.0, rms) * mean / denominator
        np.testing.assert_allclose(p.detach().numpy(), value, rtol=1e-12)
    assert rms > 1, "the second step must be one that is made smaller"


def test_stable_adamw_takes_one_plain_step_as_torch_does() -> None:
    """At the first step the update's RMS is 1, so that nothing is clipped."""
    ours = torch.tensor([1.0, -3.0], dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    ours.grad = theirs.grad = torch.tensor([0.3, -0.2], dtype=torch.float64)
    StableAdamW([ours], lr=0.01, weight_decay=0.1).step()
    torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.1, amsgrad=True, eps=1e-10).step()
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=0)


@pytest.mark.parametrize("steps", [1, 5])
def test_all_tensors_at_once_move_as_one_by_one(monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    """A GPU takes them together. Those without a gradient stay; the step of each is limited for itself."""
    shapes = [(3, 4), (5,), (1, 2, 2), (6,)]

    def moved() -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(3)
        params = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
        optimizer = StableAdamW(params, lr=0.1, weight_decay=0.1)
        for step in range(steps):
            for size, p in zip((1.0, 10.0**step, 0.1**step), params[:3], strict=True):
                p.grad = size * torch.randn(p.shape, generator=generator)
            optimizer.step()
        return params

    apart = moved()
    monkeypatch.setattr(optimization, "_launched_together", lambda params: [params])
    together = moved()
    for one, other in zip(apart, together, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=0)


def test_batches_of_all_epochs_follow_each_other(tiles: np.ndarray) -> None:
    options = {"augmented": False, "threads": 3}
    whole = list(training_batches(tiles, torch.device("cpu"), Order(7, range(3), 4), **options))
    assert [epoch for epoch, _ in whole] == [0, 0, 1, 1, 2, 2]
    numbers = {tile.tobytes(): number for number, tile in enumerate(tiles)}
    orders = [[numbers[tile.numpy().tobytes()] for _, batch in whole[n : n + 2] for tile in batch] for n in (0, 2, 4)]
    assert all(len(set(order)) == 8 for order in orders), "no tile twice in an epoch"
    assert orders[0] != orders[1] != orders[2]
    later = list(training_batches(tiles, torch.device("cpu"), Order(7, range(1, 3), 4, first=4), **options))
    assert [epoch for epoch, _ in later] == [1, 2, 2]
    assert all(torch.equal(one, other) for (_, one), (_, other) in zip(later, whole[3:], strict=True))


def test_joined_stores_are_numbered_one_after_the_other(tiles: np.ndarray) -> None:
    joined = JoinedTiles([tiles[:3], tiles[3:4], tiles[:0], tiles[4:]])
    assert len(joined) == len(tiles)
    for number, tile in enumerate(tiles):
        np.testing.assert_array_equal(joined[number], tile)


def test_training_may_end_within_an_epoch(tmp_path: Path, tiles: np.ndarray) -> None:
    _, rows = run(tmp_path, tiles, replace(RECIPE, steps=3))
    assert rows["epoch"].tolist() == [0, 0, 1]


def test_results_come_in_order_one_behind() -> None:
    computed: list[int] = []

    def compute(start: int, batch: torch.Tensor) -> torch.Tensor:
        assert start == int(batch[0])
        computed.append(start)
        return batch.double() * 2

    batches = ((start, torch.arange(start, min(start + 2, 5))) for start in range(0, 5, 2))
    found = []
    for start, values in one_behind(batches, compute):
        found.append((start, values.dtype, values.tolist(), len(computed)))
    kind = np.dtype("float32")
    assert found == [(0, kind, [0, 2], 2), (2, kind, [4, 6], 3), (4, kind, [8], 3)], "the next one is at work"


def test_learning_rate_rises_then_falls_along_a_cosine() -> None:
    schedule = [learning_rate(step, 300, warmup=100, highest=1e-3, final=1e-4) for step in range(301)]
    assert schedule[0] == 0
    assert schedule[99] == pytest.approx(1e-3)
    assert schedule[100] == pytest.approx(1e-3)
    assert schedule[200] == pytest.approx((1e-3 + 1e-4) / 2)
    assert schedule[300] == 1e-4
    np.testing.assert_allclose(np.diff(schedule[:100]), 1e-3 / 99)


def test_augmentation_changes_half_of_the_tiles() -> None:
    tile = np.full((64, 64, 3), 128, np.uint8)
    found = [augment(tile, np.random.default_rng(n)) for n in range(400)]
    changed = [t.astype(float) for t in found if t is not tile]
    assert 160 < len(changed) < 240
    means = np.array([t.mean() for t in changed]) / 128
    assert means.min() == pytest.approx(2**-0.2, abs=0.02)
    assert means.max() == pytest.approx(2**0.2, abs=0.02)
    assert np.mean([t.std() for t in changed]) == pytest.approx(15, abs=0.5)
    assert augment(np.full((8, 8, 3), 255, np.uint8), np.random.default_rng(0)).dtype == np.uint8


def test_augmentation_truncates_as_the_published_code_does() -> None:
    """Written out from RoBiS: exposure, clip, noise, clip, `astype(np.uint8)`."""
    tile = np.random.default_rng(7).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            continue
        exposed = np.clip(tile * np.float32(2 ** rng.uniform(-0.2, 0.2)), 0, 255)
        noisy = exposed + 15 * rng.standard_normal(tile.shape, dtype=np.float32)
        np.testing.assert_array_equal(
            augment(tile, np.random.default_rng(seed)), np.clip(noisy, 0, 255).astype(np.uint8)
        )


def test_augmentation_clips_instead_of_wrapping() -> None:
    bright = np.full((64, 64, 3), 255, np.uint8)
    found = [augment(bright, np.random.default_rng(n)) for n in range(20)]
    assert min(int(t.min()) for t in found) > 100, "a wrapped value would be near 0"


def test_training_learns_logs_and_repeats(tmp_path: Path, tiles: np.ndarray) -> None:
    weights, rows = run(tmp_path / "a", tiles)
    assert list(rows.columns) == ["step", "epoch", "loss", "coherence", "lr", "images_per_second"]
    assert rows["step"].tolist() == list(range(8)), "ten tiles make two steps of four, the short batch is dropped"
    assert rows["loss"].iloc[-1] < rows["loss"].iloc[0]
    assert list((tmp_path / "a" / "tensorboard").iterdir())
    again, _ = run(tmp_path / "b", tiles)
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    other, _ = run(tmp_path / "c", tiles, replace(RECIPE, seed=8))
    assert not all(torch.equal(weights[name], other[name]) for name in weights)


@pytest.mark.parametrize("stop_at", [1, 3, 6])
def test_a_stopped_training_ends_as_an_undisturbed_one(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch, stop_at: int
) -> None:
    undisturbed, rows = run(tmp_path / "a", tiles)
    step = training.train_step
    calls = []

    def stopping(*arguments):
        calls.append(1)
        if len(calls) > stop_at:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "b", tiles)
    assert (tmp_path / "b" / "state.pt").exists() == (stop_at > 1)
    taken: list[int] = []
    monkeypatch.setattr(training, "train_step", lambda *arguments: taken.append(1) or step(*arguments))
    resumed, resumed_rows = run(tmp_path / "b", tiles)
    assert len(taken) == 8 - stop_at // 2 * 2, "whole epochs are not repeated"
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    assert resumed_rows["loss"].tolist() == rows["loss"].tolist()


@pytest.mark.parametrize(
    ("stop_at", "number"), [(0, signal.SIGTERM), (2, signal.SIGINT), (4, signal.SIGTERM), (6, signal.SIGUSR1)]
)
def test_a_signal_saves_the_step_it_comes_in_and_the_next_run_ends_alike(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch, stop_at: int, number: signal.Signals
) -> None:
    """Three steps an epoch, a state every two epochs: most stops are within an epoch, and between states."""
    recipe = replace(RECIPE, batch_size=3, checkpoint_every=6, steps=9)
    undisturbed, rows = run(tmp_path / "a", tiles, recipe)
    assert len(rows) == 9
    step = training.train_step
    taken: list[int] = []

    def interrupted(*arguments):
        taken.append(1)
        if len(taken) == stop_at + 1:
            signal.raise_signal(number)
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", interrupted)
    handlers = [signal.getsignal(one) for one in training.STOP_SIGNALS]
    with pytest.raises(TrainingError, match=rf"stopped by {number.name} after {stop_at + 1} of 9 steps.*saved"):
        run(tmp_path / "b", tiles, recipe)
    assert [signal.getsignal(one) for one in training.STOP_SIGNALS] == handlers
    assert len(torch.load(tmp_path / "b" / "state.pt", weights_only=True)["rows"]) == stop_at + 1
    resumed, resumed_rows = run(tmp_path / "b", tiles, recipe)
    assert len(taken) == 9, "no step is taken twice"
    assert all(torch.equal(undisturbed[name], resumed[name]) for name in undisturbed)
    without_time = [name for name in rows if name != "images_per_second"]
    pd.testing.assert_frame_equal(resumed_rows[without_time], rows[without_time], check_exact=True)


def test_a_signal_in_the_last_step_stops_nothing(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = training.train_step
    calls: list[int] = []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 8:
            signal.raise_signal(signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", interrupted)
    _, rows = run(tmp_path, tiles)
    assert len(rows) == 8


def test_a_second_interrupt_does_not_wait(tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted_twice(*arguments):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("the step went on")

    monkeypatch.setattr(training, "train_step", interrupted_twice)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, tiles)


def test_an_ignored_signal_stays_ignored(tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    step = training.train_step
    interrupted = lambda *arguments: signal.raise_signal(signal.SIGINT) or step(*arguments)  # noqa: E731
    monkeypatch.setattr(training, "train_step", interrupted)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _, rows = run(tmp_path, tiles)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(rows) == 8


def test_long_epochs_are_saved_in_between(tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that dies says nothing before: the last state must be young even if an epoch takes hours."""
    monkeypatch.setattr(training, "SAVE_EVERY", 0)
    step = training.train_step
    calls: list[int] = []

    def dying(*arguments):
        calls.append(1)
        if len(calls) == 6:
            raise SystemExit
        return step(*arguments)

    monkeypatch.setattr(training, "train_step", dying)
    with pytest.raises(SystemExit):
        run(tmp_path, tiles, replace(RECIPE, checkpoint_every=200))
    assert len(torch.load(tmp_path / "state.pt", weights_only=True)["rows"]) == 5


def test_a_state_of_other_settings_is_not_resumed(tmp_path: Path, tiles: np.ndarray) -> None:
    run(tmp_path, tiles, identity="old")
    assert (tmp_path / "state.pt").exists()
    fresh, _ = run(tmp_path / "fresh", tiles)
    restarted, rows = run(tmp_path, tiles, identity="new")
    assert len(rows) == 8
    assert all(torch.equal(fresh[name], restarted[name]) for name in fresh)
    (tmp_path / "state.pt").write_bytes(b"damaged")
    restarted, _ = run(tmp_path, tiles, identity="new")
    assert all(torch.equal(fresh[name], restarted[name]) for name in fresh)


def test_fewer_tiles_than_a_batch_still_train(tmp_path: Path, tiles: np.ndarray) -> None:
    _, rows = run(tmp_path, tiles[:3], replace(RECIPE, batch_size=16, steps=4))
    assert rows["epoch"].tolist() == [0, 1, 2, 3]


def test_a_loss_that_is_not_finite_stops_and_keeps_the_state(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = training.train_step
    calls = []

    def breaking(*arguments):
        calls.append(1)
        return (float("nan"), 0.0) if len(calls) == 4 else step(*arguments)

    monkeypatch.setattr(training, "train_step", breaking)
    with pytest.raises(TrainingError, match=r"loss or its gradient is nan at step 3 of 8.*state\.pt.*learning_rate"):
        run(tmp_path, tiles)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert len(state["rows"]) == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_no_tiles_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="empty"):
        run(tmp_path, np.empty((0, 32, 32, 3), np.uint8))


def test_a_gradient_that_is_not_finite_reaches_no_weight(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite, its gradient is not: neither the state nor a finished model may hold it."""
    clip = torch.nn.utils.clip_grad_norm_
    calls = []

    def spoil(parameters, limit):
        calls.append(1)
        if len(calls) == 4:
            parameters[0].grad[0] = float("nan")
        return clip(parameters, limit)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoil)
    with pytest.raises(TrainingError, match=r"gradient is nan at step 3 of 8"):
        run(tmp_path, tiles)
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    assert len(state["rows"]) == 2
    assert all(torch.isfinite(value).all() for value in state["model"].values())


def test_mixed_precision_trains_close_to_float32(
    tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bf16 is for GPUs; the same types flow under the CPU's own autocast."""
    # With small steps rounding does not grow from one to the next.
    recipe = replace(RECIPE, learning_rate=1e-4)
    _, exact = run(tmp_path / "a", tiles, recipe)
    monkeypatch.setattr(training_step, "autocast", lambda device, precision: torch.autocast("cpu", torch.bfloat16))
    _, mixed = run(tmp_path / "b", tiles, replace(recipe, precision="bf16"))
    np.testing.assert_allclose(mixed["loss"], exact["loss"], rtol=0.02)
    assert mixed["loss"].tolist() != exact["loss"].tolist()


def test_maps_stay_float32_under_mixed_precision(tiles: np.ndarray) -> None:
    model = small_model().eval()
    batch = torch.from_numpy(tiles[:2])
    with torch.inference_mode():
        exact = tile_maps(model, batch, 16)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = tile_maps(model, batch, 16)
    assert mixed.dtype == torch.float32
    assert mixed.unique().numel() > 0.9 * exact.unique().numel(), "bf16 maps would have few distinct values"
    torch.testing.assert_close(mixed, exact, rtol=0.1, atol=0.02)


def test_nothing_is_compiled_on_the_cpu(tmp_path: Path, tiles: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda model: pytest.fail("torch.compile on the CPU"))
    run(tmp_path, tiles, replace(RECIPE, compile=True, steps=2))
