"""From a suite to the stages of its cascade."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from saddlepoint.attacks.engine.oracle import Stage
from saddlepoint.attacks.goals import Goal
from saddlepoint.attacks.protocol import Access
from saddlepoint.attacks.refinement import refinement
from saddlepoint.attacks.wrappers import Step, attack_of, doubted_only, draws_of, share_of
from saddlepoint.classifier import Arithmetic, Precision


def stages(suite: Sequence[Step], precision: Precision, goal: Goal | None = None) -> Iterator[Stage]:
    """Yield the stages: each attack, and float32 steps after one in low precision for what withstood it."""
    cascade: list[Stage] = []
    attacks, doubted = list(map(attack_of, suite)), list(map(doubted_only, suite))
    for position, (attack, step) in enumerate(zip(attacks, suite, strict=True)):
        earlier = sum(other.name == attack.name for other in attacks[:position])
        name = f"{attack.name}#{earlier + 1}" if earlier else attack.name
        probe = attack.access is not Access.GRADIENT and any(doubted[position + 1 :])
        always = precision == "fp32" or probe or (goal or attack.goal).as_given
        finish = None if always else refinement(attack)
        terms = Stage(attack, name, draws=draws_of(step), doubted=doubted[position], share=share_of(step), probe=probe)
        terms = replace(terms, chosen=goal)
        if finish is None:
            cascade.append(replace(terms, arithmetic=Arithmetic(as_given=_as_given(terms))))
        else:
            cascade.append(replace(terms, arithmetic=Arithmetic(precision)))
            cascade.append(replace(terms, attack=finish, resume=True))
    for done, stage in enumerate(cascade):
        yield replace(stage, left=_sharers(cascade[done:]), number=done)


def _as_given(stage: Stage) -> bool:
    """Return whether the stage searches the module as it is; means over draws are confirmed by fresh draws anyway."""
    return stage.draws == 1 and (stage.attack.as_given or stage.goal.as_given)


def _sharers(cascade: Sequence[Stage]) -> int:
    """Return how many stages share the rest of a budget; all `doubted` stages, which are rare, count as one."""
    doubted = sum(stage.doubted for stage in cascade)
    return doubted if cascade[0].doubted else len(cascade) - doubted + (doubted > 0)
