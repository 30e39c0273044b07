"""`saddlepoint.train`: a recipe, a data set and a folder in; a model folder, metrics and a card out."""

import csv
import hashlib
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save, save_file
from torch import nn

from saddlepoint.classifier import Classifier
from saddlepoint.classifier.randomness import random_state
from saddlepoint.data.datasets import Dataset, load_dataset
from saddlepoint.errors import InputError
from saddlepoint.extras import imported
from saddlepoint.files import make_folder, write_bytes
from saddlepoint.models import load_classifier, nets, save_classifier
from saddlepoint.models.code import claims as is_code
from saddlepoint.models.folder import WEIGHTS
from saddlepoint.training import state
from saddlepoint.training.catalogue import OBJECTIVES
from saddlepoint.training.certified import init_for_intervals, program_of
from saddlepoint.training.curves import drawn
from saddlepoint.training.examples import Examples, Source, permutation, read, split, training_reference
from saddlepoint.training.loop import Observe, Run, fit
from saddlepoint.training.measures import accuracies
from saddlepoint.training.processes import joined
from saddlepoint.training.recipe import Recipe, load_recipe

SAMPLE = 500
"""Images that give the normalisation of a data set that is not held in memory."""

METRICS, CURVES = "metrics.csv", "curves.svg"


@dataclass(frozen=True, slots=True)
class Trained:
    """What training yields.

    Attributes:
        classifier: with the weights of the best epoch, in eval mode.
        folder: the model folder; `load_classifier(folder)` opens it.
        metrics: one row per epoch.
        accuracies: of the best weights: validation_clean, validation_robust (ten steps of PGD), and test_… where the
            data set has test images of its own.
    """

    classifier: Classifier
    folder: Path
    metrics: Sequence[dict[str, float]]
    accuracies: dict[str, float]


def train(
    module: Classifier | nn.Module | str | None,
    data: Dataset | str,
    recipe: Recipe | str,
    *,
    out: str | Path,
    seed: int = 0,
    device: str | torch.device | None = None,
    observe: Observe | None = None,
) -> Trained:
    """Train a classifier, or go on where a run in the folder was stopped: the same weights, bit for bit on a CPU.

    Args:
        module: the name of an architecture, or None for the recipe's own; a classifier, to be fine-tuned with its
            normalisation and classes; or a module of fresh weights, on normalised pixels, of which the weights alone
            are saved, for no reference rebuilds it.
        data: a reference to a data set, or one; of MNIST, Fashion-MNIST and CIFAR-10 the training images are taken.
        recipe: its name, a file *.toml, or a `Recipe`.
        out: the folder, made when missing.
        seed: of all random streams.
        device: where to compute; the CPU when not given.
        observe: called after each step with the state and the number of steps.

    Raises:
        InputError: something cannot be used, or the folder holds another run.
        ModelError: the loss is no number any more; epoch and step are named.
    """
    folder = make_folder(str(out))
    named = {"arch": module} if isinstance(module, str) else {}
    chosen, kept = _recipe(recipe, data, named), module if isinstance(module, nn.Module) else None
    tuned = module if isinstance(module, Classifier) else None
    source = load_dataset(training_reference(data), classifier=tuned) if isinstance(data, str) else data
    examples = read(source)
    computes_on = torch.device(device or "cpu")
    processes = joined(computes_on)
    training, validation = split(examples, chosen.validation, seed)
    with random_state():
        torch.manual_seed(seed)
        classifier, architecture = _classifier(kept, chosen, training, source)
        parts = {"training": len(training), "validation": len(validation)}
        specification = _specification(chosen, source, seed, parts, architecture, tuned)
        classifier.to(computes_on)
        if architecture is not None and architecture.startswith("net:"):
            classifier.module.to(memory_format=torch.channels_last)  # another module may need contiguous activations
        program = program_of(classifier, training.shape) if OBJECTIVES[chosen.objective].bounds else None
        run = Run(
            chosen, classifier, training, validation, seed, folder, specification, computes_on, processes, program
        )
        begun = time.monotonic()
        final = fit(run, observe)
        return _finished(run, final, architecture, _test(data, classifier), time.monotonic() - begun)


def _recipe(recipe: Recipe | str, data: Dataset | str, changes: Mapping[str, Any]) -> Recipe:
    if isinstance(recipe, Recipe):
        return replace(recipe, **changes)
    return load_recipe(recipe, data if isinstance(data, str) else data.name, changes)


