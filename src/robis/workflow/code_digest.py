"""A digest of the code that a stage runs: its function and every definition that the function reaches.

Comments, docstrings, annotations, error messages and log lines do not count, so that rewording them re-runs nothing.
Registries do not count either: a job's parameters carry the entry that it uses (`robis.config.registry`).
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = "robis"
ROOT = Path(__file__).parents[1]
# Modules that only make messages: nothing in them changes a result.
MESSAGES = ("robis.errors", "robis.datasets.problems", "robis.io.progress")
LOGGERS = ("logger", "logging", "warnings")
# Calls without side effects that messages are made of.
FORMATTERS = ("len", "list", "max", "min", "next", "repr", "sorted", "str", "tuple", "join", "format")


@cache
def code_digest(*roots: str, scripts: tuple[Path, ...] = ()) -> str:
    """Digest of all code that "module:name" roots reach within this package, and of scripts.

    Returns:
        16 hexadecimal digits, the same wherever the parsed code is.
    """
    total = hashlib.sha256()
    for module, name in sorted(reached(*roots)):
        total.update(f"{module}:{name}\0{_module(module).text(name)}\n".encode())
        for data in _templates(module):
            total.update(f"{data.name}\0{hashlib.sha256(data.read_bytes()).hexdigest()}\n".encode())
    for script in scripts:
        tree = ast.parse(script.read_text(encoding="utf-8"))
        total.update(f"{script.name}\0{''.join(_canonical(_without_messages(tree)))}\n".encode())
    return total.hexdigest()[:16]


@cache
def reached(*roots: str) -> frozenset[tuple[str, str]]:
    """(module, name) of every definition that the roots reach, directly or not.

    The name "" stands for what a module runs when it is imported.
    """
    seen: set[tuple[str, str]] = set()
    waiting = [(module, name) for module, _, name in (root.partition(":") for root in roots)]
    while waiting:
        item = waiting.pop()
        if item in seen or item[0] in MESSAGES:
            continue
        seen.add(item)
        module = _module(item[0])
        waiting += [(item[0], ""), *module.references(item[1])]
    return frozenset(seen)


@dataclass
class Module:
    """A parsed module.

    Attributes:
        definitions: name -> the statements that define it.
        imports: local name -> (module, name) within this package; the name "" stands for the module itself.
        effects: statements that run when the module is imported and define nothing.
    """

    name: str
    definitions: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)
    effects: list[ast.stmt] = field(default_factory=list)

    def text(self, name: str) -> str:
        """A definition in canonical form."""
        return "".join(text for node in self._nodes(name) for text in _canonical(node))

    def references(self, name: str) -> Iterator[tuple[str, str]]:
        """What a definition refers to; the types of arguments too, since their methods may be called."""
        for node in self._nodes(name):
            modules = {
                id(part.value): part.attr
                for part in ast.walk(node)
                if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name)
            }
            for part in ast.walk(node):
                if isinstance(part, ast.Name):
                    yield from self._resolved(part.id, modules.get(id(part)))

    def _nodes(self, name: str) -> list[ast.stmt]:
        if not name:
            return self.effects
        if name not in self.definitions:
            raise KeyError(f"{self.name} defines no {name}.")
        return self.definitions[name]

    def _resolved(self, name: str, attribute: str | None) -> Iterator[tuple[str, str]]:
        if name in self.definitions:
            yield self.name, name
        elif name in self.imports:
            module, symbol = self.imports[name]
            if symbol:
                yield _defined(module, symbol)
            elif attribute:
                yield _defined(module, attribute)


def _defined(module: str, name: str) -> tuple[str, str]:
    """Where a name that a module offers is defined; a registry, or what is no definition, counts as nothing."""
    if module in MESSAGES:
        return module, ""
    parsed = _module(module)
    if name in parsed.definitions:
        return module, name
    if name in parsed.imports:
        source, symbol = parsed.imports[name]
        return _defined(source, symbol) if symbol else (source, "")
    return module, ""


@cache
def _module(name: str) -> Module:
    tree = _without_messages(ast.parse(_source(name).read_text(encoding="utf-8")))
    module = Module(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                if target := _imported(node.module, alias.name):
                    module.imports[alias.asname or alias.name] = target
    for statement in tree.body:
        _sort_in(module, statement)
    return module


def _imported(module: str, name: str) -> tuple[str, str] | None:
    if module != PACKAGE and not module.startswith(f"{PACKAGE}."):
        return None
    return (f"{module}.{name}", "") if _source(f"{module}.{name}").is_file() else (module, name)


def _sort_in(module: Module, statement: ast.stmt) -> None:
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        module.definitions.setdefault(statement.name, []).append(statement)
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        if isinstance(statement, ast.AnnAssign) and "Registry" in ast.dump(statement.annotation):
            return
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        names = [part.id for target in targets for part in ast.walk(target) if isinstance(part, ast.Name)]
        plain = all(isinstance(target, ast.Name | ast.Tuple) for target in targets)
        for name in names if plain else []:
            module.definitions.setdefault(name, []).append(statement)
        if not plain:
            module.effects.append(statement)
    elif isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
        return
    elif not isinstance(statement, ast.Import | ast.ImportFrom):
        module.effects.append(statement)


def _source(name: str) -> Path:
    path = ROOT.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _templates(module: str) -> list[Path]:
    """Templates and data that lie in the folder of a module's package, of a module that names them."""
    source = _source(module)
    folder = source.parent
    data = {path: path.name for path in folder.glob("*.yaml")}
    data |= {path: "templates" for path in folder.glob("templates/*") if path.is_file()}
    text = source.read_text(encoding="utf-8") if data else ""
    return sorted(path for path, name in data.items() if f'"{name}"' in text or f"'{name}'" in text)


