"""Whether a pack repeats a run: its masks, maps and scores beside the workflow's. Quick to import."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Check(BaseModel):
    """A pack compared with the workflow on images of its split.

    Attributes:
        images: how many were compared.
        equal_masks, equal_maps, equal_scores: of how many the final mask, the anomaly map and the score were equal.
        differing_pixels: mask pixels that differ, in all images.
        score_difference: the largest difference of an image's score; None in packs of early versions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    images: int
    equal_masks: int
    equal_maps: int
    equal_scores: int
    differing_pixels: int
    score_difference: float | None = None

    def in_words(self, split: str) -> str:
        """What was compared and how it came out, in a sentence."""
        if not self.images:
            return "The masks were not compared with the workflow's (packs.checked_images is 0)."
        equal = f"Masks of {self.equal_masks} of {self.images} images of {split} equal the workflow's"
        pixels = f", {self.differing_pixels} pixels differ." if self.differing_pixels else "."
        scores = f" Scores differ by at most {self.score_difference:.2g}." if self.score_difference else ""
        return f"{equal}{pixels}{scores}"
