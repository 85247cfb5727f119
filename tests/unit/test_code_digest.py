"""The digest of a stage's code: what changes it and what does not, on an edited copy of the package."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from robis.detectors.registry import DETECTORS
from robis.encoders.names import builder_of
from robis.workflow import code_digest
from robis.workflow.stages import stages

STAGES = {
    f"{detector}.{name}": (declared.run, *((builder_of("vit_tiny_patch16_224"),) if declared.encoder else ()))
    for detector in DETECTORS
    for name, declared in stages(detector).items()
}
BEFORE = {roots: code_digest.code_digest(*roots) for roots in STAGES.values()}


def forget() -> None:
    for cached in (code_digest.code_digest, code_digest.reached, code_digest._module):
        cached.cache_clear()


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the package, which the digest reads."""
    copy = tmp_path / "robis"
    shutil.copytree(code_digest.ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_digest, "ROOT", copy)
    forget()
    yield copy
    forget()


def changed() -> set[str]:
    forget()
    stale = {roots for roots in BEFORE if code_digest.code_digest(*roots) != BEFORE[roots]}
    return {name for name, roots in STAGES.items() if roots in stale}


def edit(package: Path, file: str, old: str, new: str) -> None:
    path = package / file
    text = path.read_text()
    assert old in text, f"{old!r} is no longer in {file}"
    path.write_text(text.replace(old, new))


def test_a_copy_has_the_same_digests(package: Path) -> None:
    assert changed() == set()


