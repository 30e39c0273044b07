"""θ := θ − α/|B| Σ ∇_θ ℓ: the loop. Its position is one number, and its random numbers are functions of that number."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from saddlepoint import random
from saddlepoint.certificates.lowering import Program
from saddlepoint.classifier import Classifier
from saddlepoint.classifier.randomness import seed_torch
from saddlepoint.errors import ModelError
from saddlepoint.files import write_bytes
from saddlepoint.geometry import BALLS
from saddlepoint.training import state
from saddlepoint.training.catalogue import OBJECTIVES
from saddlepoint.training.examples import Source, augmented, batches, read_ahead, steps_of
from saddlepoint.training.measures import accuracies, swapped
from saddlepoint.training.objectives import Terms
from saddlepoint.training.processes import Processes
from saddlepoint.training.recipe import Recipe
from saddlepoint.training.schedules import learning_rate, radius, ramped
from saddlepoint.training.state import SPECIFICATION, State
from saddlepoint.typing import Images, Keys, Labels

Observe = Callable[[State, int], None]
"""Told the state after a step, and how many steps the run has."""

_SAVED_EVERY = 20.0
"""Seconds of work that a kill can cost."""


@dataclass(frozen=True)
class Run:
    """What does not change while a model is trained."""

    recipe: Recipe
    classifier: Classifier
    training: Source
    validation: Source
    seed: int
    folder: Path
    specification: str
    device: torch.device
    processes: Processes
    program: Program | None = None

    @property
    def per_epoch(self) -> int:
        """Steps of one epoch; a minibatch that is replayed counts once."""
        return steps_of(len(self.training), self.recipe.batch_size)

    @property
    def steps(self) -> int:
        """Steps of the run."""
        return self.recipe.epochs * self.per_epoch


def fit(run: Run, observe: Observe | None = None) -> State:
    """Train to the end, from where the folder says that the run stands.

    Raises:
        ModelError: the loss is no number any more.
    """
    optimiser = _optimiser(run)
    now = _resumed(run, optimiser)
    if run.processes.rank == 0:  # not before: a folder of another run keeps its own
        write_bytes(run.folder / SPECIFICATION, f"{run.specification}\n".encode())
    loss, saved = run.processes.wrapped(_Loss(run)), time.monotonic()
    while now.step < run.steps:
        epoch, place = divmod(now.step, run.per_epoch)
        for rows, x in read_ahead(run.training, _batches(run, epoch, place)):
            _step(run, now, optimiser, loss, rows, x)
            now.step += 1
            if now.step % run.per_epoch == 0:
                _end_of_epoch(run, now, epoch + 1)
            due = time.monotonic() - saved > _SAVED_EVERY or now.step % run.per_epoch == 0
            if run.processes.agreed(due):
                _save(run, now, optimiser)
                saved = time.monotonic()
            if observe is not None:
                observe(now, run.steps)
    return now


class _Loss(nn.Module):
    """The mean loss of a batch as a module, so that DDP sees one forward; the inner maximisation passes it by."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.classifier, self.run = run.classifier, run

    def forward(self, x: Images, y: Labels, key: Keys, t: float, x_adv: Images | None, delta: Images | None) -> Terms:
        objective = _objective(self.run, t, key, x_adv, delta)
        mixed = self.run.recipe.mixed and self.run.program is None
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=mixed):
            return objective(self.classifier, x, y)


def _objective(
    run: Run, t: float, key: Keys, x_adv: Images | None, delta: Images | None
) -> Callable[[Classifier, Images, Labels], Terms]:
    """Return the recipe's objective at a share t of the run; `x_adv` is a maximiser that is known."""
    recipe = run.recipe
    known = {
        "ball": BALLS[recipe.norm](radius(recipe, t)),
        "key": key,
        "x_adv": x_adv,
        "delta": delta,
        "program": run.program,
    }
    return OBJECTIVES[recipe.objective].of(recipe, ramped(recipe, t), known)


def _step(
    run: Run, now: State, optimiser: torch.optim.Optimizer, loss: nn.Module, rows: Tensor, pixels: Images
) -> None:
    """Take one step on one batch; with replays, as many."""
    recipe, t = run.recipe, now.step / run.steps
    seed_torch(random.key(run.seed, "step", now.step, run.processes.rank) % 2**63)
    keys = torch.tensor([random.key(run.seed, "row", now.step, row) for row in rows.tolist()], device=run.device)
    x = augmented(pixels.to(run.device), recipe)
    y = run.training.y[rows].to(run.device)
    run.classifier.train()
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(recipe, t)
    delta = None
    if OBJECTIVES[recipe.objective].moves:
        region = BALLS[recipe.norm](radius(recipe, t)).at(x)
        delta = region.start(keys)
    for _ in range(recipe.replays):
        if delta is not None:
            delta.requires_grad_()
        terms: Terms = loss(x, y, keys, t, None, delta)
        _checked(run, now, terms.loss)
        optimiser.zero_grad(set_to_none=True)
        terms.loss.mean().backward()  # type: ignore[no-untyped-call]
        if recipe.awp > 0:
            terms = _perturbed_backward(run.classifier, partial(loss, x, y, keys, t, delta=delta), terms, recipe.awp)
        if recipe.clip > 0:
            nn.utils.clip_grad_norm_(run.classifier.parameters(), recipe.clip)
        optimiser.step()
        if delta is not None and delta.grad is not None:
            moved = delta.detach() + region.ascent(delta.grad, delta.detach(), region.radius)
            delta = region.project(moved)
    _average(run, now)
    _count(now, terms)


