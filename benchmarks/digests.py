"""Digests of rows, records and weights: the same before and after a change that is meant to change none.

    python benchmarks/digests.py > before.txt; …; python benchmarks/digests.py | diff before.txt -

They hold on one machine, with one torch and one number of threads.
"""

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import load_file

import saddlepoint as sp
from saddlepoint.results import RunFolder
from saddlepoint.training.recipe import load_recipe

NETWORKS, RADII = ("fashion-mnist-pgd", "fashion-mnist-standard"), (0.05, 0.1)
COUNT = 8
LEFT_OUT = ("seconds", "name", "domains")
"""Columns that are measured, or that an earlier version did not have."""


def digest(rows: Iterable[object]) -> str:
    """Return a short hash of values that print alike if they are alike."""
    total = hashlib.sha256()
    for row in rows:
        total.update(f"{row!r}\n".encode())
    return total.hexdigest()[:16]


def tensor(value: torch.Tensor) -> str:
    """Return the hash of a tensor's bytes."""
    return hashlib.sha256(value.detach().cpu().contiguous().numpy().tobytes()).hexdigest()


def records(run: RunFolder) -> list[Mapping[str, object]]:
    """Return what the run folder says, without empty columns."""
    rows = run.rows().to_pylist()
    said = ({k: row[k] for k in sorted(row) if k not in LEFT_OUT and row[k] is not None} for row in rows)
    return sorted(said, key=lambda row: str(row["key"]))


def attacks() -> None:
    """Attack two networks at two radii with both suites."""
    for name in NETWORKS:
        model, data = sp.load_classifier(name), sp.load_dataset("fashion-mnist-sample").select(first=COUNT)
        samples = [data.read(index) for index in range(COUNT)]
        x, y = torch.stack([each.x for each in samples]), torch.tensor([each.y for each in samples])
        for eps in RADII:
            for suite in ("FAST", "STANDARD"):
                found = sp.attack(model, x, y, sp.Linf(eps), getattr(sp, suite))
                print("attack", name, eps, suite, digest([tensor(found.x_adv), found.success.tolist()]), flush=True)
            bound = sp.certify(model, x, y, sp.Linf(eps), method="crown")
            print("certify", name, eps, digest(bound.lower_bound.tolist()), flush=True)


def evaluations(folder: Path) -> None:
    """Evaluate with evidence, and once more in two sessions."""
    model, data = sp.load_classifier("fashion-mnist-pgd"), sp.load_dataset("fashion-mnist-sample")

    def run(name: str, **how: object) -> sp.Evaluation:
        return sp.evaluate(model, data, [sp.Linf(e) for e in RADII], out=folder / name, limit=40, **how)  # type: ignore[arg-type]

    whole = run("whole", evidence=True)
    files = sorted((folder / "whole" / "evidence").glob("*"))
    print("evaluate", digest(records(whole.run)), digest(whole.brackets), flush=True)
    print("evidence", digest((f.name, k, tensor(v)) for f in files for k, v in sorted(load_file(f).items())))
    print("points", digest(tensor(torch.from_numpy(whole.run.point(*key))) for key in kept(whole.run)))
    run("parts", seconds=1e-3)
    print("resumed", digest(records(run("parts").run)), flush=True)


def kept(run: RunFolder) -> list[tuple[str, float]]:
    """Return id and radius of the records whose points are in the folder."""
    return sorted((row["id"], row["eps"]) for row in run.rows().to_pylist() if row["kept"])


def training(folder: Path) -> None:
    """Train some steps by three recipes."""
    for recipe in ("pgd-at", "trades", "crown-ibp"):
        sp.train(None, "digits", replace(load_recipe(recipe), epochs=1), out=folder / recipe)
        state = sp.load_classifier(str(folder / recipe)).module.state_dict()
        print("train", recipe, digest(tensor(value) for value in state.values()), flush=True)


def main() -> None:
    """Print one line for each journey."""
    torch.set_num_threads(2)
    attacks()
    with tempfile.TemporaryDirectory() as folder:
        evaluations(Path(folder))
        training(Path(folder))


if __name__ == "__main__":
    main()
