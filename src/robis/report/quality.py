"""How good the runs of a report are, in sentences that anyone can read."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from robis.binarization.promise import Promise, promises_in_words, read_promise
from robis.evaluation.separation import Separation, separation
from robis.report.causes import Cause, Conditions, Evidence, causes
from robis.report.gallery import Measured
from robis.report.runs import ANOMALOUS, Group, known
from robis.report.verdicts import JUDGED_ANOMALOUS
from robis.scoring.limits import Choice, LabeledScores, Limit, best_choice, chance_of, in_words, youden

# Below this image AUROC, scores separate in part only.
SEPARATES = 0.9
# With fewer images of a class, or fewer held-out images, neither an interval nor a proposed limit can be relied on.
FEW_IMAGES = 10
# A limit is worth a remark if it improves the share of caught minus that of flagged images by this.
CLEARLY_BETTER = 0.1
# Verdicts on anomalous images that are judged so.
CAUGHT = ("found", "found elsewhere", "caught")
# More images judged anomalous than this are either a bad day in the factory or a limit that does not fit.
MOST = 0.5


@dataclass(frozen=True)
class Judged:
    """The images of one run, category and split.

    Attributes:
        name: category/split.
        results: one of VERDICTS per image.
        labels: "normal", "anomalous" or None per image.
        scores: float (N,), as the metrics rank them.
        limit: None where images are judged by their final masks.
        compared: scores of the held-out and the labeled images; None without a limit.
        promise: what the threshold of the masks promises (binarize.method: rate).
    """

    name: str
    results: Sequence[str]
    labels: Sequence[str | None]
    scores: np.ndarray
    limit: Limit | None
    compared: LabeledScores | None = None
    promise: Promise | None = None

    @property
    def labeled(self) -> bool:
        """Whether some image's label is known."""
        return any(label is not None for label in self.labels)

    def scores_of(self, label: str) -> np.ndarray:
        """Scores of the images with a label."""
        return self.scores[np.array([each == label for each in self.labels], bool)]

    @property
    def flagged(self) -> int:
        """Number of images that are judged anomalous."""
        return sum(result in JUDGED_ANOMALOUS for result in self.results)


@dataclass(frozen=True)
class Statement:
    """How good a run is.

    Attributes:
        run: its name.
        level: "good", "part" or "bad"; "unknown" where no labels say, or too few.
        text: one sentence.
        details: further sentences.
        causes: likely ones of a bad result, the surest first.
    """

    run: str
    level: str
    text: str
    details: Sequence[str] = ()
    causes: Sequence[Cause] = ()


def judged_images(groups: Sequence[Group], measured: Sequence[Measured]) -> dict[str, list[Judged]]:
    """Run of this report -> its images, category by category and split by split."""
    runs: dict[str, list[Judged]] = {}
    for group, masks in zip(groups, measured, strict=True):
        labels = [known(label) for label in group.samples["label"]]
        for run in (run for run in group.runs if not run.compared):
            part = Judged(
                name=f"{group.category}/{group.split}",
                results=[str(result) for result in masks.results[run.name]],
                labels=labels,
                scores=group.tables[run.name]["rescored"].to_numpy(np.float64),
                limit=group.limit(run.name),
                compared=_labeled_scores(group, run.name),
                promise=read_promise(run.thresholds),
            )
            runs.setdefault(run.name, []).append(part)
    return runs


def _labeled_scores(group: Group, run: str) -> LabeledScores | None:
    """The scores that a run judges by; they differ from those that it ranks by where it re-scores."""
    if run not in group.held_out:
        return None
    table = group.tables[run]
    scores = (table["margin"] + table["limit"]).to_numpy()
    label = group.samples["label"].fillna("").to_numpy(str)
    return LabeledScores(group.held_out[run], scores[label == "normal"], scores[label == ANOMALOUS])


def statement(run: str, parts: Sequence[Judged]) -> Statement:
    """How good a run is: by its labeled images where there are some, else by how many images its limit flags."""
    labeled = [part for part in parts if part.labeled]
    both = [part for part in labeled if all(len(part.scores_of(label)) for label in ("normal", ANOMALOUS))]
    unlabeled = [part for part in parts if not part.labeled]
    if not both:
        level, text = _without_labels(run, parts)
        return Statement(run, level, text, [*([_catches(labeled)] if labeled else []), *_about(parts)])
    measured = separation([(part.scores_of("normal"), part.scores_of(ANOMALOUS)) for part in both])
    level, text = _with_labels(run, measured, both)
    details = [_catches(labeled)]
    if measured.fewest < FEW_IMAGES:
        details.append(f"So few images of a class ({measured.fewest}) say little; the true interval is wider.")
    else:
        details += _better_limit(labeled)
    if unlabeled:
        details.append(_without_labels("It", unlabeled)[1])
    return Statement(run, level, text, [*details, *_about(parts)])


