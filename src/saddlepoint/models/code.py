"""The user's own code: `path/to/file.py:factory` or `package.module:factory`, run because it was named."""

import contextlib
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from torch import nn

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models.weights import fit, read_weights

Made = TypeVar("Made")

PREFIX = "_saddlepoint_"
"""Of the names of modules that are files: no import finds them."""
FORM = "FILE.py:FACTORY or PACKAGE.MODULE:FACTORY"


def claims(reference: str) -> bool:
    """Whether a reference names code: a function of a file *.py, or of a module that exists."""
    place, colon, factory = reference.rpartition(":")
    if not colon or not factory.isidentifier():
        return False
    return place.endswith(".py") or (all(map(str.isidentifier, place.split("."))) and _exists(place.split(".")[0]))


def load(reference: str | None, weights: Path | None) -> Classifier:
    """Call the factory without arguments; it returns a `Classifier`, or a module for pixels in [0, 1].

    Raises:
        InputError: there is no such file, module or factory, it failed, or it returned something else.
    """
    factory = named(str(reference))
    if not callable(factory):
        place, _, name = str(reference).rpartition(":")
        raise InputError(f"{place!r} has no function {name!r}; expected {FORM}, a function that returns a module")
    made = _run(f"call {reference!r}", factory)
    if not isinstance(made, nn.Module):
        raise InputError(f"{reference!r} returned a {type(made).__name__}; expected a torch.nn.Module or sp.Classifier")
    classifier = made if isinstance(made, Classifier) else Classifier(made)
    if weights is not None:
        fit(classifier.module, read_weights(weights), str(weights))
    return classifier


def named(reference: str) -> object:
    """Return what a file of code, or a module, calls so; None if it has no such name.

    Raises:
        InputError: the file or module cannot be found or run.
    """
    place, _, name = reference.rpartition(":")
    return _run(f"import {place!r}", lambda: _module(place)).__dict__.get(name)


def _module(place: str) -> ModuleType:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.is_file():
        raise InputError(f"there is no file {place!r}; expected {FORM}")
    spec = importlib.util.spec_from_file_location(f"{PREFIX}{path.stem}", path)
    assert spec is not None  # noqa: S101 - a file *.py always has one
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles of the file look themselves up here
    spec.loader.exec_module(module)
    return module


def _exists(package: str) -> bool:
    with _here():
        try:
            return importlib.util.find_spec(package) is not None
        except (ImportError, ValueError):
            return False


@contextlib.contextmanager
def _here() -> Iterator[None]:
    """Look for packages in the working folder first, as python does for a script in it."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    importlib.invalidate_caches()  # a file that is younger than the last look is found, too
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(here)


def _run(what: str, action: Callable[[], Made]) -> Made:
    """Run foreign code as if in the working folder; whatever it raises becomes one line that says where.

    What it prints goes to standard error: standard output is for results.
    """
    try:
        with _here(), contextlib.redirect_stdout(sys.stderr):
            return action()
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}{_where(error)}"
        raise InputError(f"could not {what} ({reason}); expected {FORM} whose function needs no arguments") from None


def _where(error: BaseException) -> str:
    """Return the file and line of foreign code from which an error comes."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    inside = step is not None and step.tb_frame.f_code.co_filename != __file__
    return f" in {Path(step.tb_frame.f_code.co_filename).name}, line {step.tb_lineno}" if step and inside else ""


def source(reference: str) -> str | None:
    """Return the SHA-256 of the file of code that a reference names; None if it names none."""
    file = Path(reference.rpartition(":")[0])
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.suffix == ".py" and file.is_file() else None
