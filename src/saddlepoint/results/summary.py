"""What follows from the rows: counts and accuracies, nothing measured, so that equal rows have equal summaries."""

from collections import Counter
from typing import Any

from saddlepoint.results.bracket import brackets
from saddlepoint.results.merge import rows_digest
from saddlepoint.results.verdicts import judged


def summarise(table: Any) -> dict[str, Any]:  # noqa: ANN401 - pyarrow has no types
    """Return what follows from a table of records.

    `threats` holds the bracket of each. All else counts the attack records at the largest radius, one per example:
    `clean_accuracy` and `attacked_accuracy` are fractions of the examples without an error, null when there is none.
    The second bounds robust accuracy from above: it is the mean of `accuracy`, which of a deterministic model is the
    fraction of examples that are classified correctly and that no attack broke. `robust` counts those; of a stochastic
    model, those that are right in at least half of the draws. `broken` counts per attack; "clean" are those that were
    wrong from the start. `doubts` counts the examples per sign of masked gradients.
    """
    threats = [each.summary() for each in brackets(judged(table.to_pylist()))]
    whole, table = table, _attacks(table)
    names = ("error", "success", "accuracy", "clean_correct", "target", "attack", "doubts", "kept")
    columns = {name: table[name].to_pylist() for name in names}
    counted = [number for number, error in enumerate(columns["error"]) if error is None]
    correct = [number for number in counted if columns["clean_correct"][number]]
    robust = [number for number in correct if not columns["success"][number]]
    right = [number for number in counted if columns["clean_correct"][number] or columns["target"][number] is None]
    doubts = Counter(doubt for found in columns["doubts"] if found for doubt in found.split(", "))
    broken = Counter(columns["attack"][number] for number in counted if columns["success"][number])
    return {
        "examples": table.num_rows,
        "errors": table.num_rows - len(counted),
        "clean_correct": len(correct),
        "clean_accuracy": len(correct) / len(counted) if counted else None,
        "robust": len(robust),
        "attacked_accuracy": sum(columns["accuracy"][number] for number in right) / len(counted) if counted else None,
        "broken": dict(sorted(broken.items())),
        "doubts": dict(sorted(doubts.items())),
        "kept": sum(columns["kept"]),
        "steps": sum(filter(None, table["steps"].to_pylist())),
        "forwards": sum(filter(None, table["forwards"].to_pylist())),
        "backwards": sum(filter(None, table["backwards"].to_pylist())),
        "threats": threats,
        "rows": rows_digest(whole),
    }


def _attacks(table: Any) -> Any:  # noqa: ANN401
    """Return the attack records at the largest radius, one per example."""
    import pyarrow.compute as pc

    table = table.filter(pc.equal(table["kind"], "attack"))
    return table.filter(pc.equal(table["eps"], pc.max(table["eps"]))) if table.num_rows else table