def _without_messages(tree: ast.Module) -> ast.Module:
    stripped: ast.Module = _Stripper(_message_makers(tree)).visit(tree)
    return stripped


def _message_makers(tree: ast.Module) -> set[str]:
    """Local names imported from the modules that only make messages."""
    return {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if node.module in MESSAGES or f"{node.module}.{alias.name}" in MESSAGES
    }


class _Stripper(ast.NodeTransformer):
    """Remove docstrings, error messages, log lines, and what only these use."""

    def __init__(self, makers: set[str]) -> None:
        self.makers = makers

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        kind = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(exc=kind, cause=None)

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        return ast.Assert(test=self.visit(node.test), msg=None)

    def visit_Expr(self, node: ast.Expr) -> ast.Expr | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        if isinstance(node.value, ast.Call) and _base_name(node.value.func) in LOGGERS:
            return None
        return self._generic(node)

    def visit_Call(self, node: ast.Call) -> ast.Call:
        if _base_name(node.func) in self.makers:
            node.args = [value for value in node.args if not _is_text(value)]
        return self._generic(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self._generic(node)
        while _drop_unused(node):
            pass
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self._generic(node)
        node.body = node.body or [ast.Pass()]
        return node

    def _generic(self, node: Any) -> Any:
        return super().generic_visit(node)


def _base_name(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _drop_unused(function: ast.FunctionDef) -> bool:
    """Remove assignments of text that only messages used; whether there were any."""
    used = {node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    dropped = False
    for node in ast.walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                kept = [item for item in block if not _is_unused_text(item, used)]
                dropped = dropped or len(kept) < len(block)
                setattr(node, name, kept)
    return dropped


def _is_unused_text(node: ast.stmt, used: set[str]) -> bool:
    if not (isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)):
        return False
    if node.targets[0].id in used:
        return False
    calls = [
        part for part in ast.walk(node.value) if isinstance(part, ast.Call | ast.Await | ast.Yield | ast.NamedExpr)
    ]
    # Whatever a text calls, it calls to make the text.
    harmless = _is_text(node.value)
    return all(isinstance(call, ast.Call) and (harmless or _called(call) in FORMATTERS) for call in calls)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _annotates_function(node: ast.AST, name: str) -> bool:
    return (isinstance(node, ast.arg) and name == "annotation") or (
        isinstance(node, ast.FunctionDef) and name == "returns"
    )


def _canonical(node: Any) -> Iterator[str]:
    """Write a syntax tree out without positions, annotations of functions and empty fields (which Python adds)."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        yield "("
        for name, value in ast.iter_fields(node):
            if value is not None and value != [] and not _annotates_function(node, name):
                yield f"{name}="
                yield from _canonical(value)
        yield ")"
    elif isinstance(node, list):
        for item in node:
            yield from _canonical(item)
            yield ","
    else:
        yield repr(node)