def _with_labels(run: str, measured: Separation, parts: Sequence[Judged]) -> tuple[str, str]:
    """Level and sentence of a run whose scores are compared with labels."""
    level = _level(measured)
    claim = {
        "good": "tells good from defective images",
        "part": "tells good from defective images only in part",
        "bad": "does not tell good from defective images better than chance",
        "unknown": "has too few labeled images to say whether it tells good from defective ones",
    }[level]
    mean = ""
    if len(parts) > 1:
        lowest = int(np.argmin(measured.by_part))
        mean = f", mean of {len(parts)}, lowest {100 * measured.by_part[lowest]:.1f} in {parts[lowest].name}"
    return level, (
        f"{run} {claim}: image AUROC {100 * measured.auroc:.1f}{mean} (95 % interval {100 * measured.low:.1f} to "
        f"{100 * measured.high:.1f}, chance is 50), from {measured.normal} good and {measured.anomalous} defective "
        f"images."
    )


def _level(measured: Separation) -> str:
    """The level of a run by its image AUROC; "unknown" where few images leave all from chance to good possible."""
    if measured.low > 0.5:
        return "good" if measured.auroc >= SEPARATES else "part"
    return "unknown" if measured.fewest < FEW_IMAGES and measured.high >= SEPARATES else "bad"


def _catches(parts: Sequence[Judged]) -> str:
    """How many defective images are caught, and how many good ones are false alarms."""
    counts = Counter(result for part in parts for result in part.results)
    false_alarms, missed, elsewhere = (counts[name] for name in ("false alarm", "missed", "found elsewhere"))
    good = false_alarms + counts["clean"]
    defective = missed + elsewhere + counts["found"] + counts["caught"]
    place = f" ({elsewhere} of them with a mask that touches no defect)" if elsewhere else ""
    return (
        f"It judges {defective - missed} of {defective} defective images anomalous{place}, and {false_alarms} of "
        f"{good} good ones (false alarms)."
    )


def _better_limit(parts: Sequence[Judged]) -> list[str]:
    """The value of `verdict.allowed_false_alarms` that would judge these images clearly better, if there is one."""
    compared = [part.compared for part in parts if part.compared]
    if len(compared) < len(parts) or min(len(part.held_out) for part in compared) < FEW_IMAGES:
        return []
    results = Counter(result for part in parts for result in part.results)
    now = Choice(0.0, caught=sum(results[name] for name in CAUGHT), flagged=results["false alarm"])
    better = best_choice(compared)
    if youden(better, compared) < youden(now, compared) + CLEARLY_BETTER:
        return []
    anomalous, normal = (sum(len(getattr(part, kind)) for part in compared) for kind in ("anomalous", "normal"))
    return [
        f"With verdict.allowed_false_alarms: {better.allowed:g} it would judge {better.caught} of {anomalous} "
        f"defective images anomalous, and {better.flagged} of {normal} good ones."
    ]


def _without_labels(run: str, parts: Sequence[Judged]) -> tuple[str, str]:
    """Level and sentence of a run without labels: how many images are judged anomalous, and what chance would give."""
    images = sum(len(part.results) for part in parts)
    flagged = sum(part.flagged for part in parts)
    level = "part" if flagged > MOST * images else "unknown"
    text = f"{run} judges {flagged} of {images} images anomalous"
    limits = [part.limit for part in parts if part.limit]
    if len(limits) < len(parts):
        return level, f"{text}, since their final masks are not empty; how many of them are is not known."
    rates = [(limit.above + 1) / (limit.images + 1) for limit in limits]
    expected = sum(len(part.results) * rate for part, rate in zip(parts, rates, strict=True))
    if len(limits) > 1:
        return level, f"{text}, by a limit for each category; if all were good, about {expected:.1f} would be."
    chance = _probability(chance_of(flagged, images, limits[0]))
    certainty = f" (probability of {flagged} or more: {chance})" if flagged else ""
    text += f": they score above {in_words(limits[0])}"
    return level, f"{text}. If all were good, about {expected:.1f} would{certainty}."


