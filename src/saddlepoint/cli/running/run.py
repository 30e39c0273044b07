"""A data set, attacked into a run folder."""

import json
import math
import signal
import sys
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from saddlepoint.attacks import Setting, findings, run_attack
from saddlepoint.attacks.engine.example import Input
from saddlepoint.cli.attacking.settings import Settings, settings
from saddlepoint.cli.memory import bounded
from saddlepoint.cli.running.progress import Advance, progress
from saddlepoint.cli.running.specification import specification
from saddlepoint.cli.running.text import render
from saddlepoint.cli.running.unchanged import check_unchanged
from saddlepoint.cli.warned import warned
from saddlepoint.data import in_utf8
from saddlepoint.data.datasets import Dataset, load_dataset, matched, question_data
from saddlepoint.errors import InputError
from saddlepoint.evaluation.pending import Pending
from saddlepoint.evaluation.provenance import provenance
from saddlepoint.evaluation.records import identified, method_line, record
from saddlepoint.results import Writer, writing

LOSS = 5.0
"""Seconds of work that a kill can cost, at most."""


def run(given: Namespace) -> int:
    """Attack a data set, or go on with it; print the summary, and return the exit code."""
    for flag, value in (("IMAGE", given.images), ("--label", given.label), ("--target", given.target)):
        if value:
            raise InputError(f"{flag} and --data were both given; expected one of them")
    chosen = settings(given)
    chosen.classifier.preprocessing = chosen.preprocessing
    data = _data(given, chosen)
    spec, begin = specification(given, chosen, data), time.perf_counter()
    opened = writing(chosen.out, spec, provenance(chosen.classifier), given.keep or "broken", seconds=LOSS)
    with warned(), bounded():
        question_data(chosen.classifier, data)
    with warnings.catch_warnings(), interruptible(), bounded(), opened as folder:
        warnings.simplefilter("ignore")
        for line in folder.lost:
            print(f"saddlepoint: {line}", file=sys.stderr)
        with progress(len(data), len(folder.done), silent=given.json) as advance:
            pending = Pending(chosen.out)
            try:
                Campaign(chosen, data, folder, advance, spec["batch_size"], pending).run()
            finally:
                pending.write()
        summary = folder.finish()
    seconds = time.perf_counter() - begin
    if given.json:
        told = {**spec, "out": in_utf8(str(chosen.out)), "seconds": seconds, "summary": summary}
        print(json.dumps(told, ensure_ascii=False))
    else:
        render(chosen, spec, summary, seconds)
    masked = told_findings(summary)
    if summary["errors"]:
        count = f"{summary['errors']} example{'s' if summary['errors'] > 1 else ''}"
        print(f"saddlepoint: {count} could not be read; see `error` in the rows", file=sys.stderr)
    return 2 if summary["errors"] else int(given.strict and masked)


def told_findings(summary: Mapping[str, Any]) -> bool:
    """Print the signs of masked gradients on standard error; return whether there are any."""
    examples = max((threat["examples"] for threat in summary["threats"]), default=0)
    found = findings(summary["doubts"], examples, summary["robust"])
    for finding in found:
        print(f"saddlepoint: {finding.text}", file=sys.stderr)
    return bool(found)


def _data(given: Namespace, chosen: Settings) -> Dataset:
    """Return the examples that were asked for, in the form that the model takes."""
    data = load_dataset(given.data)
    if given.resize is not None and not data.photos:
        raise InputError(f"--resize is {given.resize}, and {given.data} holds arrays; expected photographs: drop it")
    data = data.select(limit=given.limit, first=given.first, seed=given.seed)
    with warnings.catch_warnings(), bounded():
        warnings.simplefilter("ignore")
        return matched(data, chosen.classifier)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let a polite request to end be as Ctrl-C: what was computed is written before the process goes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Campaign:
    """The examples that a run still lacks: read as a stream, attacked, written as they end."""

    def __init__(
        self, chosen: Settings, data: Dataset, folder: Writer, advance: Advance, batch: int, pending: Pending
    ) -> None:
        self._chosen, self._data, self._folder, self._advance, self._pending = chosen, data, folder, advance, pending
        self._digests: dict[str, str] = {}
        self._setting = Setting(
            ball=chosen.ball,
            box=chosen.bounds,
            batch=batch,
            device=chosen.classifier.device,
            seed=chosen.seed,
            stop=math.inf if chosen.stop == "never" else 0.0,
            earlier=pending.of(""),
            settled=lambda example: pending.note(str(example.input.id), example.settled()),
        )

    def run(self) -> None:
        """Attack what is not done."""
        check_unchanged(self._data, self._folder.digests)
        chosen, method = self._chosen, method_line(self._chosen.suite)
        for row in run_attack(chosen.classifier, self._inputs(), chosen.suite, self._setting, chosen.precision):
            digest = self._digests.pop(str(row.input.id))
            self._folder.add(record(row, digest, method, chosen.norm), row.x_adv.cpu().numpy(), row.input.x.numpy())
            self._pending.forget(str(row.input.id))
            self._advance(row.success)

    def _inputs(self) -> Iterator[Input]:
        eps, method = float(self._chosen.eps), method_line(self._chosen.suite)
        for index, identity in enumerate(self._data.ids):
            if identity in self._folder.done:
                continue
            try:
                sample = self._data.read(index)
            except InputError as error:
                row = identified(identity, index, None, None, method, self._chosen.norm, eps)
                self._folder.add({**row, "error": str(error)}, None)
                self._advance(None)
                continue
            self._digests[identity] = sample.digest
            yield Input(index, identity, sample.x, sample.y, eps)
