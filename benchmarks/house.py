"""What a stranger meets in the package, counted: files, functions, names, comments, and what docstrings leave out.

    python benchmarks/house.py

`tests/test_house.py` holds some of these numbers.
"""

import ast
import io
import statistics
import sys
import tempfile
import tokenize
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import FrameType

import torch

import saddlepoint as sp
from saddlepoint.data.datasets.dataset import Dataset
from saddlepoint.training.recipe import Recipe, load_recipe

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


def repeated(files: list[Module]) -> dict[str, list[str]]:
    """Return the names that several modules have: but for `__init__`, `api`, and the parts of a command."""
    places = defaultdict(list)
    for module in files:
        place = module.path.relative_to(PACKAGE)
        command = place.parts[0] == "cli" and len(place.parts) > 2
        if module.path.stem not in ("__init__", "api") and not (
            command and module.path.stem in ("flags", "run", "text")
        ):
            places[module.path.stem].append(str(place))
    return {name: of for name, of in places.items() if len(of) > 1}


def public(tree: ast.Module) -> Iterator[ast.FunctionDef]:
    """Return functions and methods that others call: neither their names nor their classes' begin with "_"."""
    kinds = (ast.FunctionDef, ast.ClassDef)
    inside = (node for holder in ast.walk(tree) if isinstance(holder, (ast.Module, *kinds)) for node in holder.body)
    private = {id(node) for holder in ast.walk(tree) if _hidden(holder) for node in ast.walk(holder)}
    return (node for node in inside if isinstance(node, ast.FunctionDef) and id(node) not in private)


def without_args(files: list[Module]) -> list[str]:
    """Return the public functions of four parameters or more that nothing explains.

    Args explain a function; a method also where the method that it overrides has them, and a function where its file
    explains another of the same parameters.
    """
    functions = [(m, f, _parameters(f)) for m in files for f in public(m.tree) if len(_parameters(f)) >= 4]
    explained = {
        place
        for module, function, names in functions
        if "Args:" in (ast.get_docstring(function) or "")
        for place in ((module.path, names), (function.name, names))
    }
    return [
        f"{module.path.relative_to(PACKAGE)}:{function.name}"
        for module, function, names in functions
        if not {(module.path, names), (function.name, names)} & explained
    ]


def _trained(data: Dataset, recipe: Recipe) -> object:
    with tempfile.TemporaryDirectory() as folder:
        return sp.train(None, data, recipe, out=Path(folder) / "run")


def _parameters(function: ast.FunctionDef) -> tuple[str, ...]:
    names = (argument.arg for argument in (*function.args.args, *function.args.kwonlyargs))
    return tuple(name for name in names if name not in _OWN)


def _hidden(node: ast.AST) -> bool:
    return isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name.startswith("_")


def says_nothing(files: list[Module]) -> list[str]:
    """Return where a value is called what any value is: found, given, or each of them."""
    return [
        f"{module.path.relative_to(PACKAGE)}:{node.lineno}"
        for module in files
        for node in ast.walk(module.tree)
        if (isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id in _NOTHING)
        or (isinstance(node, ast.arg) and node.arg in _NOTHING)
    ]


def import_depth(files: list[Module]) -> int:
    """Return the length of the longest chain of modules that import each other as they are loaded."""
    dotted = {".".join(("saddlepoint", *m.path.relative_to(PACKAGE).with_suffix("").parts)): m for m in files}
    dotted = {name.removesuffix(".__init__"): module for name, module in dotted.items()}

    @cache
    def depth(name: str) -> int:
        froms = (node for node in dotted[name].tree.body if isinstance(node, ast.ImportFrom) and node.module)
        pairs = [(node.module, f"{node.module}.{alias.name}") for node in froms for alias in node.names]
        imported = {part if part in dotted else whole for whole, part in pairs}
        return 1 + max(map(depth, imported & set(dotted)), default=0)

    return max(map(depth, dotted))


def journey(call: Callable[[], object]) -> tuple[int, int]:
    """Return how many frames of the package lie on each other at most in a call, and how many files it passes."""
    depth, deepest, passed = 0, 0, set[str]()

    def look(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth, deepest
        if event in ("call", "return") and frame.f_code.co_filename.startswith(str(PACKAGE)):
            depth += 1 if event == "call" else -1
            deepest = max(deepest, depth)
            passed.add(frame.f_code.co_filename)

    call()  # what is loaded on first use is no part of the way
    sys.setprofile(look)
    try:
        call()
    finally:
        sys.setprofile(None)
    return deepest, len(passed)


def journeys() -> Iterator[tuple[str, Callable[[], object]]]:
    """Return the four ways of x through the package."""
    classifier, data = sp.load_classifier("fashion-mnist-pgd"), sp.load_dataset("fashion-mnist-sample").select(first=4)
    samples = [data.read(index) for index in range(4)]
    x, y = torch.stack([sample.x for sample in samples]), torch.tensor([sample.y for sample in samples])
    recipe = replace(load_recipe("pgd-at"), epochs=1, batch_size=4)
    yield "attack", lambda: sp.attack(classifier, x, y, sp.Linf(0.1), sp.FAST)
    yield "certify", lambda: sp.certify(classifier, x, y, sp.Linf(0.1), method="crown")
    yield "evaluate", lambda: sp.evaluate(classifier, data, sp.Linf(0.1))
    yield "train", lambda: _trained(data, recipe)


def main() -> None:
    """Print the numbers."""
    files = modules()
    sizes = [module.lines for module in files]
    lengths = sorted((each.end_lineno or 0) - each.lineno + 1 for module in files for each in module.functions)
    comments, lines = sum(module.comments for module in files), sum(sizes)
    print(f"files {len(files)}, of {statistics.median(sizes):.0f} lines in the median, {max(sizes)} at most")
    print(f"functions {len(lengths)}, 95 % of at most {lengths[int(0.95 * len(lengths))]} lines, {lengths[-1]} at most")
    print(f"classes {sum(isinstance(node, ast.ClassDef) for module in files for node in ast.walk(module.tree))}")
    print(f"comments {comments} in {lines} lines, {comments / lines:.1%}")
    print(f"imports {import_depth(files)} deep")
    for name, call in journeys():
        print("{}: {} frames deep, {} files".format(name, *journey(call)))
    print(f"names of several modules: {', '.join(repeated(files)) or 'none'}")
    print(f"names that say nothing: {len(says_nothing(files))}")
    print(f"public functions of four parameters or more without Args: {len(without_args(files))}")


if __name__ == "__main__":
    main()