def _probability(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _about(parts: Sequence[Judged]) -> list[str]:
    """What the limits are, and what the masks' thresholds promise."""
    return [*_about_limits(parts), *promises_in_words((part.name, part.promise) for part in parts)]


def _about_limits(parts: Sequence[Judged]) -> list[str]:
    """What the limits are, and how many of the held-out normal images they flag."""
    limits = [part.limit for part in parts if part.limit]
    sentences = []
    if limits:
        kinds = list(dict.fromkeys(map(in_words, limits)))
        words = kinds[0] if len(kinds) == 1 else f"a limit from held-out images, such as {kinds[0]}"
        fewest = min(limits, key=lambda limit: limit.images)
        rate = round((fewest.images + 1) / (fewest.above + 1))
        sentences.append(
            f"An image is judged anomalous if it scores above {words} that were not used for training. By this "
            f"choice {fewest.above} of the {fewest.images} are above the limit; expect about 1 in {rate} new good "
            f"images to be."
        )
    if len(limits) < len(parts):
        sentences.append(
            "No good images were held out, so an image is judged anomalous if its final mask has a pixel. "
            "verdict.limit: validation holds out a tenth of the training images and judges by a limit."
        )
    return sentences


def statements(
    groups: Sequence[Group], measured: Sequence[Measured], conditions: Mapping[str, Mapping[str, Conditions]]
) -> list[Statement]:
    """How good each run of this report is; with likely causes where it is not good and its conditions are known.

    Args:
        groups: the report's groups.
        measured: what the masks of each group say.
        conditions: run -> category -> under which conditions it was made.
    """
    said = []
    for run, parts in judged_images(groups, measured).items():
        of_run = statement(run, parts)
        if of_run.level in ("part", "bad") and run in conditions:
            of_run = replace(of_run, causes=causes(list(_evidence(run, groups, measured, conditions[run]))))
        said.append(of_run)
    return said


def _evidence(
    run: str, groups: Sequence[Group], measured: Sequence[Measured], conditions: Mapping[str, Conditions]
) -> Iterator[Evidence]:
    for group, masks in zip(groups, measured, strict=True):
        if run in masks.images:
            counts = Counter(masks.results[run])
            limit = group.limit(run)
            yield Evidence(
                group.category,
                conditions[group.category],
                group.samples[["height", "width"]].to_numpy(int),
                masks.regions[run]["area"].to_numpy(float),
                good=counts["false alarm"] + counts["clean"],
                flagged=counts["false alarm"] if limit else 0,
                defective=sum(known(label) == ANOMALOUS for label in group.samples["label"]),
                missed=counts["missed"],
                held_out=limit.images if limit else 0,
            )


def summary_text(said: Sequence[Statement], images: pd.DataFrame, worst: int = 10) -> str:
    """The statements as plain text, and per run and split the images that are most certainly anomalous.

    Args:
        said: a statement per run.
        images: the table of `images_table`.
        worst: most images that are listed per run and split.
    """
    blocks = []
    for of_run in said:
        lines = [of_run.text, *of_run.details]
        lines += [f"Likely cause: {cause.text} ({cause.key})" for cause in of_run.causes]
        blocks.append("\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines))
        rows = images[images["detector"] == of_run.run]
        blocks += [
            _worst(of_run.run, str(split), of_split, worst) for split, of_split in rows.groupby("split", sort=False)
        ]
    return "\n\n".join(blocks) + "\n"


def _worst(run: str, split: str, rows: pd.DataFrame, number: int) -> str:
    counts = rows["judged"].value_counts()
    head = f"{run}, {split}: {counts.get('anomalous', 0)} of {len(rows)} images judged anomalous"
    anomalous = rows[rows["judged"] == "anomalous"]
    first = anomalous.sort_values(["margin", "score"], ascending=False, kind="stable").head(number)
    if first.empty:
        return f"{head}."
    table = first[["category", "sample_id", "score", "margin", "regions", "area", "result"]]
    table = table.assign(area=[f"{100 * area:.2f} %" for area in table["area"]])
    shown = table.to_string(index=False, float_format="{:.4g}".format, na_rep="-")
    more = f"; the first {len(first)}" if len(first) < len(anomalous) else ""
    return f"{head}{more}:\n{shown}"
