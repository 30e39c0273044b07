"""The pages of the reference that are made from the package itself: its public names, and its commands."""

import argparse
import inspect
from collections.abc import Iterator
from pathlib import Path

import saddlepoint
from saddlepoint.cli.main import _parser

CHAPTERS = ("lesson", "chapter-2", "chapter-3", "chapter-4")
GROUPS = {
    "attacks": ("Attacks", ("attacks",)),
    "certificates": ("Certificates and properties", ("certificates", "properties")),
    "evaluation": ("Evaluation and results", ("evaluation", "results")),
    "balls": ("Balls", ("geometry",)),
    "models": ("Classifiers and data", ("classifier", "models", "data")),
    "training": ("Training", ("training",)),
    "errors": ("Errors and warnings", ("errors",)),
}
"""Pages of public names, by the package that they come from."""


def write(folder: Path) -> None:
    """Write the pages; those that have not changed keep their time, so that only others are built again."""
    folder.mkdir(exist_ok=True)
    pages = {f"{page}.md": api(page) for page in GROUPS} | {"commands.md": commands()}
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def notebooks(folder: Path) -> None:
    """Write the pages of the tutorial as notebooks in percent format, which editors and jupytext open."""
    (folder / "notebooks").mkdir(exist_ok=True)
    for page in CHAPTERS:
        text = notebook((folder / f"{page}.md").read_text(encoding="utf-8"))
        (folder / "notebooks" / f"{page}.py").write_text(text, encoding="utf-8")


def notebook(page: str) -> str:
    """Return a page whose examples are interpreter sessions as cells: prose as comments, code without its output."""
    cells, code, shown = list[str](), None, False
    for line in page.splitlines():
        typed = line.startswith(("    >>> ", "    ... ")) or line == "    ..."
        shown = typed or (shown and line.startswith("    "))  # what follows code, indented, is its output
        if shown and not typed:
            continue
        if typed != code:
            cells.append("\n# %%" if typed else "\n# %% [markdown]")
            code = typed
        cells.append(line[8:] if typed else f"# {line}".rstrip())
    return "\n".join(cells).lstrip() + "\n"


def api(page: str) -> str:
    """Return the page of some public names."""
    title, homes = GROUPS[page]
    names = [name for name in saddlepoint.__all__ if saddlepoint._HOME[name].split(".")[0] in homes]
    return f"# {title}\n\n" + "\n".join(map(_entry, names))


def _entry(name: str) -> str:
    value = getattr(saddlepoint, name)
    if inspect.isclass(value):
        return f"```{{eval-rst}}\n.. autoclass:: saddlepoint.{name}\n   :members:\n```\n"
    if inspect.isroutine(value):
        return f"```{{eval-rst}}\n.. autofunction:: saddlepoint.{name}\n```\n"
    return f"```{{eval-rst}}\n.. autodata:: saddlepoint.{name}\n   :no-value:\n```\n"


def commands() -> str:
    """Return the page of all commands, as their own parsers tell them."""
    return "# Commands\n\n" + "\n".join(_command(name, parser) for name, parser in parsers())


def parsers() -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield the commands by name."""
    for action in _parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.items()


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    """Return the text of one command: what it does, its flags in a table, and its epilogue as it stands."""
    rows = [
        f"| {' '.join(f'`{flag}`' for flag in action.option_strings) or f'`{action.metavar or action.dest}`'}"
        f"{f' {_value(action)}' if _value(action) else ''} | {_help(parser, action)} |"
        for action in parser._actions
    ]
    table = "\n".join(["| | |", "|---|---|", *rows])
    epilogue = f"\n```text\n{parser.epilog}\n```\n" if parser.epilog else ""
    return f"## saddlepoint {name}\n\n{parser.description or ''}\n\n{table}\n{epilogue}"


def _value(action: argparse.Action) -> str:
    if not action.option_strings or action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "" if action.choices is None else "{" + ",".join(map(str, action.choices)) + "}"


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    told = parser._get_formatter()._expand_help(action) if action.help else ""
    return told.replace("|", "\\|").replace("<", "\\<").replace("*", "\\*")
