"""Pins, environments and docs agree with what the package declares."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml

from robis.detectors.registry import DETECTORS

REPOSITORY = Path(__file__).parents[2]


def declared() -> dict[str, list[str]]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    groups = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    return {group: [re.split(r"[<>=]", name)[0].lower() for name in names] for group, names in groups.items()}


def pins() -> dict[str, str]:
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return {name.lower(): version for name, version in (line.split("==") for line in lines)}


def test_every_dependency_is_pinned_and_has_its_reason() -> None:
    reasons = (REPOSITORY / "docs" / "dependencies.md").read_text().lower()
    for names in declared().values():
        for name in names:
            assert name in pins()
            assert f"`{name}`" in reasons, f"docs/dependencies.md gives no reason for {name}"


# Packages whose modules have another name.
MODULES = {
    "cv2": "opencv-python-headless",
    "open_clip": "open_clip_torch",
    "PIL": "pillow",
    "segment_anything": "segment-anything",
    "yaml": "pyyaml",
}
# What declared packages require and offer to their users: torch on a GPU, Snakemake and pydantic.
WITH_OTHERS = {
    "annotated_types",
    "triton",
    "snakemake_interface_executor_plugins",
    "snakemake_interface_logger_plugins",
}


def test_what_the_package_imports_is_declared() -> None:
    files = [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "workflow_scripts").glob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    names = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    modules = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) - WITH_OTHERS - {"robis"}
    assert {MODULES.get(module, module).lower() for module in modules} <= {*declared()["runtime"], *declared()["onnx"]}


def test_hosted_tests_are_those_of_a_user_on_every_supported_python() -> None:
    hosted = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "test.yml").read_text())["jobs"]["test"]
    command = (REPOSITORY / ".ci" / "run").read_text().splitlines()[-1]
    assert hosted["steps"][-1]["run"].startswith(command)
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    versions = [line.rpartition(" ")[2] for line in project["classifiers"] if "Python :: 3." in line]
    assert hosted["strategy"]["matrix"]["python"] == versions


def test_pin_file_holds_names_and_versions_only() -> None:
    for line in (REPOSITORY / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!_-]+", line), line


# Where a detector is named outside of its folder: keys of earlier versions, and places of what WinCLIP's stages write.
NAMED = {
    "config/messages.py": {"musc.r", "musc.share", "superadd.growth", "superadd.jitter"},
    "workflow/results.py": {
        "OF_WINCLIP",
        "results/{dataset}/winclip/",
        "results/{dataset}/winclip/prompt_features/{category}.safetensors",
        "results/{dataset}/winclip/tile_features/{category}/{split}.npy",
    },
}
DETECTOR_NAME = rf"(?<![A-Za-z])({'|'.join(DETECTORS)})(?![a-z])"


def named_detectors(code: str) -> set[str]:
    """Identifiers and strings with a registered name. Docstrings and names of papers, such as MuSc, are no matter."""
    tree = ast.parse(code)
    nodes = list(ast.walk(tree))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {ast.get_docstring(node, clean=False) for node in nodes if isinstance(node, documented)}
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    fields = [getattr(node, name, None) for node in nodes for name in ("id", "attr", "name", "arg", "module")]
    identifiers = {field for field in fields if isinstance(field, str)}
    return {text for text in texts - docstrings if re.search(DETECTOR_NAME, text)} | {
        name for name in identifiers if re.search(rf"(^|[._])({'|'.join(DETECTORS)})([._]|$)", name, re.IGNORECASE)
    }


def test_a_named_detector_is_seen() -> None:
    code = '''"""MuSc: musc."""\nif kind == "musc":\n    print(f"try [superadd]", superadd_blocks, "MuSc")\n'''
    assert named_detectors(code) == {"musc", "try [superadd]", "superadd_blocks"}


def test_no_module_outside_the_detectors_names_one() -> None:
    source = REPOSITORY / "src" / "robis"
    files = [file for file in source.rglob("*.py") if file.relative_to(source).parts[0] != "detectors"]
    assert len(files) > 100
    named = {file.relative_to(source).as_posix(): named_detectors(file.read_text()) for file in files}
    assert {name: texts for name, texts in named.items() if texts} == NAMED


def test_the_snakefile_reads_as_a_contents_page() -> None:
    assert len((REPOSITORY / "Snakefile").read_text().splitlines()) <= 70
    assert len((REPOSITORY / "rules" / "common.smk").read_text().splitlines()) < 150


def test_every_rule_lists_its_parts_in_the_same_order() -> None:
    order = ["params", "input", "output", "log", "benchmark", "threads", "resources", "message", "script"]
    for file in sorted((REPOSITORY / "rules").glob("*.smk")):
        if file.name != "common.smk":
            found = re.findall(r"^    (\w+):", file.read_text(), flags=re.MULTILINE)
            assert found == [part for part in order if part in found], file.name
            assert set(order) - set(found) <= {"input"}, file.name
