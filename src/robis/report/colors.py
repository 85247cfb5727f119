"""The colors of the report: one set on paper and in light mode, one in dark mode, under the same names.

Series differ under the common forms of color blindness (after Okabe and Ito).
"""

from __future__ import annotations

LIGHT = {
    "ink": "#18202a",
    "soft": "#566171",
    "grid": "#dde2e8",
    "ground": "#ffffff",
    "accent": "#0b6e7f",
    "band": "#d5ecef",
    "normal": "#566171",
    "anomalous": "#c4471b",
    "unknown": "#5b55b0",
    "series-0": "#0072b2",
    "series-1": "#c4471b",
    "series-2": "#00805e",
    "series-3": "#a0468a",
    "series-4": "#8a6a00",
    "series-5": "#2a7fb8",
    "series-6": "#5b55b0",
    "series-7": "#444c56",
}
DARK = {
    "ink": "#e7ebf0",
    "soft": "#9ba7b5",
    "grid": "#2a323c",
    "ground": "#171d24",
    "accent": "#57c4d6",
    "band": "#17414a",
    "normal": "#9ba7b5",
    "anomalous": "#ff8a5c",
    "unknown": "#b3adff",
    "series-0": "#5ab4f0",
    "series-1": "#ff8a5c",
    "series-2": "#4fd1a5",
    "series-3": "#e394d3",
    "series-4": "#e0b83f",
    "series-5": "#8fd3ff",
    "series-6": "#b3adff",
    "series-7": "#b8c1cc",
}
SERIES = 8
# Matplotlib's (offset, lengths); further series repeat the colors with other dashes.
DASHES = ("solid", (0, (5, 2)), (0, (1.5, 2)), (0, (7, 2, 1.5, 2)))
# Colors that two names share in light mode share one in dark mode, too, so that a color has one CSS variable.
VARIABLES = {color: f"var(--{name})" for name, color in reversed(LIGHT.items())}
