"""A digest of the code that a stage runs: its module and all it imports from this package.

Taken over the parsed source without docstrings and comments, so that only a change of what the
code does is a change.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "robis"
ROOT = Path(__file__).parents[1]


@cache
def code_digest(*modules: str, scripts: tuple[Path, ...] = ()) -> str:
    """Digest of modules of this package, of everything they import from the package, and of scripts.

    Returns:
        16 hexadecimal digits, the same wherever the parsed code is.
    """
    total = hashlib.sha256()
    for name in sorted(frozenset().union(*map(closure, modules))):
        total.update(f"{name}\0{_digest(_source(name))}\n".encode())
        for data in _data_files(_source(name)):
            total.update(f"{data.name}\0{hashlib.sha256(data.read_bytes()).hexdigest()}\n".encode())
    for script in scripts:
        total.update(f"{script.name}\0{_digest(script)}\n".encode())
    return total.hexdigest()[:16]


@cache
def closure(module: str) -> frozenset[str]:
    """Names of a module and of the package's modules it imports, directly or not, at its top or inside functions."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(_imports(name))
    return frozenset(seen)


@cache
def _imports(name: str) -> tuple[str, ...]:
    return tuple(_imported(ast.parse(_source(name).read_text(encoding="utf-8"))))


def _imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            candidates = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            candidates = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        yield from (name for name in candidates if name.startswith(f"{PACKAGE}.") and _exists(name))


def _source(name: str) -> Path:
    path = ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _data_files(source: Path) -> list[Path]:
    """Templates and the like that lie in a package's folder."""
    if source.name != "__init__.py":
        return []
    return sorted(path for path in source.parent.glob("templates/*") if path.is_file())


def _exists(name: str) -> bool:
    return _source(name).is_file()


@cache
def _digest(path: Path) -> str:
    text = "".join(_canonical(ast.parse(path.read_text(encoding="utf-8"))))
    return hashlib.sha256(text.encode()).hexdigest()


def _canonical(node: Any) -> Iterator[str]:
    """Write a syntax tree out without positions, docstrings and empty fields (which Python versions add)."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        yield "("
        for field, value in ast.iter_fields(node):
            if field == "body" and isinstance(value, list):
                value = value[_has_docstring(value) :]
            if value is not None and value != []:
                yield f"{field}="
                yield from _canonical(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _canonical(item)
            yield ","
    else:
        yield repr(node)


def _has_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