def _classifier(
    module: nn.Module | None, recipe: Recipe, training: Source, data: Dataset
) -> tuple[Classifier, str | None]:
    """Return the classifier to train, and the reference that builds its module, if there is one."""
    if isinstance(module, Classifier):
        return module, module.reference
    classes = max(data.classes) + 1 if data.classes else int(training.y.max()) + 1
    shape = training.shape
    reference = None
    if module is None:
        module, reference = _module(recipe.arch, shape, classes)
        if OBJECTIVES[recipe.objective].bounds:
            init_for_intervals(module)
    mean, std = _statistics(training) if recipe.normalise else (None, None)
    names = None if data.classes is None else [data.classes.get(label, str(label)) for label in range(classes)]
    return Classifier(module, mean=mean, std=std, names=names), reference


def _module(arch: str, shape: tuple[int, ...], classes: int) -> tuple[nn.Module, str]:
    if arch.startswith("timm:"):
        timm = imported("timm")

        return timm.create_model(arch[5:], pretrained=False, in_chans=shape[0], num_classes=classes), arch
    if is_code(arch):
        return load_classifier(arch).module, arch
    if len(shape) != 3:
        raise InputError(f"the examples have shape {shape}; expected images (C, H, W)")
    sizes = (shape[0], shape[1], shape[2])
    return nets.make(arch, sizes, classes), nets.reference(arch, sizes, classes)


def _statistics(training: Source) -> tuple[list[float], list[float]]:
    """Return mean and deviation of the training pixels per channel, to four digits; of a sample where that is read."""
    count = len(training)
    rows = torch.arange(count) if isinstance(training, Examples) else permutation(count, 0)[:SAMPLE]
    pixels = training.images(rows).double().transpose(0, 1).flatten(1)
    deviation = pixels.std(1).clamp(min=1e-2)
    return [round(v, 4) for v in pixels.mean(1).tolist()], [round(v, 4) for v in deviation.tolist()]


def _specification(
    recipe: Recipe,
    data: Dataset,
    seed: int,
    parts: dict[str, int],
    architecture: str | None,
    tuned: Classifier | None,
) -> str:
    """Return everything that the weights depend on, as JSON."""
    content: dict[str, Any] = {
        "recipe": recipe.plain(),
        "architecture": architecture,
        "data": {"reference": data.name, "content": data.content(), "examples": len(data)},
        **parts,
        "seed": seed,
    }
    if tuned is not None:
        weights = {name: value.contiguous() for name, value in tuned.module.state_dict().items()}
        content["start"] = hashlib.sha256(save(weights)).hexdigest()
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)


def _test(data: Dataset | str, classifier: Classifier) -> Source | None:
    """Return up to 1,000 test images, where the reference names a data set that has some."""
    if not isinstance(data, str) or training_reference(data) == data:
        return None
    return read(load_dataset(data, classifier=classifier).select(limit=1000))


def _finished(run: Run, final: state.State, architecture: str | None, test: Source | None, seconds: float) -> Trained:
    """Write the model folder, metrics and curves; return the classifier of the best epoch."""
    classifier = run.classifier
    if final.best is not None:
        classifier.module.load_state_dict(final.best)
    classifier.eval()
    classifier.module.to(memory_format=torch.contiguous_format)  # as files hold it
    measures = accuracies(classifier, run.validation, run.recipe, run.device, program=run.program)
    if test is not None:
        measures |= accuracies(classifier, test, run.recipe, run.device, "test", run.program)
    if run.processes.rank == 0:
        _write_metrics(run.folder, final.metrics)
        write_bytes(run.folder / CURVES, drawn(final.metrics, run.recipe.name).encode())
        if architecture is not None:
            card: dict[str, Any] = {
                **json.loads(run.specification),
                "accuracies": measures,
                "torch": version("torch"),
                "saddlepoint": version("saddlepoint"),
                "device": str(run.device),
                "seconds_of_last_session": round(seconds, 1),
            }
            save_classifier(classifier, run.folder, architecture=architecture, card=card)
        else:
            save_file(classifier.module.state_dict(), run.folder / WEIGHTS)
    return Trained(classifier, run.folder, tuple(final.metrics), measures)


def _write_metrics(folder: Path, metrics: Sequence[dict[str, float]]) -> None:
    if not metrics:
        return
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(metrics[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(metrics)
    write_bytes(folder / METRICS, text.getvalue().encode())
