"""What a stranger meets in the package, counted: files, functions, names, comments, and what docstrings leave out.

    python benchmarks/house.py

`tests/test_house.py` holds some of these numbers.
"""

import ast
import io
import statistics
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "saddlepoint"
_OWN = {"self", "cls"}
_NOTHING = {"found", "given", "each"}
_NO_REASON = ("noqa", "type: ignore", "fmt:")


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def lines(self) -> int:
        """How many lines it has."""
        return len(self.text.splitlines())

    @property
    def comments(self) -> int:
        """How many comments give a reason, and do not only speak to a tool."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return sum(t.type == tokenize.COMMENT and not any(word in t.string for word in _NO_REASON) for t in tokens)

    @property
    def functions(self) -> Iterator[ast.FunctionDef]:
        """Its functions and methods."""
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef))


def modules() -> list[Module]:
    """Return the files of the package."""
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}
    return [Module(path, text, ast.parse(text)) for path, text in texts.items()]


def repeated(found: list[Module]) -> dict[str, list[str]]:
    """Return the names that several modules have: but for `__init__`, `api`, and the parts of a command."""
    places = defaultdict(list)
    for module in found:
        place = module.path.relative_to(PACKAGE)
        command = place.parts[0] == "cli" and len(place.parts) > 2
        if module.path.stem not in ("__init__", "api") and not (
            command and module.path.stem in ("flags", "run", "text")
        ):
            places[module.path.stem].append(str(place))
    return {name: of for name, of in places.items() if len(of) > 1}


def parameters(function: ast.FunctionDef) -> int:
    """Return how many a caller may give."""
    return sum(each.arg not in _OWN for each in (*function.args.args, *function.args.kwonlyargs))


def without_args(found: list[Module]) -> list[str]:
    """Return the public functions of four parameters or more whose docstrings do not say what they are."""
    return [
        f"{module.path.relative_to(PACKAGE)}:{each.name}"
        for module in found
        for each in module.functions
        if not each.name.startswith("_") and parameters(each) >= 4 and "Args:" not in (ast.get_docstring(each) or "")
    ]


def says_nothing(found: list[Module]) -> list[str]:
    """Return where a value is called what any value is: found, given, or each of them."""
    return [
        f"{module.path.relative_to(PACKAGE)}:{node.lineno}"
        for module in found
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _NOTHING)
        or (isinstance(node, ast.arg) and node.arg in _NOTHING)
    ]


def main() -> None:
    """Print the numbers."""
    found = modules()
    sizes = [module.lines for module in found]
    lengths = sorted((each.end_lineno or 0) - each.lineno + 1 for module in found for each in module.functions)
    comments, lines = sum(module.comments for module in found), sum(sizes)
    print(f"files {len(found)}, of {statistics.median(sizes):.0f} lines in the median, {max(sizes)} at most")
    print(f"functions {len(lengths)}, 95 % of at most {lengths[int(0.95 * len(lengths))]} lines, {lengths[-1]} at most")
    print(f"classes {sum(isinstance(node, ast.ClassDef) for module in found for node in ast.walk(module.tree))}")
    print(f"comments {comments} in {lines} lines, {comments / lines:.1%}")
    print(f"names of several modules: {', '.join(repeated(found)) or 'none'}")
    print(f"names that say nothing: {len(says_nothing(found))}")
    print(f"public functions of four parameters or more without Args: {len(without_args(found))}")


if __name__ == "__main__":
    main()
