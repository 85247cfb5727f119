"""Convolutional networks by timm: feature maps of several stages as tokens on one grid."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robis.encoders.encoder import Choice, Encoder, TokenLayout, check_blocks, load_chosen_weights
from robis.encoders.fitting import check_state
from robis.encoders.geometry import StageMap, measure_stages, onto_grid
from robis.encoders.names import (
    ARCHITECTURES,
    PackagedWeights,
    default_stages,
    own_input_size,
    packaged_file,
)
from robis.encoders.timm_models import create
from robis.encoders.weights import first_line, read_state
from robis.errors import ConfigError, WeightsError

# Side of the neighborhoods over which maps are averaged, as in PatchCore (arXiv 2106.08265).
AVERAGED = 3
# Pixels from one token to the next, at least.
GRID_STEP = 8
# Of equally wide tokens: channels of a head, and the largest width.
HEAD_WIDTH, WIDEST = 32, 192
# What smaller tokens are divided by.
SMALLEST_NORM = 1e-6
# Of tiles, in pixels: less leaves no map of most stages.
SMALLEST = 32
# Tiles are mirrored so many pixels beyond their border, at most half of their side. The zeros with which a CNN pads
# its maps otherwise look like nothing in a normal tile, and all borders of tiles seem anomalous.
MIRRORED = 32


class CnnEncoder(Encoder):
    """A CNN whose stages give one token each for every cell of a grid.

    Tiles are mirrored at their border before they enter the network. A stage's map is averaged over 3 x 3 neighborhoods
    and brought to the grid by linear interpolation between the places where its values lie (`robis.encoders.geometry`).
    Each token is then divided by the root mean square of its channels, which makes stages alike and leaves contrast
    out. No token depends on another tile. The grid's step is 8 pixels, as in PatchCore, or that of the finest chosen
    stage where this is coarser.

    With `equal_widths` fixed random orthonormal matrices bring all stages to one number of channels: the largest,
    rounded up to a multiple of 32, at most 192. Narrower stages keep all that they hold; wider ones lose directions.
    """

    def __init__(
        self,
        cnn: Any,
        stages: Sequence[int],
        size: int,
        name: str,
        *,
        equal_widths: bool = False,
        geometry: Sequence[Sequence[float]] | None = None,
        on_grid: bool = True,
    ) -> None:
        """Take timm's CNN with its weights; the other arguments are those of `build_encoder`."""
        widths = [int(cnn.feature_info[stage]["num_chs"]) for stage in stages]
        common = min(WIDEST, -(-max(widths) // HEAD_WIDTH) * HEAD_WIDTH)
        self._steps = [int(cnn.feature_info[stage]["reduction"]) for stage in stages]
        layout = TokenLayout(
            blocks=tuple(stages),
            widths=tuple(common if equal_widths else width for width in widths),
            heads=common // HEAD_WIDTH,
            grid=max(1, round(size / max(GRID_STEP, min(self._steps)))),
            input_size=size,
        )
        super().__init__(layout, cnn.pretrained_cfg["mean"], cnn.pretrained_cfg["std"])
        self.cnn = cnn
        self.margin = min(MIRRORED, size // 2) if on_grid else 0
        projections = (_orthonormal(width, common, seed=stage) for stage, width in zip(stages, widths, strict=True))
        self._projections = _Buffers(projections) if equal_widths else None
        self._on_grid = on_grid
        if geometry is None or not on_grid:
            self._measure(name)
        else:
            self._place([StageMap((row, column), int(step), int(count)) for row, column, step, count in geometry])

    def load_weights(self, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
        """Load weights in timm's key names. A classification head for other classes is ignored."""
        load_cnn_state(self.cnn, state, source=source, name=name)
        self._measure(name)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The feature maps (B, C, n, n) of the chosen stages, as timm's `features_only` models give them.

        Args:
            images: normalized, (B, 3, s, s).
        """
        return self.cnn.forward_intermediates(
            images, indices=list(self.blocks), intermediates_only=True, stop_early=True
        )

    def _measure(self, name: str) -> None:
        """Find out where values lie, which depends on the weights; without a grid, that there are any."""
        side = self.input_size + 2 * self.margin
        device = self.mean.device
        try:
            if not self._on_grid:
                self.maps(torch.zeros(1, 3, side, side, device=device))
                return
            stages = measure_stages(self.maps, self._steps, side, device)
        except (RuntimeError, AssertionError, ValueError) as error:
            raise ConfigError(
                f"encoder: {name} cannot be run at {self.input_size} pixels ({first_line(error)})."
            ) from error
        self._place(stages)

    def _place(self, stages: Sequence[StageMap]) -> None:
        """Bring the maps of stages that lie there to the grid."""
        self.geometry = [[*stage.first, stage.step, stage.count] for stage in stages]
        self._rows = _Buffers(_placing(stage, stage.first[0], self) for stage in stages)
        self._columns = _Buffers(_placing(stage, stage.first[1], self) for stage in stages)

    def _mirrored(self, images: Tensor) -> Tensor:
        """Images (B, 3, s, s) with their mirrored borders around them."""
        return F.pad(images, [self.margin] * 4, mode="reflect")

    def _tokens(self, images: Tensor) -> list[Tensor]:
        return self._gridded(self.maps(self._mirrored(images)))

    def _layer_maps(self, images: Tensor) -> list[Tensor]:
        return self.maps(images)

    def _tokens_and_embedding(self, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Tokens, and the network's last map averaged over the tile."""
        last, maps = self.cnn.forward_intermediates(self._mirrored(images), indices=list(self.blocks))
        side = last.shape[-1]
        border = round(self.margin * side / (self.input_size + 2 * self.margin))
        return self._gridded(maps), last[:, :, border : side - border, border : side - border].mean((2, 3))

    def _gridded(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps as tokens (B, g*g, C)."""
        tokens = []
        for number, (values, rows, columns) in enumerate(zip(maps, self._rows, self._columns, strict=True)):
            # Not in mixed precision: eight bits of an interpolation's weight would move values.
            with torch.autocast(values.device.type, enabled=False):
                # Channels come last, as convolutions give them: two large products, not one for each channel.
                values = values.float().permute(0, 2, 3, 1)
                placed = (rows @ values.flatten(2)).unflatten(2, values.shape[2:])
                layer = (columns @ placed).flatten(1, 2)
                layer = layer / layer.square().mean(-1, keepdim=True).sqrt().clamp_min(SMALLEST_NORM)
                tokens.append(layer @ self._projections[number] if self._projections else layer)
        return tokens


def _placing(stage: StageMap, first: float, encoder: CnnEncoder) -> Tensor:
    """The matrix that brings one axis of a stage's map to the encoder's grid."""
    size, grid = encoder.input_size, encoder.grid
    place = onto_grid(first - encoder.margin, stage.step, stage.count, size=size, grid=grid, average=AVERAGED)
    return place.to(encoder.mean.device)


def build_cnn(choice: Choice) -> Encoder:
    """Make a CNN of timm; see `robis.encoders.build.build_encoder`."""
    name = choice.name
    size = check_input_size(choice.input_size, name)
    cnn = create_cnn(name, pretrained=choice.weights == "auto", seed=choice.drawn)
    depth = len(cnn.feature_info)
    stages = check_blocks(choice.blocks or default_stages(name, depth), depth, name)
    load_chosen_weights(choice, partial(load_cnn_state, cnn))
    return CnnEncoder(
        cnn, stages, size, name, equal_widths=choice.equal_widths, geometry=choice.geometry, on_grid=choice.on_grid
    )


class _Buffers(nn.Module):
    """Fixed tensors that move with a module and are no part of its weights."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        super().__init__()
        for number, tensor in enumerate(tensors):
            self.register_buffer(str(number), tensor, persistent=False)

    def __iter__(self) -> Iterator[Tensor]:
        return self.buffers()

    def __getitem__(self, number: int) -> Tensor:
        return self.get_buffer(str(number))


def create_cnn(name: str, *, pretrained: bool, seed: int | None) -> Any:
    """Make timm's CNN with its classification head.

    Where "auto" stands for weights that an installed package brings, these are loaded.

    Raises:
        ConfigError: a model without stages.
        WeightsError: published weights that cannot be downloaded, or a package with another file than expected.
    """
    packaged = ARCHITECTURES[name].packaged if name in ARCHITECTURES else None
    file = packaged_file(packaged) if packaged and pretrained else None
    cnn = create(name, pretrained=pretrained and file is None, seed=seed)
    if not hasattr(cnn, "forward_intermediates") or not isinstance(getattr(cnn, "feature_info", None), list):
        raise ConfigError(
            f"encoder.name: {name} is neither a vision transformer nor a CNN with stages; expected one of timm's."
        )
    if packaged and file:
        state = read_state(file, sha256=packaged.sha256, key="encoder.weights")
        load_cnn_state(cnn, _by_position(state, cnn, packaged), source=f"encoder.weights: {file}", name=name)
    return cnn


def _by_position(state: Mapping[str, Tensor], cnn: Any, packaged: PackagedWeights) -> dict[str, Tensor]:
    """The package's weights in timm's names. Layers are the same in the same order, only their names differ."""
    expected = cnn.state_dict()
    if len(state) != len(expected):
        raise WeightsError(
            f"encoder.weights: {packaged.package} has {len(state)} weights; expected {len(expected)}. Install it again."
        )
    return dict(zip(expected, state.values(), strict=True))


def load_cnn_state(cnn: Any, state: Mapping[str, Tensor], *, source: str, name: str) -> None:
    """Load weights into timm's CNN. A classification head for other classes is left out, as no token depends on it.

    Raises:
        WeightsError: naming the first key that is missing, superfluous, of another shape or type.
    """
    classifiers = cnn.pretrained_cfg["classifier"]
    heads = tuple(f"{layer}." for layer in ([classifiers] if isinstance(classifiers, str) else classifiers or ()))
    expected = cnn.state_dict()
    body = {key: value for key, value in expected.items() if not key.startswith(heads)}
    fits = all(key in expected and expected[key].shape == state[key].shape for key in state if key.startswith(heads))
    kept = dict(state) if fits else {key: value for key, value in state.items() if not key.startswith(heads)}
    check_state(kept, body | {key: expected[key] for key in kept if key in expected}, source=source, made_for=name)
    cnn.load_state_dict(kept, strict=False)


def check_input_size(input_size: int | None, name: str) -> int:
    """The side of a tile in pixels. Raises ConfigError for less than a CNN can make maps of."""
    size = input_size or own_input_size(name)
    if size < SMALLEST:
        raise ConfigError(f"encoder.input_size: found {size}; expected at least {SMALLEST} pixels for {name}.")
    return size


def _orthonormal(width: int, common: int, seed: int) -> Tensor:
    """A fixed random matrix (width, common) with orthonormal rows, or columns where it is taller than wide."""
    generator = torch.Generator().manual_seed(seed)
    tall = torch.randn(max(width, common), min(width, common), generator=generator, dtype=torch.float64)
    columns, triangle = torch.linalg.qr(tall)
    # QR leaves signs open; those of the triangle make the matrix the same everywhere.
    columns = (columns * triangle.diagonal().sign()).float()
    return columns if width >= common else columns.T.contiguous()