def _perturbed_backward(classifier: Classifier, again: Callable[..., Terms], terms: Terms, gamma: float) -> Terms:
    """Take the gradient at θ + v, v the step of relative length γ that raises the loss most, layer by layer.

    Adversarial weight x_adv (Wu, Xia & Wang 2020, eq. 8); the points of the inner maximisation are used again.
    """
    layers = [p for p in classifier.parameters() if p.grad is not None and p.ndim > 1]
    moves = [gamma * p.detach().norm() / p.grad.norm().clamp(min=1e-12) * p.grad for p in layers if p.grad is not None]
    classifier.zero_grad(set_to_none=True)
    with torch.no_grad():
        for parameter, move in zip(layers, moves, strict=True):
            parameter.add_(move)
    perturbed = again(x_adv=terms.x_adv)
    perturbed.loss.mean().backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        for parameter, move in zip(layers, moves, strict=True):
            parameter.sub_(move)
    return terms


def _checked(run: Run, now: State, loss: Tensor) -> None:
    if not bool(torch.isfinite(loss).all()):
        epoch, place = divmod(now.step, run.per_epoch)
        raise ModelError(
            f"the loss is no number any more at epoch {epoch + 1}, step {place + 1}; expected a finite one: lower the "
            f"learning rate (lr {run.recipe.lr:g}), or clip gradients (clip 1)"
        )


def _average(run: Run, now: State) -> None:
    """Let the average of the weights follow; buffers are taken as they are."""
    if run.recipe.ema == 0:
        return
    own = run.classifier.module.state_dict()
    # The average of few steps would be that of the random weights at the start: it forgets faster at first, as in
    # TensorFlow's ExponentialMovingAverage.
    decay = min(run.recipe.ema, (1 + now.step) / (10 + now.step))
    if now.average is None:
        now.average = {name: value.clone() for name, value in own.items()}
    for name, value in own.items():
        kept = now.average[name]
        if value.is_floating_point():
            kept.lerp_(value.to(kept.dtype), 1 - decay)
        else:
            kept.copy_(value)


def _count(now: State, terms: Terms) -> None:
    totals = now.totals
    totals["examples"] = totals.get("examples", 0.0) + len(terms.loss)
    totals["loss"] = totals.get("loss", 0.0) + float(terms.loss.detach().double().sum())
    for name, right in terms.correct.items():
        totals[name] = totals.get(name, 0.0) + float(right.sum())


def _end_of_epoch(run: Run, now: State, epoch: int) -> None:
    """Write the row of metrics, and keep the weights if they are the best."""
    totals = run.processes.summed(now.totals)
    seen = totals.pop("examples")
    row = {"epoch": float(epoch), "lr": learning_rate(run.recipe, (now.step - 1) / run.steps)}
    row |= {("train_" + name if name != "loss" else "loss"): value / seen for name, value in totals.items()}
    with swapped(run.classifier, now.average):
        row |= accuracies(run.classifier, run.validation, run.recipe, run.device, program=run.program)
    measures = ("validation_certified", "validation_robust", "validation_clean")
    score = next((row[name] for name in measures if name in row), float(epoch))
    if score >= now.score:
        weights = run.classifier.module.state_dict() if now.average is None else now.average
        now.best, now.score = {name: value.detach().cpu().clone() for name, value in weights.items()}, score
    now.metrics.append(row)
    now.totals = {}


def _batches(run: Run, epoch: int, place: int) -> Iterator[Tensor]:
    """Yield this process's share of the batches of an epoch, from a place on."""
    key = random.key(run.seed, "epoch", epoch)
    for number, rows in enumerate(batches(len(run.training), run.recipe.batch_size, key)):
        if number >= place:
            yield run.processes.share(rows)


def _optimiser(run: Run) -> torch.optim.Optimizer:
    recipe, parameters = run.recipe, run.classifier.parameters()
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.momentum > 0,
            weight_decay=recipe.weight_decay,
        )
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)


def _resumed(run: Run, optimiser: torch.optim.Optimizer) -> State:
    kept = state.load(run.folder, run.specification)
    if kept is None:
        return State(0, {}, {})
    run.classifier.module.load_state_dict(kept.weights)
    optimiser.load_state_dict(kept.optimiser)
    if kept.average is not None:
        kept.average = {name: value.to(run.device) for name, value in kept.average.items()}
    return kept


def _save(run: Run, now: State, optimiser: torch.optim.Optimizer) -> None:
    now.weights, now.optimiser = run.classifier.module.state_dict(), optimiser.state_dict()
    if run.processes.rank == 0:
        state.save(now, run.folder, run.specification)
