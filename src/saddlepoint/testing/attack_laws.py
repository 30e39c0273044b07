"""The laws of attacks, for ours and anyone's: `for law in ATTACK_LAWS.values(): law(MyAttack(), sp.Linf(0.1))`.

Each law takes an attack, or a suite, and a ball with one radius, and raises LawViolation with what it saw.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saddlepoint.attacks import Attack, AttackResult, Last, Problem, attack, maximise
from saddlepoint.attacks.api import able
from saddlepoint.attacks.maximise import margin_of, worth
from saddlepoint.attacks.wrappers import Step, attack_of, doubted_only
from saddlepoint.classifier import Arithmetic, Classifier
from saddlepoint.errors import LawViolation
from saddlepoint.geometry import Ball
from saddlepoint.random import key
from saddlepoint.rows import where
from saddlepoint.testing import toys
from saddlepoint.testing.traces import trace

Solver = Step | Sequence[Step]
Law = Callable[[Solver, Ball], None]
_BATCH = 4


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise LawViolation(message)


def _attacks(solver: Solver, ball: Ball) -> list[Attack]:
    """Return the attacks that run without conditions."""
    return [attack_of(step) for step in able(solver, ball) if not doubted_only(step)]


def _name(solver: Solver) -> str:
    return "the suite" if isinstance(solver, Sequence) else attack_of(solver).name


def _case(count: int = 10) -> tuple[Classifier, Tensor, Tensor]:
    """Return a small network, pixels, and labels of which most are its own predictions."""
    classifier, x = toys.convolutional(), toys.pixels(count, (3, 6, 5))
    y = classifier.predict(x).label
    y[0] = (y[0] + 1) % 4
    return classifier, x, y


def _same(a: AttackResult, b: AttackResult, what: str) -> None:
    for name in ("x_adv", "success", "margin", "norm", "steps", "forwards", "backwards"):
        _require(torch.equal(getattr(a, name), getattr(b, name)), f"{what} changed {name}")
    _require(a.attack == b.attack and a.restart == b.restart, f"{what} changed which attack or restart reports")


def _rows(result: AttackResult, rows: list[int]) -> AttackResult:
    """Return the result of some of the examples."""
    picked: dict[str, Any] = {}
    for field in fields(result):
        value = getattr(result, field.name)
        if isinstance(value, Tensor):
            picked[field.name] = value[rows]
        elif isinstance(value, list):
            picked[field.name] = [value[row] for row in rows]
    return replace(result, **picked)


def lands_inside(solver: Solver, ball: Ball) -> None:
    """Hold ‖x_adv − x‖ ≤ ε and the box without tolerance, in float64; norms are reported as they are."""
    classifier, x, y = _case()
    for box in ((0.0, 1.0), None):
        result = attack(classifier, x, y, ball, solver, batch_size=_BATCH, box=box)
        norm = ball.norm(result.x_adv.double() - x.double())
        _require(result.x_adv.dtype == torch.float32, f"x_adv is {result.x_adv.dtype}, not float32")
        _require(bool((norm <= ball.eps).all()), f"{_name(solver)} left the ball: {norm.max():.9g} > {ball.eps}")
        _require(torch.equal(norm, result.norm), "the reported norm is not that of x_adv")
        if box:
            _require(bool(((result.x_adv >= 0) & (result.x_adv <= 1)).all()), f"{_name(solver)} left the box")


def tells_the_truth(solver: Solver, ball: Ball) -> None:
    """Report flags and margins that a plain evaluation of x_adv by the user's own model confirms."""
    classifier, x, y = _case()
    result = attack(classifier, x, y, ball, solver, batch_size=_BATCH)
    logits = classifier.eval()(result.x_adv).detach()
    rest = logits.scatter(1, y[:, None], -torch.inf).amax(1)
    margin = logits.gather(1, y[:, None])[:, 0] - rest
    _require(torch.equal(result.success, logits.argmax(1) != y), "success is not misclassification")
    _require(torch.allclose(result.margin, margin, atol=1e-5), "margin is not z_y − max z_j")
    broken = [name is not None for name in result.attack]
    _require(broken == result.success.tolist(), "an example without success has a name in `attack`, or one with none")


def aims_at_the_target(solver: Solver, ball: Ball) -> None:
    """With a target, succeed only where the target is predicted."""
    classifier, x, y = _case()
    target = (y + 1) % 4
    result = attack(classifier, x, y, ball, solver, target=target, batch_size=_BATCH)
    predicted = classifier.predict(result.x_adv).label
    _require(torch.equal(result.success, predicted == target), "success is not that the target is predicted")


