"""Sentences that say how good a run is, and the causes that they name, in the order of what the data show."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from robis.report.causes import Conditions, Evidence, causes
from robis.report.images import images_table
from robis.report.quality import Judged, Statement, statement, summary_text
from robis.scoring.limits import LabeledScores, Limit, limit_of

THIRTY = Limit(5.0, 30, 0)


def judged(good: list[float], defective: list[float], name: str = "nut/test", limit: Limit | None = THIRTY) -> Judged:
    """Labeled images judged by their score alone; what is judged anomalous is found."""
    bound = limit.value if limit else 0.0
    results = ["false alarm" if score > bound else "clean" for score in good]
    results += ["found" if score > bound else "missed" for score in defective]
    labels = ["normal"] * len(good) + ["anomalous"] * len(defective)
    return Judged(name, results, labels, np.array([*good, *defective]), limit)


def unlabeled(flagged: int, images: int, limit: Limit | None = THIRTY, name: str = "nut/test") -> Judged:
    results = ["judged anomalous"] * flagged + ["judged normal"] * (images - flagged)
    return Judged(name, results, [None] * images, np.arange(images, dtype=float), limit)


def test_a_run_that_separates() -> None:
    said = statement("musc", [judged([1.0] * 11 + [6.0], [7.0] * 10 + [2.0, 3.0])])
    # 12 x 12 pairs, of which those of the good image with 6 and the two defective ones below it are wrong.
    assert said.text.startswith("musc tells good from defective images: image AUROC 98.6 (95 % interval ")
    assert said.text.endswith(", chance is 50), from 12 good and 12 defective images.")
    assert said.level == "good"
    assert said.details[0] == "It judges 10 of 12 defective images anomalous, and 1 of 12 good ones (false alarms)."
    assert said.details[1] == (
        "An image is judged anomalous if it scores above the highest of 30 good images that were not used for "
        "training. By this choice 0 of the 30 are above the limit; expect about 1 in 31 new good images to be."
    )


def test_a_run_that_is_no_better_than_chance(rng: np.random.Generator) -> None:
    said = statement("musc", [judged(rng.normal(size=20).tolist(), rng.normal(size=20).tolist())])
    assert said.text.startswith("musc does not tell good from defective images better than chance: image AUROC ")
    assert said.level == "bad"


def test_a_run_that_separates_in_part(rng: np.random.Generator) -> None:
    said = statement("musc", [judged(rng.normal(size=40).tolist(), rng.normal(1.2, size=40).tolist())])
    assert said.text.startswith("musc tells good from defective images only in part: ")
    assert said.level == "part"


def test_few_images_and_several_categories_are_said() -> None:
    parts = [judged([1.0, 2.0], [6.0, 7.0]), judged([1.0, 6.0], [2.0, 7.0], "bolt/test")]
    said = statement("musc", parts)
    assert "image AUROC 87.5, mean of 2, lowest 75.0 in bolt/test (95 % interval" in said.text
    assert "from 4 good and 4 defective images." in said.text
    assert "So few images of a class (2) say little; the true interval is wider." in said.details


def test_few_images_that_allow_anything_prove_nothing() -> None:
    """Two of each: AUROC 75, and draws from 50 to 100."""
    said = statement("musc", [judged([0.5, 2.0], [1.0, 3.0])])
    assert said.text == (
        "musc has too few labeled images to say whether it tells good from defective ones: image AUROC 75.0 (95 % "
        "interval 0.0 to 100.0, chance is 50), from 2 good and 2 defective images."
    )
    assert said.level == "unknown"
    assert statement("musc", [judged([3.0, 2.0], [1.0, 0.5])]).level == "bad", "turned around, however few"


def test_masks_beside_the_defects_are_counted() -> None:
    part = Judged("nut/test", ["found", "found elsewhere", "missed", "clean"], ["anomalous"] * 3 + ["normal"],
                  np.array([3.0, 2.0, 1.0, 0.0]), None)  # fmt: skip
    details = statement("musc", [part]).details
    assert details[0] == (
        "It judges 2 of 3 defective images anomalous (1 of them with a mask that touches no defect), and 0 of 1 good "
        "ones (false alarms)."
    )
    assert any(sentence.startswith("No good images were held out, so an image is judged") for sentence in details)


def with_scores(held_out: list[float], good: list[float], defective: list[float]) -> Judged:
    """Labeled images that are judged by the highest of the held-out scores."""
    part = judged(good, defective, limit=limit_of(held_out))
    return replace(part, compared=LabeledScores(*map(np.array, (held_out, good, defective))))


def test_a_limit_that_judges_clearly_better_is_proposed() -> None:
    """One unusual image of twenty sets the limit at 50. With 1, 2 or 3 above it, it is 19, 18 or 17."""
    held_out = [*map(float, range(1, 20)), 50.0]
    part = with_scores(held_out, [10.0] * 19 + [18.5], [40.0] * 8 + [17.5, 18.2])
    proposal = statement("musc", [part]).details[-2]
    # Caught and flagged: 8 and 0 above 19, 9 and 1 above 18, 10 and 1 above 17; as many with every lower limit.
    assert proposal == (
        "With verdict.allowed_false_alarms: 0.15 it would judge 10 of 10 defective images anomalous, and 1 of 20 good "
        "ones."
    )


def test_a_limit_that_judges_little_better_is_not_proposed() -> None:
    held_out = [*map(float, range(1, 20)), 50.0]
    almost = with_scores(held_out, [10.0] * 20, [60.0] * 19 + [40.0])
    worse = with_scores(held_out, [18.5] * 20, [60.0] * 5 + [18.6] * 15)
    few_held_out = with_scores([1.0] * 8 + [50.0], [0.5] * 20, [40.0] * 20)
    few_images = with_scores(held_out, [0.5] * 9, [40.0] * 20)
    for part in (almost, worse, few_held_out, few_images):
        assert not any("allowed_false_alarms" in sentence for sentence in statement("musc", [part]).details)


def test_unlabeled_images_are_compared_with_what_chance_would_flag() -> None:
    said = statement("musc", [unlabeled(12, 40)])
    assert said.text == (
        "musc judges 12 of 40 images anomalous: they score above the highest of 30 good images. If all were good, "
        "about 1.3 would (probability of 12 or more: below 0.001)."
    )
    assert said.level == "unknown"
    # 2 of 2 above the highest of 30: 1 / C(32, 2).
    assert "about 0.1 would (probability of 2 or more: 0.002)" in statement("musc", [unlabeled(2, 2)]).text
    assert statement("musc", [unlabeled(2, 2)]).level == "part", "more than half"
    said = statement("musc", [unlabeled(0, 40, Limit(5.0, 30, 3))])
    assert said.text.endswith("27 of 30 good images. If all were good, about 5.2 would.")
    said = statement("musc", [unlabeled(3, 30), unlabeled(1, 30, name="bolt/test")])
    assert said.text == (
        "musc judges 4 of 60 images anomalous, by a limit for each category; if all were good, about 1.9 would be."
    )


def test_without_labels_and_held_out_images_nothing_is_claimed() -> None:
    said = statement("musc", [unlabeled(14, 40, None)])
    assert said.text == (
        "musc judges 14 of 40 images anomalous, since their final masks are not empty; how many of them are is "
        "not known."
    )
    assert "verdict.limit: validation holds out a tenth" in said.details[0]


def evidence(category: str = "nut", **changes: Any) -> Evidence:
    conditions = {"window": 300, "input_size": 256, "encoder": "dinov2_reg_vitb14", "weights": "auto", "training": 60}
    conditions |= {key: changes.pop(key) for key in list(changes) if key in conditions}
    values = {"sizes": np.array([[300, 400]] * 3), "areas": np.array([900.0]), "defective": 10} | changes
    return Evidence(category, Conditions(**conditions), **values)


def keys(*some: Evidence) -> list[str]:
    return [cause.key for cause in causes(some)]


def test_only_another_encoder_is_left_where_the_data_show_nothing() -> None:
    assert keys(evidence()) == ["encoder.name"]


def test_a_window_larger_than_the_images_is_a_cause() -> None:
    """300 x 400 of 1024 x 1024 pixels: 11.4 %; at 256 / 1024 they are 75 x 100."""
    (cause, *_) = causes([evidence(), evidence("bolt", window=1024)])
    assert cause.key == "tiling.window"
    assert cause.text == (
        "The window of 1024 pixels is too large for the images of bolt (400 x 300): they fill 11 % of it and reach the "
        "encoder as 100 x 75 pixels. Use 300 or less, or image."
    )
    assert keys(evidence(window="image")) == keys(evidence(window=300)) == ["encoder.name"]


def test_defects_that_resizing_erases_are_a_cause() -> None:
    """10 x 10 pixels in tiles of 1024 that become 256: 2.5 pixels; at 8 of 256 a tile is 320 pixels."""
    large = {"sizes": np.array([[2000, 3000]]), "areas": np.array([100.0, 100.0, 9000.0])}
    (cause, *_) = causes([evidence(window=1024, **large)])
    assert cause.text == (
        "Half of the defects of nut reach the encoder with at most 2.5 x 2.5 pixels. Use a smaller window, such as 320."
    )
    # A whole image of 2000 x 3000 becomes 256 pixels.
    assert keys(evidence(window="image", **large))[0] == "tiling.window"
    assert keys(evidence(window=320, **large)) == ["encoder.name"]


def test_causes_come_with_the_surest_first() -> None:
    bad = evidence(window=1024, weights="random", training=8, good=15, flagged=14, areas=np.array([36.0]))
    assert keys(bad) == ["encoder.weights", "tiling.window", "tiling.window", "train/", "train/"]
    enough = evidence(window=1024, areas=np.array([100.0]))
    assert keys(enough) == ["tiling.window", "encoder.name"], "8.5 pixels in a window of 300"
    texts = [cause.text for cause in causes([bad])]
    assert texts[3].startswith("14 of the 15 good images of nut score above the limit: they differ from the training")
    assert texts[4] == "nut has 8 training images: add good images, 20 at least."
    assert keys(evidence(training=None)) == ["encoder.name"], "a detector that does not learn"
    assert keys(evidence(good=15, flagged=7)) == ["encoder.name"]


def test_a_limit_from_few_images_is_a_cause() -> None:
    few = {"good": 15, "defective": 25, "missed": 16}
    (cause, _) = causes([evidence(), evidence("bolt", **few, held_out=6)])
    assert cause.key == "train/"
    assert cause.text == (
        "16 of the 25 defective images of bolt score below the limit, which comes from 6 good images: a single unusual "
        "one can set it. Give more training images; a tenth of them is held out."
    )
    assert keys(evidence(**few, held_out=20)) == keys(evidence(**few)) == ["encoder.name"]
    assert keys(evidence(**few | {"missed": 12}, held_out=6)) == ["encoder.name"]


def test_without_labels_nothing_says_that_the_encoder_fails() -> None:
    assert keys(evidence(defective=0, areas=np.array([]))) == []


@pytest.mark.parametrize("images", [3, 12])
def test_the_summary_lists_the_worst_images(images: int) -> None:
    names = [f"{number:02}" for number in range(images)]
    table = images_table([], []).reindex(range(images)).assign(
        detector="musc", category="nut", split="test", sample_id=names, judged="anomalous", result="judged anomalous",
        score=np.arange(images, dtype=float), margin=np.arange(images) - 0.5, regions=1, area=0.0125,
    )  # fmt: skip
    text = summary_text([Statement("musc", "unknown", "musc judges them.", ("It does.",))], pd.DataFrame(table))
    assert text.startswith("musc judges them.\nIt does.\n\nmusc, test: ")
    head, *rows = text.split("\n\n")[1].splitlines()
    assert head == f"musc, test: {images} of {images} images judged anomalous" + (
        "; the first 10:" if images > 10 else ":"
    )
    assert rows[0].split() == ["category", "sample_id", "score", "margin", "regions", "area", "result"]
    assert rows[1].split()[:5] == ["nut", names[-1], str(images - 1), str(images - 1.5), "1"]
    assert len(rows) == 1 + min(images, 10)
    assert "1.25 %" in rows[1]
