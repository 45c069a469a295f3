"""The mutants of a module: each is the source with one small fault, of a kind that people really make.

A mutant is an edit of the text, so that comments and line numbers stay. Annotations and docstrings are left alone.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

# an operator as it is written, and what stands there instead
COMPARISONS: dict[type[ast.cmpop], tuple[str, tuple[str, ...]]] = {
    ast.Lt: ("<", ("<=", ">=")),
    ast.LtE: ("<=", ("<", ">")),
    ast.Gt: (">", (">=", "<=")),
    ast.GtE: (">=", (">", "<")),
    ast.Eq: ("==", ("!=",)),
    ast.NotEq: ("!=", ("==",)),
    ast.In: ("in", ("not in",)),
    ast.NotIn: ("not in", ("in",)),
    ast.Is: ("is", ("is not",)),
    ast.IsNot: ("is not", ("is",)),
}
ARITHMETIC: dict[type[ast.operator], tuple[str, str]] = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "//"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "+"),
    ast.BitOr: ("|", "&"),
    ast.BitAnd: ("&", "|"),
}
EMPTY = {"bool": "True", "list": "[]"}  # by its type, what a check returns that found nothing
CHECK = re.compile("_?(check|refuse|ensure|same|verify)")  # how the names of functions begin that refuse
Edit = tuple[int, int, str, str]  # start, end, kind, text
Functions = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutant:
    """One edit: the bytes `start` to `end` of `path` become `text`. `line` and `kind` are for the report."""

    path: str
    line: int
    kind: str
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def describe(self, source: bytes) -> str:
        """The edit in one line: where it is, what stood there, and what stands there now."""
        before = " ".join(source[self.start : self.end].decode().split())
        return f"{self.path}:{self.line} {self.kind}: {before[:90]!r} -> {self.text!r}"


def find_mutants(root: Path, path: str) -> list[Mutant]:
    """Every mutant of the module at `path` below `root`, in the order of the text. Some may not compile."""
    finder = _Finder(path, (root / path).read_bytes())
    return sorted(set(finder.mutants()), key=lambda one: (one.start, one.end, one.kind, one.text))


def is_another_program(mutant: Mutant, source: bytes) -> bool:
    """Return whether the edit compiles to another program. Some do not, such as those in a formatted string."""
    try:
        return ast.dump(ast.parse(mutant.apply(source))) != ast.dump(ast.parse(source))
    except SyntaxError:
        return False


def find_checks(tree: ast.AST, outer: str = "") -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
    """The functions whose names say that they refuse, by name: `check`, `Class.check`, `function.check`."""
    checks: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for node in ast.iter_child_nodes(tree):
        name = outer
        if isinstance(node, Functions | ast.ClassDef):
            name = f"{outer}.{node.name}".lstrip(".")
            if isinstance(node, Functions) and CHECK.match(node.name) and _does_something(node):
                checks[name] = node
        checks |= find_checks(node, name)
    return checks


def without_check(root: Path, path: str, name: str) -> Mutant:
    """The mutant in which a check finds everything right, or in which what makes a refusal makes none."""
    finder = _Finder(path, (root / path).read_bytes())
    function = find_checks(finder.tree)[name]
    body = _without_docstring(function.body)
    start, end = finder.block(body)
    if _returns_nothing(function):
        text = "return"
    elif raises := [node for node in ast.walk(function) if isinstance(node, ast.Raise)]:
        source = finder.source
        for at, to in sorted(map(finder.span, raises), reverse=True):
            source = source[:at] + b"pass" + source[to:]
        text = source[start : end + len(source) - len(finder.source)].decode()
    else:
        text = (
            f"return {EMPTY.get(ast.unparse(function.returns).partition('[')[0] if function.returns else '', 'None')}"
        )
    return Mutant(path, function.lineno, f"{name} refuses nothing", start, end, text)


class _Finder:
    def __init__(self, path: str, source: bytes) -> None:
        self.path, self.source = path, source
        self.tree = ast.parse(source)
        lines = source.splitlines(keepends=True)
        self.offsets = [0]
        for line in lines:
            self.offsets.append(self.offsets[-1] + len(line))
        self.passive = _passive_nodes(self.tree)

    def mutants(self) -> Iterator[Mutant]:
        for node in ast.walk(self.tree):
            if id(node) in self.passive:
                continue
            for start, end, kind, text in self._edits(node):
                yield Mutant(self.path, self.source.count(b"\n", 0, start) + 1, kind, start, end, text)

    def _edits(self, node: ast.AST) -> Iterator[Edit]:
        if isinstance(node, ast.Compare):
            yield from self._compared(node)
        elif isinstance(node, ast.BoolOp):
            words = ("or", "and") if isinstance(node.op, ast.Or) else ("and", "or")
            for left, right in pairwise(node.values):
                yield from self._between(left, right, "and/or", *words)
        elif isinstance(node, ast.BinOp) and type(node.op) in ARITHMETIC:
            yield from self._between(node.left, node.right, "arithmetic", *ARITHMETIC[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield *self.span(node), "negation", f"({self._text(node.operand)})"
        elif isinstance(node, ast.IfExp | ast.If | ast.While) and not isinstance(node.test, ast.Compare | ast.BoolOp):
            yield *self.span(node.test), "condition", f"(not {self._text(node.test)})"
        elif isinstance(node, ast.Constant):
            yield from self._constant(node)
        elif isinstance(node, ast.ExceptHandler):
            yield *self.block(node.body), "exception not handled", "raise"
            if not isinstance(node.body[-1], ast.Pass):
                yield *self.block(node.body), "exception swallowed", "pass"
        elif isinstance(node, ast.stmt):
            yield from self._statement(node)

    def _compared(self, node: ast.Compare) -> Iterator[Edit]:
        for (left, right), op in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            old, others = COMPARISONS[type(op)]
            for other in others:
                yield from self._between(left, right, "comparison", old, other)

    def _constant(self, node: ast.Constant) -> Iterator[Edit]:
        if isinstance(node.value, bool):
            yield *self.span(node), "constant", str(not node.value)
        elif isinstance(node.value, int):
            for changed in (node.value + 1, node.value - 1):
                yield *self.span(node), "constant", str(changed)

    def _statement(self, node: ast.stmt) -> Iterator[Edit]:
        span = self.span(node)
        if isinstance(node, ast.Raise):
            yield *span, "raise removed", "pass"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield *span, "call removed", "pass"
        elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.Assign) and not _binds_a_name(node)):
            yield *span, "assignment removed", "pass"
        elif isinstance(node, ast.Break):
            yield *span, "loop", "continue"
        elif isinstance(node, ast.Continue):
            yield *span, "loop", "break"
        elif isinstance(node, ast.Return) and node.value is not None and not _is_constant(node.value):
            yield *self.span(node.value), "result lost", "None"
        elif isinstance(node, Functions) and _returns_nothing(node):
            yield *self.block(_without_docstring(node.body)), "function does nothing", "return"

    def _between(self, left: ast.AST, right: ast.AST, kind: str, old: str, new: str) -> Iterator[Edit]:
        """An operator between two operands, where nothing else of its letters stands between them."""
        start, end = self.span(left)[1], self.span(right)[0]
        between = self.source[start:end].decode()
        if between.count(old) == 1:
            at = start + len(between.partition(old)[0].encode())
            yield at, at + len(old), kind, new

    def span(self, node: ast.AST) -> tuple[int, int]:
        first, last = node.lineno, node.end_lineno  # type: ignore[attr-defined]
        return self.offsets[first - 1] + node.col_offset, self.offsets[last - 1] + node.end_col_offset  # type: ignore[attr-defined]

    def block(self, body: list[ast.stmt]) -> tuple[int, int]:
        return self.span(body[0])[0], self.span(body[-1])[1]

    def _text(self, node: ast.AST) -> str:
        start, end = self.span(node)
        return self.source[start:end].decode()


def _passive_nodes(tree: ast.AST) -> set[int]:
    """The ids of the nodes that nobody would miss: annotations, blocks for type checkers, `frozen=True` of classes."""
    roots: list[ast.AST | None] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg | ast.AnnAssign):
            roots.append(node.annotation)
        elif isinstance(node, Functions):
            roots.append(node.returns)
        elif isinstance(node, ast.ClassDef):
            roots.extend(node.decorator_list)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            roots.append(node)
    return {id(one) for root in roots if root is not None for one in ast.walk(root)}


def _binds_a_name(node: ast.Assign) -> bool:
    """Return whether the statement may be a name's first binding, without which everything fails."""
    return any(isinstance(target, ast.Name | ast.Tuple | ast.List) for target in node.targets)


def _is_constant(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and not isinstance(node.value, str)


def _returns_nothing(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    annotated = isinstance(node.returns, ast.Constant) and node.returns.value is None
    body = _without_docstring(node.body)
    return annotated and bool(body) and not isinstance(body[0], ast.Pass)


def _does_something(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Return whether a function has more than a docstring and `...`, as a protocol's have."""
    return any(not (isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant)) for one in node.body)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return body[1:] if documented else body
