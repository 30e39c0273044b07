"""What follows from the rows: counts and accuracies, nothing measured, so that equal rows have equal summaries."""

from collections import Counter
from typing import Any

from saddlepoint.results.folder.merged import records_of, rows_digest, rows_of
from saddlepoint.results.records.bracket import brackets
from saddlepoint.results.records.verdicts import standings

_COLUMNS = [
    *("error", "success", "accuracy", "clean_correct", "target", "attack", "doubts", "kept"),
    *("steps", "forwards", "backwards"),
]


def summarise(table: Any) -> dict[str, Any]:  # noqa: ANN401 - pyarrow has no types
    """Return what follows from a table of records.

    `threats` holds the bracket of each. All else counts the attack records at the largest radius, one per example:
    `clean_accuracy` and `attacked_accuracy` are fractions of the examples without an error, null when there is none.
    The second bounds robust accuracy from above: it is the mean of `accuracy`, which of a deterministic model is the
    fraction of examples that are classified correctly and that no attack broke. `robust` counts those; of a stochastic
    model, those that are right in at least half of the draws. `broken` counts per attack; "clean" are those that were
    wrong from the start. `doubts` counts the examples per sign of masked gradients.
    """
    threats = [bracket.summary() for bracket in brackets(standings(records_of(table)))]
    whole, table = table, _attacks(table.select([*_COLUMNS, "kind", "eps"]))
    count: Counter[str] = Counter()
    doubts, broken, accuracy = Counter[str](), Counter[str](), 0.0
    for row in rows_of(table.select(_COLUMNS)):
        count["kept"] += row["kept"]
        if row["error"] is not None:
            count["errors"] += 1
            continue
        correct = row["clean_correct"]
        count["clean_correct"] += correct
        count["robust"] += correct and not row["success"]
        if correct or row["target"] is None:
            accuracy += row["accuracy"]
        if row["success"]:
            broken[row["attack"]] += 1
        doubts.update(row["doubts"].split(", ") if row["doubts"] else ())
        count.update(steps=row["steps"], forwards=row["forwards"], backwards=row["backwards"])
    counted = table.num_rows - count["errors"]
    return {
        "examples": table.num_rows,
        "errors": count["errors"],
        "clean_correct": count["clean_correct"],
        "clean_accuracy": count["clean_correct"] / counted if counted else None,
        "robust": count["robust"],
        "attacked_accuracy": accuracy / counted if counted else None,
        "broken": dict(sorted(broken.items())),
        "doubts": dict(sorted(doubts.items())),
        "kept": count["kept"],
        "steps": count["steps"],
        "forwards": count["forwards"],
        "backwards": count["backwards"],
        "threats": threats,
        "rows": rows_digest(whole),
    }


def _attacks(table: Any) -> Any:  # noqa: ANN401
    """Return the attack records at the largest radius, one per example."""
    import pyarrow.compute as pc

    table = table.filter(pc.equal(table["kind"], "attack"))
    return table.filter(pc.equal(table["eps"], pc.max(table["eps"]))) if table.num_rows else table
