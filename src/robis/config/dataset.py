"""Which images a run works on, and how they are cut into tiles: every option, its default, unit and range."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from robis.config.section import DatasetName, Name, Section
from robis.config.types import Bounds, Text, at_most, larger, unique

SMALLEST_WINDOW = 8
# What is replaced in the pattern of ignored regions.
IGNORE_FIELDS = ("category", "split", "name")


class Dataset(Section):
    """The images to work on."""

    name: DatasetName = Field("demo", description="Name of the data set, and of its results folder: results/NAME/.")
    layout: Literal["mvtec_ad_2", "mvtec_ad", "mvtec_loco", "mpdd", "btad", "visa", "folder", "table"] = Field(
        "mvtec_ad_2", description="How the images are arranged on disk; docs/datasets.md shows each layout."
    )
    root: Text = Field("data/demo", description="Folder that holds one folder per category.")
    table: Text | None = Field(
        None,
        description="File that lists the images, absolute or relative to the root (layouts table and visa). null: "
        "samples.csv, or split_csv/1cls.csv for visa.",
    )
    allow_outside_root: bool = Field(False, description="Whether this file may list images outside the root.")
    archive: bool = Field(
        False,
        description="Whether the machine that starts robis puts images, masks and local weights into archives below "
        "results/NAME/inputs/, which all other jobs read: these may run on machines that see neither the data set nor "
        "the weights.",
    )
    bit_depth: Annotated[int, at_most(16, "Files of more than 16 bits are not read.", least=8)] | None = Field(
        None,
        description="Number of bits that images in PNG and TIFF files of 16 bits really have, such as 12 with many "
        "cameras; higher values are errors. null: the whole range of the file. Files of 8 bits do not depend on it.",
        json_schema_extra=larger("darker images with fewer gray levels"),
    )
    ignore: Text | None = Field(
        None,
        description="Masks of pixels to ignore: path of an image whose pixels above 0 never count, absolute or "
        "relative to the root. {category}, {split} and {name} (the image's path in its split, without suffix) are "
        "replaced, as in ignore/{category}.png. null: no pixel is ignored.",
    )
    categories: Literal["all"] | Annotated[list[Name], Field(min_length=1)] = Field(
        "all", description="Categories (products) to run: all, or a list of folder names."
    )
    splits: list[Name] = Field(
        ["test_public"],
        min_length=1,
        description="Splits to inspect, such as test_public or test; a table may name its splits freely.",
    )
    hold_out_every: (
        Annotated[int, at_most(1000, "No data set has that many training images to spare.", least=2)] | None
    ) = Field(
        None,
        description="Every how many training images, in the order of their names and from the first, one is held out. "
        "These images replace the validation split. null: a tenth, chosen by hash, where there are no validation "
        "images and other options need some.",
        json_schema_extra=larger("more images to learn from, fewer to take thresholds from"),
    )

    exclude: Text | None = Field(
        None,
        description="CSV whose column image names images to leave out of everything, as paths below the root, such as "
        "rows of results/NAME/audit/CATEGORY/images.csv. The file's own path is absolute or relative to the working "
        "folder.",
    )

    @field_validator("ignore")
    @classmethod
    def _known_fields(cls, value: str | None) -> str | None:
        unknown = [name for name in re.findall(r"{([^}]*)}", value or "") if name not in IGNORE_FIELDS]
        if unknown:
            expected = ", ".join(f"{{{name}}}" for name in IGNORE_FIELDS)
            raise ValueError(f"unknown {{{unknown[0]}}}; expected {expected} or nothing in braces")
        return value

    @field_validator("splits", "categories")
    @classmethod
    def _each_once(cls, value: Any) -> Any:
        return unique(value) if isinstance(value, list) else value


class Tiling(Section):
    """Overlapping windows that cover an image (Swin-Cropping in RoBiS)."""

    window: (
        Literal["auto", "image", "joined"]
        | Annotated[
            int,
            at_most(
                16384,
                "A larger window takes more than 0.8 GB of memory; image takes whole images.",
                least=SMALLEST_WINDOW,
            ),
        ]
    ) = Field(
        "auto",
        description="Side of the square window in image pixels. image: one tile per image. joined: the detector scales "
        "the image by image_scale, cuts it into tiles of encoder.input_size, and joins their tokens on one grid before "
        "it compares them (SuperADD). The number that auto stands for is lowered to the shortest side of the "
        "category's images.",
        json_schema_extra=larger("faster; a tile is shrunk more, so that small defects vanish"),
    )
    image_scale: Annotated[float, Bounds("A larger factor only blurs.", ge=0.01, le=4)] = Field(
        1.0,
        description="Factor by which whole images are scaled before they are cut (joined). SuperADD: 0.625.",
        json_schema_extra=larger("smaller defects are seen; more tiles and time"),
    )
    overlap: Annotated[float, Bounds("More overlap makes a tile at every few pixels.", ge=0, le=0.95)] = Field(
        0.1,
        description="Fraction of a window that the next window covers too; with joined at least.",
        json_schema_extra=larger("fewer seams between tiles; more tiles and time"),
    )
    edge: Literal["pad", "shift"] = Field(
        "pad",
        description="What happens to a window that extends beyond the image. pad: it is filled with zeros (published). "
        "shift: it is moved inward.",
    )
    resample: Literal["bilinear", "bicubic"] = Field(
        "bilinear",
        description="Antialiased filter that resizes tiles to the encoder's input. The public code of the CLIP-based "
        "methods uses bicubic.",
    )