def never_worse_than_its_start(solver: Solver, ball: Ball) -> None:
    """Report a margin that is at most that of the first point; attacks that report their last iterate promise less."""
    classifier, x, y = _case()
    keys = torch.arange(len(x))
    start = ball.at(x).start(keys)
    result = attack(classifier, x, y, ball, solver, start=start, stop="never", batch_size=_BATCH)
    first = attack(classifier, x + start, y, replace(ball, eps=0.0), solver, batch_size=_BATCH, box=None)
    right = torch.tensor([name != "clean" for name in result.attack])
    worse = right & (result.margin > first.margin + 1e-6)
    last = isinstance(_attacks(solver, ball)[-1].goal, Last)
    _require(last or not bool(worse.any()), f"{_name(solver)} reports less than its start had")


def begins_where_told(solver: Solver, ball: Ball) -> None:
    """Ask first for the δ that was given, and leave what it was given as it was: runs resume from such points."""
    classifier, x, y = _case(3)
    region, keys = ball.at(x), torch.arange(len(x))
    with classifier.frozen() as model:
        problem = Problem(x, y, None, region, model.decide(x), keys, region.start(keys))
    before = copy.deepcopy(problem)
    for one in _attacks(solver, ball):
        first = one.ask(problem, one.init(problem))
        _require(_equal(first, before.start), f"{one.name} does not begin at the given start")
        trace(one, classifier, x, y, ball, start=before.start)
    same = all(_equal(getattr(before, name), getattr(problem, name)) for name in ("x", "y", "logits", "key", "start"))
    _require(same and torch.equal(x, before.x), f"{_name(solver)} wrote into its problem")


def same_rows_always(solver: Solver, ball: Ball) -> None:
    """Give the same rows, bit for bit, for any order, any neighbours and any refill at one batch size."""
    classifier, x, y = _case(11)
    ids = [f"example {row}" for row in range(len(x))]
    whole = attack(classifier, x, y, ball, solver, ids=ids, batch_size=_BATCH, seed=3)
    order = [7, 2, 10, 0, 5, 9, 1, 3, 8, 6, 4]
    for rows, what in ((order, "the order"), ([7, 3], "the absence of neighbours"), ([9], "being alone")):
        part = attack(
            classifier, x[rows], y[rows], ball, solver, ids=[ids[row] for row in rows], batch_size=_BATCH, seed=3
        )
        _same(part, _rows(whole, rows), what)
    _same(attack(classifier, x, y, ball, solver, ids=ids, batch_size=_BATCH, seed=3), whole, "repetition")


def is_the_plain_loop(solver: Solver, ball: Ball) -> None:
    """On a full batch, searched to the end, give the points of `maximise`, bit for bit."""
    classifier, x, _ = _case(_BATCH)
    y = classifier.predict(x).label
    for one in _attacks(solver, ball):
        result = attack(classifier, x, y, ball, one, stop="never", batch_size=len(x))
        plain = x + _by_the_plain_loop(one, classifier, x, y, ball)
        _require(torch.equal(result.x_adv, plain), f"{one.name} finds other points in the stream than in the loop")


def _by_the_plain_loop(one: Attack, classifier: Classifier, x: Tensor, y: Tensor, ball: Ball) -> Tensor:
    """Return the best δ of each row over all runs, in their order."""
    with classifier.frozen() as model:

        def logits(pixels: Tensor) -> Tensor:
            return model.logits(pixels, Arithmetic(as_given=one.as_given or one.goal.as_given))

        clean, best = model.decide(x), None
        plans = [one.runs(row[None], int(label)) for row, label in zip(clean, y, strict=True)]
        for runs in zip(*plans, strict=True):
            targets = [run.target for run in runs if run.target is not None]
            restart = torch.tensor([run.restart for run in runs])
            problem = Problem(
                x,
                y,
                torch.tensor(targets) if targets else None,
                ball.at(x),
                clean,
                torch.tensor([key(0, row, one.name, run.restart, run.target) for row, run in enumerate(runs)]),
                restart=restart,
            )
            delta = maximise(one, problem, logits)
            margin, hit = margin_of(problem, logits(x + delta).detach())
            new = worth(one, one.goal, problem, delta, margin, hit)
            best = new if best is None else where(new.score < best.score, new, best)
    return torch.zeros_like(x) if best is None else best.delta


