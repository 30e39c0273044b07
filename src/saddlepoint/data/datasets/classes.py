"""Which classes of a model the classes of a data set are: by their order, name, index or WordNet id."""

from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.models.zoo import imagenet_names
from saddlepoint.words import meant

_ALIKE = 0.9
"""The share of ImageNet's names that a model of 1000 classes must have in their places to be one of ImageNet."""


def labels_of(classes: Mapping[int, str], customary: bool, classifier: Classifier, count: int) -> dict[int, int]:
    """Return the model's label for each label of a data set.

    Args:
        classes: the names, by label.
        customary: whether models of as many classes have them in this order.
        classifier: the model.
        count: how many classes it has.

    Raises:
        InputError: a class is none of the model's.
    """
    own, names = _own_names(classifier), list(classes.values())
    if customary and len(classes) == count and not _elsewhere(classes, own):
        return {label: label for label in classes}
    find = None if customary and _numbers(names) else _finder(names, classifier, own, count)
    if find is not None:
        return {label: _found(name, find, classifier, count) for label, name in classes.items()}
    if customary:
        raise InputError(
            f"the data have {len(classes)} classes ({', '.join(names[:3])}, …), and the model has {count} others; "
            "expected data of the model's own classes"
        )
    return _in_order(classes, count)


def _finder(
    names: list[str], classifier: Classifier, own: Mapping[str, int], count: int
) -> Callable[[str], int] | None:
    """Return what looks up a class, the model's own names first; None where nothing tells what names mean."""
    if all(_plain(name) in own for name in names):
        return lambda name: own[_plain(name)]
    if all(_is_wordnet(name) for name in names) and _is_imagenet(classifier, count):
        return _wordnet
    if classifier.names is None and not _numbers(names):
        return None
    if _numbers(names) and len(names) == count and max(map(int, names)) >= count:
        return None  # folders named 0, 90, 180, 270: names, not indices
    return classifier.label_of


def _in_order(classes: Mapping[int, str], count: int) -> dict[int, int]:
    if len(classes) != count:
        raise InputError(
            f"there are {len(classes)} class folders, and the model has {count} classes without names; expected as "
            "many, or folders that are called by index: 0, 1, …"
        )
    return {label: place for place, label in enumerate(sorted(classes))}


def _found(name: str, find: Callable[[str], int], classifier: Classifier, count: int) -> int:
    try:
        label = find(name)
        if label >= count:
            raise InputError(f"class {label} does not exist; {classifier.name} has classes 0 to {count - 1}")
    except InputError as error:
        raise InputError(f"the class {name!r} of the data is no class of the model: {error}") from None
    return label


def _own_names(classifier: Classifier) -> dict[str, int]:
    """Return the model's classes by name; names that two of them share stand for none."""
    names = [_plain(name) for name in classifier.names or ()]
    often = Counter(names)
    return {name: index for index, name in enumerate(names) if often[name] == 1}


def _elsewhere(classes: Mapping[int, str], own: Mapping[str, int]) -> bool:
    """Whether the model has the classes at other places; a few of ImageNet's names mean two things."""
    moved = sum(own.get(_plain(name), label) != label for label, name in classes.items())
    return moved > (1 - _ALIKE) * len(classes)


def _is_wordnet(name: str) -> bool:
    return len(name) == 9 and name[0] == "n" and name[1:].isdecimal()


def _is_imagenet(classifier: Classifier, count: int) -> bool:
    if count != 1000 or classifier.names is None:
        return count == 1000
    pairs = zip(classifier.names, imagenet_names(), strict=False)
    return sum(_plain(name) == _plain(known) for name, known in pairs) >= _ALIKE * count


def _wordnet(name: str) -> int:
    info: Any = import_module("timm.data.imagenet_info")
    order = {synset: index for index, synset in enumerate(info.ImageNetInfo("imagenet-1k").label_names())}
    if name not in order:
        raise InputError(f"{name} is none of ImageNet's 1000 WordNet ids{meant(name, order, shown=str)}")
    return order[name]


def _numbers(names: list[str]) -> bool:
    return all(name.isdecimal() for name in names)


def _plain(name: str) -> str:
    return name.replace("_", " ").strip().casefold()
