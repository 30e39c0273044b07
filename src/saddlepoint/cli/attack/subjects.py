"""The images of one call: read, brought into shape, named."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from saddlepoint.classifier import Preprocessing
from saddlepoint.data import COFFEE, preprocess, read_image
from saddlepoint.errors import InputError

KINDS = ("adversarial", "perturbation", "figure")


@dataclass(frozen=True, slots=True)
class Subject:
    """One image.

    Attributes:
        index: its place on the command line.
        path: absolute.
        identity: of its content, so that its random numbers depend on neither its place nor its neighbours.
        files: where its three pictures go.
        levels: the 8-bit crop, (3, H, W); None when it cannot be read.
        error: why it cannot be read, or None.
    """

    index: int
    path: Path
    identity: str
    files: dict[str, Path]
    levels: Tensor | None
    error: str | None

    @property
    def crop(self) -> Tensor:
        """The 8-bit crop of a readable image."""
        if self.levels is None:
            raise InputError(str(self.error))
        return self.levels


def read(paths: Sequence[str], preprocessing: Preprocessing, out: Path) -> list[Subject]:
    """Read every image; one that cannot be read carries its error."""
    absolute = [Path(path).absolute() for path in paths] or [COFFEE]
    taken = {str(path) for path in absolute}
    seen: dict[str, int] = {}
    blank = [Subject(index, path, "", _files(path, out, taken), None, None) for index, path in enumerate(absolute)]
    return [_filled(subject, preprocessing, seen) for subject in blank]


def groups(subjects: Sequence[Subject]) -> list[list[Subject]]:
    """Gather the readable images by shape, in order of appearance."""
    shapes: dict[tuple[int, ...], list[Subject]] = {}
    for subject in subjects:
        if subject.levels is not None:
            shapes.setdefault(tuple(subject.levels.shape), []).append(subject)
    return list(shapes.values())


def _filled(subject: Subject, preprocessing: Preprocessing, seen: dict[str, int]) -> Subject:
    try:
        levels = preprocess(read_image(subject.path), preprocessing)
    except InputError as error:
        return replace(subject, error=str(error))
    digest = hashlib.sha256(repr(tuple(levels.shape)).encode() + levels.numpy().tobytes()).hexdigest()
    seen[digest] = seen.get(digest, 0) + 1
    return replace(subject, levels=levels, identity=f"{digest}#{seen[digest]}")


def _files(path: Path, out: Path, taken: set[str]) -> dict[str, Path]:
    """Return names for the pictures that neither replace an image that was given nor those of another one."""
    count = 1
    while True:
        stem = path.stem if count == 1 else f"{path.stem}-{count}"
        files = {kind: out / f"{stem}.{kind}.png" for kind in KINDS}
        if not taken & {str(file) for file in files.values()}:
            taken.update(map(str, files.values()))
            return files
        count += 1