def searches_what_is_wrong(solver: Solver, ball: Ball) -> None:
    """With stop="never", search a misclassified example, too, and report a point at least as wrong."""
    classifier, x, _ = _case()
    y = (classifier.predict(x).label + 1) % 4
    clean = attack(classifier, x, y, ball, solver, batch_size=_BATCH)
    result = attack(classifier, x, y, ball, solver, batch_size=_BATCH, stop="never")
    _require(bool((clean.steps == 0).all()), "a misclassified example was searched although it had succeeded")
    _require(bool((result.steps > 0).any()), f"{_name(solver)} left misclassified examples alone")
    last = isinstance(_attacks(solver, ball)[-1].goal, Last)
    worse = result.margin > clean.margin + 1e-6
    _require(last or not bool(worse.any()), f"{_name(solver)} reports less than the clean image had")


def leaves_no_trace(solver: Solver, ball: Ball) -> None:
    """Leave weights, modes, `requires_grad`, gradients, memory formats and global random states as they were."""
    classifier, x, y = _case()
    module = classifier.module.train()
    next(module.parameters()).requires_grad_(False)
    before = _trace(classifier)
    inputs = x.clone(), y.clone()
    attack(classifier, x, y, ball, solver, batch_size=_BATCH)
    after = _trace(classifier)
    for name, value in before.items():
        _require(_equal(value, after[name]), f"{_name(solver)} changed {name}")
    _require(torch.equal(x, inputs[0]) and torch.equal(y, inputs[1]), f"{_name(solver)} changed its inputs")


def finds_nothing_in_a_point(solver: Solver, ball: Ball) -> None:
    """With ε = 0, return x."""
    classifier, x, y = _case()
    result = attack(classifier, x, y, replace(ball, eps=0.0), solver, batch_size=_BATCH)
    _require(torch.equal(result.x_adv, x), f"{_name(solver)} moved although ε = 0")


def stops_at_errors(solver: Solver, ball: Ball) -> None:
    """Report an example that is wrong from the start as a success at x, with 0 steps."""
    classifier, x, y = _case()
    result = attack(classifier, x, y, ball, solver, batch_size=_BATCH)
    _require(result.attack[0] == "clean" and bool(result.success[0]), "a mistake is not reported as such")
    _require(torch.equal(result.x_adv[0], x[0]), "a mistake was perturbed")
    _require(int(result.steps[0]) == 0 and int(result.backwards[0]) == 0, "a mistake cost steps")


def solves_linear_classifiers(solver: Solver, ball: Ball) -> None:
    """Run to the end, reach the closed-form optimum within the declared tolerance, with and without a box."""
    classifier, x = toys.random_linear(), toys.pixels(6)
    y = classifier.predict(x).label
    for box in ((0.0, 1.0), None):
        result = attack(classifier, x, y, ball, solver, stop="never", box=box, batch_size=_BATCH)
        region = ball.at(x, *(box or (None, None)))
        best = toys.worst_margin(classifier, region, y)
        clean = toys.worst_margin(classifier, replace(ball, eps=0.0).at(x), y)
        gap = ((result.margin - best) / (clean - best)).max().item()
        share = min(one.tolerance for one in _attacks(solver, ball))
        _require(gap <= share, f"{_name(solver)} stays {gap:.2%} from the optimum, declared {share:.2%}")
        _require(bool((result.margin >= best - 1e-5).all()), f"{_name(solver)} claims more than the optimum")


ATTACK_LAWS: dict[str, Law] = {
    law.__name__: law
    for law in (
        lands_inside,
        tells_the_truth,
        aims_at_the_target,
        never_worse_than_its_start,
        begins_where_told,
        same_rows_always,
        is_the_plain_loop,
        searches_what_is_wrong,
        leaves_no_trace,
        finds_nothing_in_a_point,
        stops_at_errors,
        solves_linear_classifiers,
    )
}


def _trace(classifier: Classifier) -> dict[str, object]:
    state: dict[str, object] = {name: value.clone() for name, value in classifier.module.state_dict().items()}
    for name, parameter in classifier.module.named_parameters():
        state[f"{name}.stride"] = parameter.stride()
        state[f"{name}.requires_grad"] = parameter.requires_grad
        state[f"{name}.grad"] = parameter.grad is None
    for name, part in classifier.named_modules():
        state[f"{name}.training"] = part.training
    state["torch's random state"] = torch.get_rng_state()
    state["NumPy's random state"] = torch.as_tensor(np.random.get_state()[1].astype(np.int64))  # type: ignore[index]  # noqa: NPY002
    return state


def _equal(a: object, b: object) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a == b