class Reworder(ast.NodeTransformer):
    """Change every message, log line, docstring and annotation."""

    def reworded(self, node: ast.AST) -> ast.AST:
        for part in ast.walk(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                part.value += " (reworded)"
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        return self.reworded(node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        is_text = isinstance(node.value, ast.Constant)
        is_log = isinstance(node.value, ast.Call) and ast.unparse(node.value.func).startswith(("logger.", "logging."))
        return self.reworded(node) if is_text or is_log else self.generic_visit(node)


def test_reworded_messages_log_lines_and_docstrings_change_nothing(package: Path) -> None:
    for path in package.rglob("*.py"):
        tree = Reworder().visit(ast.parse(path.read_text()))
        path.write_text("# A comment.\n" + ast.unparse(ast.fix_missing_locations(tree)))
    assert "reworded" in (package / "io" / "images.py").read_text()
    edit(package, "errors.py", '"Valid: ', '"Allowed: ') if '"Valid: ' in (package / "errors.py").read_text() else None
    assert changed() == set()


def test_text_that_only_a_message_uses_changes_nothing(package: Path) -> None:
    edit(package, "scoring/rscin.py", "found none", "there is none")
    # Texts that call functions with names of their own.
    edit(package, "report/runs.py", "images have no row", "images lack a row")
    edit(package, "binarization/statistics.py", "are NaN, infinite or negative", "are NaN, infinite or below 0")
    assert changed() == set()


@pytest.mark.parametrize(
    ("file", "last", "entry"),
    [
        (
            "encoders/names.py",
            '"clip_vitl14_336": ',
            '        "clip_new": Architecture("clip", "ViT-H-14", 224, tag="x"),',
        ),
        ("encoders/names.py", '"dinov2_vitb14": ', '        "vit_new": Architecture("vit", "vit_x", 224, (1, 2)),'),
        ("encoders/names.py", '"cnn": "robis', '        "new": "robis.encoders.new:build_new",'),
        ("detectors/registry.py", "superadd=", "    toy=InpFormerDetector(),"),
    ],
)
def test_a_new_entry_of_a_registry_changes_nothing(package: Path, file: str, last: str, entry: str) -> None:
    lines = (package / file).read_text().splitlines()
    (number,) = (n for n, text in enumerate(lines) if text.strip().startswith(last))
    (package / file).write_text("\n".join([*lines[: number + 1], entry, *lines[number + 1 :]]))
    assert changed() == set()


def of_all(*names: str, detectors: tuple[str, ...] = tuple(DETECTORS)) -> set[str]:
    return {f"{detector}.{name}" for detector in detectors for name in names}


# They cut images in which regions count as normal.
CUTTING = {"superadd.train", "patchcore.train", "anomalydino.train"}
# Stages that do what the stages before them do, image by image.
INSPECTING = ("pack", "measure_detectability")


@pytest.mark.parametrize(
    ("file", "old", "new", "stages_changed"),
    [
        ("binarization/mebin.py", "range(TOP, 0, -", "range(TOP, 1, -", of_all("binarize", *INSPECTING)),
        ("binarization/mebin.py", "TOP = 255", "TOP = 254", of_all("binarize", *INSPECTING)),
        ("arrays/morphology.py", "flags=4", "flags=8", of_all("binarize", "refine", *INSPECTING)),
        ("detectors/reconstruction/augmentation.py", "0.2", "0.3", {"inp_former.train", "dinomaly.train"}),
        (
            "detectors/reconstruction/maps.py",
            "BLUR_SIGMA = 5, 4.0",
            "BLUR_SIGMA = 5, 4.5",
            {"inp_former.infer", "dinomaly.infer"},
        ),
        ("detectors/superadd/maps.py", "BLUR_REACH = ", "BLUR_REACH = 1 + ", {"superadd.infer"}),
        ("detectors/superadd/blocks.py", "(3, 5, 8, 10)", "(3, 5, 8, 11)", {"superadd.train", "superadd.infer"}),
        ("tiles/windows.py", "1 - overlap", "1.0 - overlap", of_all("crop", *INSPECTING) | CUTTING),
        ("scoring/rscin.py", "total / len(k)", "total / (1 + len(k))", of_all("score_images")),
        ("report/templates/index.html.j2", "<html", "<html data-edited", of_all("report")),
        ("report/published.yaml", "benchmarks:", "# edited\nbenchmarks:", of_all("report")),
    ],
)
def test_an_edited_expression_changes_the_stages_that_run_it(
    package: Path, file: str, old: str, new: str, stages_changed: set[str]
) -> None:
    edit(package, file, old, new)
    assert changed() == stages_changed


def test_every_arithmetic_expression_counts(package: Path) -> None:
    """The text of each definition that a stage reaches changes when an operator in it is exchanged."""
    reached = sorted(set().union(*(code_digest.reached(*roots) for roots in STAGES.values())))
    before = {(module, name): code_digest._module(module).text(name) for module, name in reached}
    exchanged = {item for module in dict(reached) for item in exchange_operators(module)}
    assert len(exchanged & set(reached)) > 50
    forget()
    after = {(module, name): code_digest._module(module).text(name) for module, name in reached}
    assert {item for item in reached if before[item] != after[item]} == exchanged & set(reached)


def exchange_operators(module: str) -> Iterator[tuple[str, str]]:
    """Exchange one operator of every definition of a module that has one outside messages; yields these."""
    path = code_digest._source(module)
    tree = code_digest._without_messages(ast.parse(path.read_text()))
    for node in tree.body:
        # X | Y is a union of types in annotations, which do not count.
        operators = [
            part for part in ast.walk(node) if isinstance(part, ast.BinOp) and not isinstance(part.op, ast.BitOr)
        ]
        if operators and isinstance(node, ast.FunctionDef | ast.ClassDef):
            operators[0].op = ast.Pow() if not isinstance(operators[0].op, ast.Pow) else ast.Add()
            yield module, node.name
    text = ast.unparse(ast.fix_missing_locations(filled(tree)))
    path.write_text(text)


def filled(tree: ast.Module) -> ast.Module:
    """The tree with `pass` where only a docstring or a log line was."""
    for node in ast.walk(tree):
        if hasattr(node, "body") and isinstance(node.body, list) and not node.body:
            node.body = [ast.Pass()]
    return tree


def test_messages_that_are_built_before_they_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def canonical(text: str) -> str:
        return "".join(code_digest._canonical(code_digest._without_messages(ast.parse(text))))

    plain = "def f(x):\n    return x + 1\n"
    noisy = '"""Module."""\n\n\ndef f(x: int) -> int:\n    """What f does."""\n    # why\n    return (x +\n        1)\n'
    assert canonical(plain) == canonical(noisy)
    raising = "def f(x):\n    {}if x:\n        raise ValueError({})\n    return x\n"
    assert canonical(raising.format("", "'a'")) == canonical(raising.format("hint = f'{x!r}'\n    ", "hint"))
    used = "def f(x):\n    hint = f'{}{{x}}'\n    if x:\n        raise ValueError(hint)\n    return hint\n"
    assert canonical(used.format("a")) != canonical(used.format("b")), "the text is a result, too"
    effect = "def f(x):\n    line = x.readline({})\n    if not x:\n        raise ValueError(line)\n"
    assert canonical(effect.format("")) != canonical(effect.format("9")), "the call has an effect"
    assert canonical("x = 'a'") != canonical("x = 'b'")


def reaching(roots: tuple[str, ...]) -> Callable[[str], bool]:
    modules = {module for module, _ in code_digest.reached(*roots)}
    return lambda module: module in modules


def test_no_stage_reaches_the_settings_or_the_workflow() -> None:
    for name, roots in STAGES.items():
        modules = {module for module, _ in code_digest.reached(*roots)}
        assert not {module for module in modules if module.startswith(("robis.workflow", "robis.config.se"))}, name
    train, infer = (reaching(STAGES[f"inp_former.{name}"]) for name in ("train", "infer"))
    assert not train("robis.encoders.clip") and not infer("robis.encoders.clip"), "it counts where a CLIP is used"
    assert infer("robis.detectors.inference") and not train("robis.detectors.inference")
    assert train("robis.detectors.reconstruction.loop") and not infer("robis.detectors.reconstruction.loop")
    assert code_digest.code_digest("robis.encoders.clip:build_clip_encoder") != code_digest.code_digest(
        *STAGES["inp_former.infer"]
    )
