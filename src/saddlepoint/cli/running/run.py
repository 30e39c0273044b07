"""A data set, attacked into a run folder."""

import json
import math
import signal
import sys
import threading
import time
import warnings
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager

from saddlepoint.attacks import Setting, run_attack
from saddlepoint.attacks.example import Input
from saddlepoint.classifier import check_images
from saddlepoint.cli.attacking.settings import Settings, settings
from saddlepoint.cli.memory import bounded
from saddlepoint.cli.running.progress import Advance, progress
from saddlepoint.cli.running.records import identified, method_line, record
from saddlepoint.cli.running.specification import provenance, specification
from saddlepoint.cli.running.text import render
from saddlepoint.data.datasets import Dataset, Sample, load_dataset
from saddlepoint.errors import InputError, ModelError
from saddlepoint.results import Writer, writing

LOSS = 5.0
"""Seconds of work that a kill can cost, at most."""


def run(given: Namespace) -> int:
    """Attack a data set, or go on with it; print the summary, and return 0, or 2 if an example could not be read."""
    for flag, value in (("IMAGE", given.images), ("--label", given.label), ("--target", given.target)):
        if value:
            raise InputError(f"{flag} and --data were both given; expected one of them")
    chosen = settings(given)
    chosen.classifier.preprocessing = chosen.preprocessing
    data = load_dataset(given.data, classifier=chosen.classifier)
    data = data.select(limit=given.limit, first=given.first, seed=given.seed)
    spec, begin = specification(given, chosen, data), time.perf_counter()
    opened = writing(chosen.out, spec, provenance(chosen), given.keep or "broken", seconds=LOSS)
    with warnings.catch_warnings(), interruptible(), bounded(), opened as folder:
        warnings.simplefilter("ignore")
        with progress(len(data), len(folder.done), silent=given.json) as advance:
            Campaign(chosen, data, folder, advance, spec["batch_size"]).run()
        summary = folder.finish()
    seconds = time.perf_counter() - begin
    if given.json:
        print(json.dumps({**spec, "out": str(chosen.out), "seconds": seconds, "summary": summary}, ensure_ascii=False))
    else:
        render(chosen, spec, summary, seconds)
    if summary["errors"]:
        count = f"{summary['errors']} example{'s' if summary['errors'] > 1 else ''}"
        print(f"saddlepoint: {count} could not be read; see `error` in the rows", file=sys.stderr)
    return 2 if summary["errors"] else 0


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

    def __init__(self, chosen: Settings, data: Dataset, folder: Writer, advance: Advance, batch: int) -> None:
        self._chosen, self._data, self._folder, self._advance = chosen, data, folder, advance
        self._digests: dict[str, str] = {}
        self._shape: tuple[int, ...] | None = None
        self._setting = Setting(
            ball=chosen.ball,
            box=chosen.bounds,
            batch=batch,
            device=chosen.classifier.device,
            seed=chosen.seed,
            stop=math.inf if chosen.stop == "never" else 0.0,
        )

    def run(self) -> None:
        """Attack what is not done."""
        chosen, method = self._chosen, method_line([self._chosen.method])
        for row in run_attack(chosen.classifier, self._inputs(), (chosen.method,), self._setting, chosen.precision):
            digest = self._digests.pop(str(row.given.id))
            self._folder.add(record(row, digest, method, chosen.norm), row.x_adv.cpu().numpy())
            self._advance(row.success)

    def _inputs(self) -> Iterator[Input]:
        eps, method = float(self._chosen.eps), method_line([self._chosen.method])
        for index, identity in enumerate(self._data.ids):
            if identity in self._folder.done:
                continue
            try:
                sample = self._sample(index)
            except InputError as error:
                row = identified(identity, index, None, None, method, self._chosen.norm, eps)
                self._folder.add({**row, "error": str(error)}, None)
                self._advance(None)
                continue
            self._digests[identity] = sample.digest
            yield Input(index, identity, sample.x, sample.y, eps)

    def _sample(self, index: int) -> Sample:
        """Return an example, or raise InputError; a model that cannot take the first one ends the run."""
        sample = self._data.read(index)
        shape = tuple(sample.x.shape)
        check_images(sample.x[None], self._chosen.bounds, self._chosen.classifier.channels)
        if self._shape is None:
            self._try(sample)
            self._shape = shape
        if shape != self._shape:
            raise InputError(f"its shape is {shape}; expected {self._shape}, which the others have")
        return sample

    def _try(self, sample: Sample) -> None:
        try:
            self._chosen.classifier.predict(sample.x[None], box=self._chosen.bounds)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            reason = " ".join(str(error).split())[:160]
            raise ModelError(
                f"the model cannot take images of shape {tuple(sample.x.shape)} ({reason}); expected data of its shape"
            ) from None
