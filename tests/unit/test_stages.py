"""Parameters of jobs: what makes a result stale, and what does not."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from PIL import Image

from robis.config.dataset import Dataset
from robis.datasets.layouts import LAYOUTS
from robis.detectors.registry import DETECTORS
from robis.detectors.settings import Settings, load, parse
from robis.errors import RobisError
from robis.workflow.checks import check_plan, without_effect
from robis.workflow.params import Params
from robis.workflow.project import Project
from robis.workflow.stages import STAGES, readers, stages

REPOSITORY = Path(__file__).parents[2]
JOB = {"detector": "inp_former", "category": "nut", "split": "test_public"}


def write_image(path: Path, value: int = 90) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for category in ("nut", "bolt"):
        for split in ("train/good", "validation/good", "test_public/good", "test_private"):
            for n in range(2):
                write_image(tmp_path / "data" / category / split / f"{n}.png", n)
    return tmp_path / "data"


@pytest.fixture
def project(root: Path, tmp_path: Path):
    def make(**changes) -> Project:
        values = {
            "dataset": {"root": str(root), "splits": ["test_public", "test_private"]},
            "refine": {"method": "none"},
        }
        for dotted, value in changes.items():
            section, _, key = dotted.partition("__")
            if key:
                values.setdefault(section, {})[key] = value
            else:
                values[section] = value
        overrides = values.pop("where", {}).get("overrides")
        return Project(parse(values | ({"overrides": overrides} if overrides else {})), tmp_path / "results")

    return make


def stale(one: Project, other: Project, **job: str) -> set[str]:
    chosen = JOB | job
    found = set()
    for stage in stages(chosen["detector"]):
        kinds = {
            "train": ("detector", "category"),
            "report": (),
            "submit": ("detector",),
            "audit_images": ("category",),
        }.get(stage, ("category", "split") if stage in ("index", "crop") else ("detector", "category", "split"))
        wildcards = {kind: chosen[kind] for kind in kinds}
        if repr(one.params(stage, **wildcards)) != repr(other.params(stage, **wildcards)):
            found.add(stage)
    return found


@pytest.mark.parametrize(
    ("key", "value", "stages"),
    [
        # The report repeats that windows of 512 pixels hold next to nothing of images of 8.
        ("tiling__window", 512, {"crop", "infer", "report"}),
        ("tiling__overlap", 0.2, {"crop"}),
        ("encoder__name", "dinov2_reg_vits14", {"audit_images", "train", "infer", "report"}),
        ("encoder__input_size", 448, {"crop", "audit_images", "train", "infer"}),
        ("inp_former__epochs", 3, {"train"}),
        ("inp_former__checkpoint_every", 3, set()),
        ("merge__scale", 0.5, {"infer", "merge", "judge", "submit"}),
        ("merge__blend", "feather", {"merge", "judge"}),
        ("binarize__std_factor", 2.0, {"binarize"}),
        ("refine__method", "grabcut", {"refine"}),
        ("score_images__top_fraction", 0.0, {"judge", "score_images"}),
        ("verdict__allowed_false_alarms", 0.1, {"judge"}),
        ("verdict__limit", "none", {"report"}),
        ("evaluate__resolution", 256, {"evaluate"}),
        ("report__max_images", 3, {"report"}),
        ("report__heatmap_range", "single", {"report"}),
        ("refine__max_boxes", 3, set()),
    ],
)
def test_a_key_makes_the_stages_stale_that_read_it(project, key: str, value: object, stages: set[str]) -> None:
    assert stale(project(), project(**{key: value})) == stages


def test_images_are_judged_where_normal_ones_are_held_out(project, root: Path) -> None:
    job = {"detector": "inp_former", "category": "nut", "split": "test_public"}
    assert project().judges(**job), "two validation images"
    assert not project(verdict__limit="none").judges(**job)
    assert project(verdict__normal_masks="empty").empties_masks(**job)
    assert not project(verdict__normal_masks="empty", verdict__limit="none").empties_masks(**job)
    musc = {"detectors": ["musc"], "rescore__method": "none"}
    assert project(**musc).judges(**job | {"detector": "musc"})
    assert not project(**musc, musc__subsets=2).judges(**job | {"detector": "musc"}), "four images are needed"
    shutil.rmtree(root / "nut" / "validation")
    assert not project().judges(**job)
    assert not project().hold_out("nut"), "published runs train on all images"
    for other in (project(verdict__limit="validation"), project(merge__normalize="validation")):
        assert other.hold_out("nut") and other.judges(**job)
        assert len(other.samples("nut", "train")) == len(other.samples("nut", "validation")) == 1


def test_an_override_touches_its_own_category_only(project) -> None:
    other = project(where__overrides=[{"where": {"category": "nut"}, "set": {"binarize.erosion_size": 2}}])
    assert stale(project(), other) == {"binarize"}
    assert stale(project(), other, category="bolt") == set()


def test_another_place_of_the_same_data_is_not_a_change(project, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "elsewhere")
    assert stale(project(), project(dataset__root=str(tmp_path / "elsewhere"))) == set()


def test_a_changed_image_makes_its_split_stale(project, root: Path) -> None:
    before = project()
    for category, split in (("nut", "test_public"), ("bolt", "test_public"), ("nut", "train")):
        stale(before, before, category=category, split=split)
    write_image(root / "nut" / "test_public" / "good" / "0.png", 200)
    assert stale(before, project()) == {"index", "crop", "audit_images", "refine", "evaluate", "report"}
    assert stale(before, project(), category="bolt") == {"report"}
    assert stale(before, project(), split="train") == {"audit_images", "report"}, "copies across splits"


def test_local_weights_count_by_content_not_by_path(project, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"one")
    (tmp_path / "b.pth").write_bytes(b"one")
    (tmp_path / "c.pth").write_bytes(b"two")
    first, same, other = (project(encoder__weights=str(tmp_path / f"{name}.pth")) for name in "abc")
    assert stale(first, same) == set()
    assert stale(first, other) == {"audit_images", "train", "infer"}


def test_params_survive_the_way_to_a_script(project) -> None:
    params = project().params("crop", category="nut", split="train")
    again = pickle.loads(pickle.dumps(params))
    assert again == params
    assert repr(again) == repr(params)
    assert "root" in again
    assert "root" not in repr(again)
    assert again.digest() == params.digest()


def test_params_compare_regardless_of_order() -> None:
    assert repr(Params(a=1, b=2)) == repr(Params(b=2, a=1))
    assert repr(Params(a=1, b=2)) != repr(Params(a=2, b=1))


def test_validation_is_held_out_only_where_it_is_needed(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "nut" / "validation")
    values = {"dataset": {"root": str(root), "layout": "mvtec_ad_2"}}
    plain = Project(parse(values), tmp_path)
    needed = Project(parse(values | {"binarize": {"calibrate": "validation"}}), tmp_path)
    assert len(plain.samples("nut", "train")) == 2
    assert len(needed.samples("nut", "train")) == 1
    assert len(needed.samples("nut", "validation")) == 1
    job = {"detector": "inp_former", "category": "nut", "split": "test_public"}
    assert needed.reference_split("binarize.calibrate", **job) == "validation"
    assert needed.reference_split("merge.normalize", **job) == "validation", "thresholds and maps on one scale"
    assert plain.reference_split("merge.normalize", **job) == "test_public"
    assert needed.params("index", category="nut", split="test_public")["hold_out"] is False
    assert needed.params("index", category="nut", split="train")["hold_out"] is True


def test_held_out_training_images_replace_the_validation_split(project) -> None:
    plain, every = project(), project(dataset__hold_out_every=2)
    assert [sample.image for sample in every.samples("nut", "validation")] == ["nut/train/good/0.png"]
    assert [sample.image for sample in every.samples("nut", "train")] == ["nut/train/good/1.png"]
    assert every.samples("nut", "test_public") == plain.samples("nut", "test_public")
    assert stale(plain, every) == {"audit_images"}
    assert {"index", "crop"} <= stale(plain, every, split="train") & stale(plain, every, split="validation")


@pytest.mark.parametrize(
    ("key", "value", "first"),
    [
        ("tiling__image_scale", 0.5, {"train", "infer"}),
        ("tiling__overlap", 0.4, {"train", "infer"}),
        ("tiling__edge", "shift", set()),
        ("tiling__resample", "bicubic", set()),
        ("tiling__window", 64, {"crop", "train", "infer"}),
        ("encoder__input_size", 320, {"audit_images", "train", "infer"}),
        ("merge__scale", 0.5, {"infer", "merge", "judge", "submit"}),
        ("superadd__smoothing_sigma", 0.0, {"infer"}),
        ("superadd__redraw_subsets", True, {"train"}),
        ("binarize__line_reach", 5, {"binarize"}),
        ("binarize__line_angles", 4, {"binarize"}),
        ("binarize__line_threshold_factor", 0.5, {"binarize"}),
        ("binarize__erosion_size", 5, {"binarize"}),
        ("binarize__percentile", 90.0, {"binarize"}),
        ("binarize__closing_sizes", [3], set()),
    ],
)
def test_what_re_runs_where_tokens_are_joined(project, key: str, value: object, first: set[str]) -> None:
    base = {"detectors": ["superadd"], "tiling__window": "joined", "binarize__method": "lines"}
    assert stale(project(**base), project(**base | {key: value}), detector="superadd") - {"report"} == first


# key -> another value, and the stages that read it, with two reference images.
PATCHCORE_CHANGES: dict[str, tuple[object, set[str]]] = {
    "patchcore.coreset_fraction": (0.2, {"train"}),
    "patchcore.start_points": (5, {"train"}),
    "patchcore.projected_width": (64, {"train"}),
    "patchcore.smoothing_sigma": (2.0, {"infer"}),
    "patchcore.seed": (1, {"train"}),
}
ANOMALYDINO_CHANGES: dict[str, tuple[object, set[str]]] = {
    "anomalydino.shots": (1, {"train"}),
    "anomalydino.seeds": (1, {"train"}),
    "anomalydino.references": (["good/0", "good/1"], {"train"}),
    "anomalydino.rotations": (3, {"train"}),
    "anomalydino.smoothing_sigma": (2.0, {"infer"}),
}


@pytest.mark.parametrize(("key", "change"), [*PATCHCORE_CHANGES.items(), *ANOMALYDINO_CHANGES.items()])
def test_what_re_runs_with_a_bank_of_tokens(project, key: str, change: tuple[object, set[str]]) -> None:
    value, first = change
    detector, _, option = key.partition(".")
    base = {"detectors": [detector], "tiling__window": 64, "anomalydino__shots": 2}
    one, other = project(**base), project(**base | {f"{detector}__{option}": value})
    assert stale(one, other, detector=detector) - {"report"} == first
    assert set(readers(key, [detector])) == first


@pytest.mark.parametrize("key", ["anomalydino__references", "anomalydino__rotations"])
def test_without_shots_no_references_are_drawn_and_rotated(project, key: str) -> None:
    value, _ = ANOMALYDINO_CHANGES[key.replace("__", ".")]
    base = {"detectors": ["anomalydino"], "tiling__window": 64}
    changed = stale(project(**base), project(**base | {key: value}), detector="anomalydino")
    assert changed <= {"report"}


@pytest.mark.parametrize(("preset", "runs"), [("mvtec_ad_patchcore", 1), ("mvtec_ad_anomalydino", 15)])
def test_presets_with_a_bank_of_tokens_plan(tmp_path: Path, preset: str, runs: int) -> None:
    for place in ("train/good", "test/good", "test/bad", "ground_truth/bad"):
        for number in range(16):
            write_image(tmp_path / "nut" / place / f"{number:03}{'_mask' if place.startswith('ground') else ''}.png")
    changes = {"dataset": {"root": str(tmp_path)}}
    project = Project(load(REPOSITORY / "config" / f"{preset}.yaml", changes=changes), tmp_path / "results")
    check_plan(project)
    assert len(project.detectors) == runs
    for run in project.detectors:
        assert project.params("train", detector=run, category="nut").options()
        assert project.params("infer", detector=run, category="nut", split="test").options()


def test_maps_without_a_range_have_no_reference_for_one(project) -> None:
    options = {"merge__normalize": "none", "binarize__calibrate": "validation"}
    raw = project(**options, binarize__method="lines", report__heatmap_range="single")
    assert raw.reference_split("merge.normalize", **JOB) is None
    assert raw.reference_split("binarize.calibrate", **JOB) == "validation"
    check_plan(raw)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": {"categories": ["nutt"]}}, r"dataset\.categories: 'nutt' is not in .*Did you mean 'nut'"),
        ({"dataset": {"splits": ["test_publik"]}}, r"dataset\.splits: .*'test_publik'.*Did you mean 'test_public'"),
        ({"tiling": {"window": "joined"}}, r"tiling\.window: found 'joined'; inp_former takes .* or use superadd\."),
        (
            {"detectors": ["superadd"], "tiling": {"window": "joined"}, "encoder": {"input_size": 650}},
            r"encoder\.input_size: found 650; tiling\.window: joined needs .* a multiple of 16 for dinov3_vithplus16\.",
        ),
        (
            {"merge": {"normalize": "none"}},
            r"merge\.normalize: none does not go with binarize\.method: robis, .*mean_std, percentile or lines\.",
        ),
        (
            {"merge": {"normalize": "none"}, "binarize": {"method": "percentile"}},
            r"merge\.normalize: none does not go with .*Set report\.heatmap_range: single\.",
        ),
        ({"dataset": {"root": "nowhere"}}, r"dataset\.root: nowhere is not a folder"),
        ({"encoder": {"weights": "nowhere.pth"}}, r"encoder\.weights: nowhere\.pth does not exist"),
        ({"refine": {"method": "sam"}}, r"weights/sam_vit_h_4b8939\.pth: does not exist.*refine\.checkpoint"),
        (
            {"overrides": [{"where": {"split": "test_public"}, "set": {"inp_former.epochs": 7}}]},
            r"overrides\.0: inp_former\.epochs is read by train, which is the same job for every split",
        ),
        (
            {
                "detectors": ["winclip"],
                "winclip": {"shots": [0, 1]},
                "overrides": [{"where": {"detector": "winclip_0shot"}, "set": {"tiling.window": 64}}],
            },
            r"overrides\.0: tiling\.window is read by crop, which is the same job for every run of a detector\. "
            r"Use where: \{detector: winclip\}",
        ),
        ({"detectors": ["winclip"], "encoder": {"name": "dino_vits16"}}, r"encoder\.name: .*winclip needs a model"),
        ({"encoder": {"name": "clip_vitb16"}}, r"encoder\.name: .*inp_former needs a vision transformer of timm"),
        ({"report": {"compare": ["results/nowhere"]}}, r"report\.compare: results/nowhere is not a folder"),
        ({"score_images": {"top_fraction": "own"}}, r"score_images\.top_fraction: inp_former gives images no score"),
        ({"rescore": {"method": "rscin"}}, r"rescore\.embeddings: inp_former has no image embeddings of its own"),
        ({"rescore": {"method": "rscin", "embeddings": "musc"}}, r"rescore\.embeddings: musc is not among the"),
        (
            {"overrides": [{"where": {"category": "nutt"}, "set": {"merge.scale": 1}}]},
            r"overrides\.0\.where\.category: 'nutt' matches nothing here\. .*Did you mean 'nut'",
        ),
    ],
)
def test_what_the_dataset_does_not_have_is_named(root: Path, tmp_path: Path, values: dict, message: str) -> None:
    dataset = {"root": str(root), "layout": "mvtec_ad_2"} | values.get("dataset", {})
    with pytest.raises(RobisError, match=message):
        check_plan(Project(parse(values | {"dataset": dataset}), tmp_path))


def test_overrides_of_categories_that_are_not_run_may_stay(root: Path, tmp_path: Path) -> None:
    overrides = [{"where": {"category": "bolt"}, "set": {"merge.scale": 1}}]
    dataset = {"root": str(root), "layout": "mvtec_ad_2", "categories": ["nut"]}
    check_plan(Project(parse({"dataset": dataset, "overrides": overrides, "refine": {"method": "none"}}), tmp_path))


def test_the_settings_offer_what_is_registered() -> None:
    assert set(get_args(Dataset.model_fields["layout"].annotation)) == set(LAYOUTS)
    assert [name for name in DETECTORS if name not in Settings.model_fields] == []
    assert {name: detector.name for name, detector in DETECTORS.items()} == {name: name for name in DETECTORS}


@pytest.mark.parametrize(
    ("base", "key", "value", "stages"),
    [
        ({"binarize__method": "percentile"}, "binarize__percentile", 90.0, {"binarize"}),
        ({"binarize__method": "percentile"}, "binarize__percentile_factor", 1.0, {"binarize"}),
        ({"binarize__method": "percentile"}, "binarize__std_factor", 2.0, set()),
        ({"binarize__method": "percentile"}, "binarize__erosion_size", 3, set()),
        ({"binarize__method": "rate"}, "binarize__rate", 0.1, {"binarize"}),
        ({"binarize__method": "rate"}, "binarize__confidence", 0.9, {"binarize"}),
        ({"binarize__method": "rate"}, "binarize__erosion_size", 3, {"binarize"}),
        ({"binarize__method": "rate"}, "binarize__calibrate", "validation", set()),
        ({}, "binarize__method", "rate", {"binarize"}),
        ({"binarize__method": "mebin"}, "binarize__std_factor", 2.0, set()),
        ({"binarize__method": "mebin"}, "binarize__threshold_step", 8, {"binarize"}),
        ({"binarize__method": "mean_std"}, "binarize__threshold_step", 8, set()),
        ({"binarize__method": "mean_std"}, "binarize__erosion_size", 3, {"binarize"}),
        ({"refine__method": "sam"}, "refine__model", "vit_b", {"refine"}),
        ({"refine__method": "sam"}, "refine__multimask", True, {"refine"}),
        ({"refine__method": "sam"}, "refine__precision", "fp16", {"refine"}),
        ({"refine__method": "sam"}, "refine__max_boxes", 2, {"refine"}),
        ({"refine__method": "grabcut"}, "refine__max_boxes", 2, {"refine"}),
        ({"refine__method": "grabcut"}, "refine__model", "vit_b", set()),
        ({"tiling__window": "image"}, "tiling__overlap", 0.3, set()),
        ({"tiling__window": "image"}, "tiling__edge", "shift", set()),
        ({"tiling__window": "image"}, "merge__scale", 0.5, {"merge", "judge", "submit"}),
        ({}, "encoder__name", "dino_vits16", {"crop", "audit_images", "train", "infer", "report"}),
        ({}, "dataset__categories", ["nut"], {"report", "submit"}),
        ({"refine__method": "none"}, "dataset__bit_depth", 12, {"crop", "audit_images", "report"}),
        ({"refine__method": "grabcut"}, "dataset__bit_depth", 12, {"crop", "audit_images", "refine", "report"}),
    ],
)
def test_conditions_of_the_table(project, base: dict, key: str, value: object, stages: set[str]) -> None:
    assert stale(project(**base), project(**(base | {key: value}))) == stages


def test_sam_checkpoints_count_by_content(project, tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / f"{name}.pth").write_bytes(content)
    first, same, other = (
        project(refine__method="sam", refine__checkpoint=str(tmp_path / f"{name}.pth")) for name in "abc"
    )
    assert stale(first, same) == set()
    assert stale(first, other) == {"refine"}


def test_every_stage_has_a_script_and_a_rule() -> None:
    for stage in STAGES:
        assert (REPOSITORY / "workflow_scripts" / f"{stage}.py").is_file()
        assert (REPOSITORY / "rules" / f"{stage}.smk").is_file()
    for script in (REPOSITORY / "workflow_scripts").glob("*.py"):
        text = script.read_text()
        assert "snakemake.config" not in text
        assert len(text.splitlines()) <= 50


def test_tiles_are_shared_by_detectors_that_cut_the_same(project) -> None:
    job = {"category": "nut", "split": "test_public"}
    published = project(detectors=["inp_former", "musc", "winclip"])
    assert published.tiles_owner(detector="inp_former", **job) == ""
    assert published.tiles_owner(detector="musc", **job) == "musc", "whole images"
    assert published.tiles_owner(detector="winclip", **job) == "winclip", "whole images at 240 pixels"
    same = project(
        detectors=["inp_former", "musc"], tiling__window=512, encoder__name="dinov2_vits14", rescore__method="none"
    )
    assert [same.tiles_owner(detector=name, **job) for name in same.detectors] == ["", ""]
    where = [{"where": {"detector": "musc", "category": "nut"}, "set": {"tiling.window": 8}}]
    other = project(detectors=["musc"], tiling__window=512, encoder__name="dinov2_vits14", where__overrides=where)
    assert other.tiles_owner(detector="musc", **job) == "musc"
    assert other.tiles_owner(detector="musc", category="bolt", split="test_public") == ""


def test_runs_of_one_detector_share_its_tiles_and_features(project) -> None:
    runs = project(detectors=["winclip"], winclip__shots=[0, 2], winclip__seeds=[0, 1])
    assert runs.detectors == ["winclip_0shot", "winclip_2shot_seed0", "winclip_2shot_seed1"]
    job = {"category": "nut", "split": "test_public"}
    assert {runs.tiles_owner(detector=name, **job) for name in runs.detectors} == {"winclip"}
    assert [runs.trains(detector=name, **job) for name in runs.detectors] == [False, True, True]
    zero, first, second = (runs.params("infer", detector=name, **job) for name in runs.detectors)
    assert repr(zero) == repr(first) == repr(second), "what differs is the model they read"
    train = [runs.params("train", detector=name, category="nut") for name in runs.detectors[1:]]
    assert [(one["shots"], one["reference_seed"]) for one in train] == [(2, 0), (2, 1)]
    fewer = project(detectors=["winclip"], winclip__shots=0)
    assert repr(fewer.params("winclip_embed_tiles", detector="winclip", **job)) == repr(
        runs.params("winclip_embed_tiles", detector="winclip", **job)
    )


def test_the_prompts_name_the_category(project, root: Path) -> None:
    (root / "nut").rename(root / "metal_nut")
    zero = project(detectors=["winclip"])
    params = zero.params("winclip_embed_prompts", detector="winclip", category="metal_nut")
    assert params["class_name"] == "metal nut"
    where = [{"where": {"category": "metal_nut"}, "set": {"winclip.class_name": "nut of steel"}}]
    named = project(detectors=["winclip"], where__overrides=where)
    assert (
        named.params("winclip_embed_prompts", detector="winclip", category="metal_nut")["class_name"] == "nut of steel"
    )
    assert named.params("winclip_embed_prompts", detector="winclip", category="bolt")["class_name"] == "bolt"


def test_a_given_model_replaces_training(project, tmp_path: Path) -> None:
    job = {"detector": "inp_former", "category": "nut", "split": "test_public"}
    for name in ("nut", "bolt"):
        (tmp_path / f"{name}.pth").write_bytes(name.encode())
    given = project(inp_former__weights=str(tmp_path / "{category}.pth"))
    check_plan(given)
    assert not given.trains(**job)
    assert given.params("infer", **job)["model"] == tmp_path / "nut.pth"
    assert project().trains(**job)
    before = repr(given.params("infer", **job))
    (tmp_path / "nut.pth").write_bytes(b"another")
    assert repr(project(inp_former__weights=str(tmp_path / "{category}.pth")).params("infer", **job)) != before
    (tmp_path / "bolt.pth").unlink()
    with pytest.raises(RobisError, match=r"inp_former\.weights: .*bolt\.pth does not exist"):
        check_plan(project(inp_former__weights=str(tmp_path / "{category}.pth")))


def test_embeddings_come_from_the_run_musc_or_a_file(project, tmp_path: Path) -> None:
    job = {"category": "nut", "split": "test_public"}
    both = project(detectors=["inp_former", "musc"], rescore__embeddings="musc", rescore__method="rscin")
    expected = both.results / "musc" / "tile_maps" / "nut" / "test_public.parquet"
    assert both.embeddings(detector="inp_former", **job) == both.embeddings(detector="musc", **job) == expected
    assert project().embeddings(detector="inp_former", **job) is None
    pattern = str(tmp_path / "{category}" / "{split}.npy")
    file = project(rescore__embeddings=pattern, rescore__method="rscin")
    with pytest.raises(RobisError, match=r"rescore\.embeddings: .*nut.test_public\.npy does not exist"):
        file.embeddings(detector="inp_former", **job)
    (tmp_path / "nut").mkdir()
    (tmp_path / "nut" / "test_public.npy").touch()
    assert file.embeddings(detector="inp_former", **job) == tmp_path / "nut" / "test_public.npy"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"detectors": ["musc"]},
            r"rescore\.neighborhood_sizes: found \[1, 2, 3\]; bolt/test_public has 2 images.*rescore\.method: none",
        ),
        (
            {"detectors": ["musc"], "musc": {"subsets": 2}},
            r"musc\.subsets: found 2 for the 2 images of bolt/test_public",
        ),
        ({"detectors": ["winclip"], "winclip": {"shots": 3}}, r"winclip\.shots: found 3; bolt has 2 training images"),
        (
            {"detectors": ["winclip"], "winclip": {"shots": 1, "references": ["good/7"]}},
            r"winclip\.references: bolt has no training image 'good/7'\. .*Did you mean 'good/",
        ),
        (
            {"rescore": {"method": "rscin", "embeddings": "winclip"}},
            r"rescore\.embeddings: winclip is not among the detectors",
        ),
        (
            {"encoder": {"name": "vit_tiny_patch99", "input_size": 224}},
            r"encoder\.name: 'vit_tiny_patch99' is no known",
        ),
    ],
)
def test_what_the_images_cannot_serve_is_said_while_planning(
    root: Path, tmp_path: Path, values: dict, message: str
) -> None:
    base = {"dataset": {"root": str(root)}, "refine": {"method": "none"}}
    rescore = {} if "rescore" in values or values.get("musc") is None else {"rescore": {"method": "none"}}
    with pytest.raises(RobisError, match=message):
        check_plan(Project(parse(base | rescore | values), tmp_path))


def test_splits_without_images_are_named_while_planning(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "nut" / "train" / "good")
    (root / "nut" / "train" / "normal").mkdir()
    values = {"dataset": {"root": str(root)}, "refine": {"method": "none"}}
    with pytest.raises(RobisError, match=r"1 split without images:\n  nut/train: no images .*train/normal"):
        check_plan(Project(parse(values), tmp_path))
    zero_shot = {"detectors": ["winclip"], "rescore": {"method": "none"}}
    check_plan(Project(parse(values | zero_shot), tmp_path))
    shutil.rmtree(root / "nut" / "validation")
    calibrated = values | zero_shot | {"binarize": {"calibrate": "validation"}}
    with pytest.raises(RobisError, match=r"nut/validation(.|\n)*and verdict\.limit: none need no validation images"):
        check_plan(Project(parse(calibrated), tmp_path))


def test_overrides_reach_the_stages_of_the_detectors_they_name(root: Path, tmp_path: Path) -> None:
    """None of these keys is read by a job that serves several splits of the detector named."""
    values = {"dataset": {"root": str(root)}, "refine": {"method": "none"}, "rescore": {"method": "none"}}
    for detectors, where, key, value in (
        (["inp_former", "musc"], {"split": "test_public", "detector": "musc"}, "encoder.input_size", 336),
        (["inp_former", "winclip"], {"split": "test_public", "detector": "inp_former"}, "infer.batch_size", 2),
        (["winclip"], {"split": "test_public"}, "infer.batch_size", 2),
        (["inp_former"], {"detector": "inp_former"}, "merge.normalize", "validation"),
    ):
        overrides = [{"where": where, "set": {key: value}}]
        check_plan(Project(parse(values | {"detectors": detectors, "overrides": overrides}), tmp_path))
    refused = [{"where": {"split": "test_public", "detector": "inp_former"}, "set": {"encoder.input_size": 336}}]
    with pytest.raises(RobisError, match=r"encoder\.input_size is read by train"):
        check_plan(Project(parse(values | {"detectors": ["inp_former", "musc"], "overrides": refused}), tmp_path))


def test_the_notice_names_the_runs_with_random_weights(project) -> None:
    where = [{"where": {"detector": "musc"}, "set": {"encoder.weights": "random"}}]
    mixed = project(detectors=["inp_former", "musc"], where__overrides=where)
    assert "weights of musc are random" in mixed.params("report")["notice"]
    assert project().params("report")["notice"] is None
    assert "weights are random" in project(encoder__weights="random").params("report")["notice"]


def test_weights_of_one_name_in_several_folders_are_each_remembered(project, tmp_path: Path) -> None:
    for name in ("nut", "bolt"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.pth").write_bytes(name.encode())
    given = project(inp_former__weights=str(tmp_path / "{category}" / "model.pth"))
    for name in ("nut", "bolt"):
        given.params("infer", detector="inp_former", category=name, split="test_public")
    assert len(list((given.results / "fingerprints" / "weights").iterdir())) == 2


def test_options_without_effect_are_named(project) -> None:
    assert without_effect(project()) == []
    both = project(binarize__percentile=90.0, refine__max_boxes=5, musc__subsets=2)
    assert without_effect(both) == [
        "musc.subsets has no effect: musc is not among the detectors.",
        "binarize.percentile has no effect here: it is read only with binarize.method percentile or lines.",
        "refine.max_boxes has no effect here: it is read only with refine.method sam or grabcut.",
    ]
    where = [{"where": {"category": "nut"}, "set": {"binarize.method": "percentile"}}]
    assert without_effect(project(binarize__percentile=90.0, where__overrides=where)) == []
    unused = [{"where": {"category": "nut"}, "set": {"tiling.overlap": 0.3}}]
    whole_images = project(tiling__window="image", where__overrides=unused)
    assert without_effect(whole_images) == [
        "tiling.overlap has no effect here: it is read only with tiling.window a number."
    ]
