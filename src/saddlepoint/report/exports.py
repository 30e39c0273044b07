"""A run in the forms that other tools read: existing conventions only, each a pure function of the run folder.

csv       the rows
junit     one test case for each check: what CI servers show
badge     shields.io's endpoint schema: always the bracket and the number of images, never one number
in-toto   a statement with a test-result predicate over the digests of the run, to be signed by the usual tools; what
          `verify` writes has an svr predicate
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from saddlepoint import __version__
from saddlepoint.errors import InputError
from saddlepoint.results import Bracket, RunFolder, brackets, judgements, percent
from saddlepoint.results.records.bracket import largest

Export = Callable[[RunFolder, Sequence[Path]], str]
_FILES = ("spec.json", "summary.json", "checks.json", "evidence/manifest.json")
"""What a statement rests on; the rows are in the summary by their digest, all else in the manifest."""
_COLOURS = {"pass": "blue", "warn": "orange", "fail": "lightgrey"}


def export(run: RunFolder, form: str, model: Sequence[Path] = ()) -> str:
    """Return a finished run in another form.

    Args:
        run: of an evaluation.
        form: a name of `FORMS`.
        model: the model's own files, the subjects of an in-toto statement; its digest if there are none.

    Raises:
        InputError: the form is not known, or the run is not finished.
    """
    if form not in FORMS:
        raise InputError(f"the form is {form!r}; expected one of {', '.join(FORMS)}")
    if not run.finished:
        raise InputError(f"{str(run.path)!r} is not finished; expected a run that is: the same command goes on")
    return FORMS[form](run, model)


def _csv(run: RunFolder, model: Sequence[Path]) -> str:
    rows, out = run.rows().to_pylist(), io.StringIO()
    writer = csv.DictWriter(out, fieldnames=run.rows().column_names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: None if value is None else _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: object) -> object:
    """Return what a cell holds; a text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" else value


def _junit(run: RunFolder, model: Sequence[Path]) -> str:
    checks = run.checks()
    failures = sum(check["outcome"] == "fail" for check in checks)
    suite = ElementTree.Element("testsuite", name="saddlepoint", tests=str(len(checks)), failures=str(failures))
    for bracket in brackets(judgements(run.records())):
        ElementTree.SubElement(
            _within(suite, "properties"), "property", name=f"robust {bracket.ball}", value=_shares(bracket)
        )
    for check in checks:
        case = ElementTree.SubElement(suite, "testcase", classname="saddlepoint.checks", name=check["name"])
        if check["outcome"] != "pass":
            kind = "failure" if check["outcome"] == "fail" else "system-out"
            ElementTree.SubElement(case, kind).text = f"{check['measured']}: {check['consequence']}"
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _within(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    there = parent.find(tag)
    return ElementTree.SubElement(parent, tag) if there is None else there


def _badge(run: RunFolder, model: Sequence[Path]) -> str:
    bracket = largest(brackets(judgements(run.records())))[0]
    colour = _COLOURS[_worst(run)]
    told = {"schemaVersion": 1, "label": f"robust {bracket.ball}", "message": _shares(bracket), "color": colour}
    return json.dumps(told, ensure_ascii=False) + "\n"


def _in_toto(run: RunFolder, model: Sequence[Path]) -> str:
    """Return an in-toto Statement v1 with a test-result v0.1 predicate."""
    checks = run.checks()
    told = {f"robust {bracket.ball}": _shares(bracket) for bracket in brackets(judgements(run.records()))}
    by_outcome = {
        kind: [check["name"] for check in checks if check["outcome"] == outcome]
        for kind, outcome in (("passedTests", "pass"), ("warnedTests", "warn"), ("failedTests", "fail"))
    }
    predicate = {
        "result": {"pass": "PASSED", "warn": "WARNED", "fail": "FAILED"}[_worst(run)],
        "configuration": [*_files(run), {"name": f"saddlepoint {__version__}", "annotations": told}],
        **by_outcome,
    }
    return _statement(_subjects(run, model), "test-result/v0.1", predicate)


def verification_statement(run: RunFolder, version: str, properties: Sequence[str]) -> str:
    """Return an in-toto Statement v1 with an svr v0.1 predicate, a summary of what was verified about the run's files.

    Args:
        run: what was verified, all of whose claims held.
        version: of saddlepoint, the verifier.
        properties: what was verified, as tokens.
    """
    predicate = {
        "verifier": {"id": f"https://pypi.org/project/saddlepoint/{version}/"},
        "timeCreated": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "properties": list(properties),
    }
    return _statement([*_files(run), *_subjects(run, ())], "svr/v0.1", predicate)


def _statement(subjects: Sequence[object], kind: str, predicate: object) -> str:
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": list(subjects),
        "predicateType": f"https://in-toto.io/attestation/{kind}",
        "predicate": predicate,
    }
    return json.dumps(statement, ensure_ascii=False, indent=1) + "\n"


def _subjects(run: RunFolder, model: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the model's files by their digests, which consumers look for; if there are none, its weights' content."""
    described = run.spec["model"]
    own = (f"{described['reference']} (content of its weights)", described["digest"].partition(":")[2])
    named = [(path.name, _digest(path)) for path in model] or [own]
    return [{"name": name, "digest": {"sha256": digest}} for name, digest in named]


def _files(run: RunFolder) -> list[dict[str, Any]]:
    """Return the files of the run that a statement rests on, by their digests."""
    files = [name for name in _FILES if (run.path / name).is_file()]
    return [{"name": name, "digest": {"sha256": _digest(run.path / name)}} for name in files]


def _shares(bracket: Bracket) -> str:
    """Return both ends and the number of images; an end that was not asked for is said to be open."""
    low = percent(bracket.share(bracket.certified)) if bracket.proven else "not certified"
    high = percent(bracket.share(bracket.attacked)) if bracket.searched else "not attacked"
    return f"{low} to {high} (n = {bracket.examples})"


def _worst(run: RunFolder) -> str:
    outcomes = {check["outcome"] for check in run.checks()} or {"warn"}  # what nobody checked has not passed
    return next((outcome for outcome in ("fail", "warn") if outcome in outcomes), "pass")


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error}); expected a file of the model") from None


FORMS: dict[str, Export] = {"csv": _csv, "junit": _junit, "badge": _badge, "in-toto": _in_toto}
"""By the name that `--as` takes."""
