"""Who computes the records: this process, or workers of a Ray cluster. They are the same records.

The process that was started is the only writer. A worker keeps the model loaded; if it dies, another redoes its
unfinished work.
"""

import copy
import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol, final, runtime_checkable

import torch

from saddlepoint.certificates import graphs_of
from saddlepoint.classifier import Classifier
from saddlepoint.errors import InputError
from saddlepoint.evaluation.cascade import evaluate_shard
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.records import WithImages
from saddlepoint.evaluation.resume import Earlier
from saddlepoint.models.code import PREFIX

PIECE = 8
"""Batches that a worker is given at once, at most: fewer do not keep its batch full, more are lost when the writing
process is killed."""
AHEAD = 2
"""Pieces that a worker has: it begins the next one while the records of the last one travel."""
DEATHS = 20
"""Times that workers may die on the same examples: what kills each of them, as too little memory does, would go on."""


@runtime_checkable
class Executor(Protocol):
    """Something that evaluates examples."""

    @property
    def workers(self) -> int:
        """How many it does so with."""

    def records(self, job: Job, places: Sequence[int]) -> Iterator[WithImages]:
        """Yield the records of the examples at these places, in any order."""


@final
@dataclass(frozen=True)
class Here:
    """This process."""

    workers: int = 1

    def records(self, job: Job, places: Sequence[int]) -> Iterator[WithImages]:
        """Yield the records."""
        return evaluate_shard(job, places)


HERE = Here()


@final
class Workers:
    """Actors of a Ray cluster, each with the model loaded; a context manager.

    Args:
        workers: how many. Each takes a GPU where the cluster has one for each, else `threads` CPUs.
        address: of a running cluster; None for one on this machine, which ends with the context.
        threads: of torch in each worker: a CPU's results depend on them, to the last bit.
        device: "cpu" to leave GPUs alone.

    Raises:
        InputError: ray is not installed, or the cluster cannot be reached.
    """

    def __init__(self, workers: int, address: str | None = None, threads: int = 1, device: str | None = None) -> None:
        if workers < 1 or threads < 1:
            raise InputError(f"workers is {workers} and threads {threads}; expected at least 1")
        try:
            ray: Any = importlib.import_module("ray")
        except ImportError:
            raise InputError("workers need ray; pip install 'saddlepoint[ray]'") from None
        self.workers, self._threads, self._ray = workers, threads, ray
        self._actors, self._held, self._device = list[Any](), None, device
        self._own = not ray.is_initialized()
        if self._own:
            try:
                ray.init(
                    address=address or "local",
                    num_cpus=None if address else max(workers * threads, os.cpu_count() or 1),
                    log_to_driver=False,
                    logging_level="error",
                )
            except (ConnectionError, OSError) as error:
                raise InputError(f"no cluster answers at {address!r} ({error}); expected ray start's address") from None

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []
        if self._own:
            self._ray.shutdown()

    def records(self, job: Job, places: Sequence[int]) -> Iterator[WithImages]:
        """Yield the records, piece by piece as they come.

        Raises:
            SaddlepointError: what a worker raised.
            InputError: workers die again and again.
        """
        ray, batch = self._ray, job.spec.batch_size
        share = -(-len(places) // (self.workers * batch))  # batches, rounded up
        size = batch * max(1, min(PIECE, share))
        left = [list(places[begin : begin + size]) for begin in range(0, len(places), size)]
        waiting, idle = dict[Any, Any](), [actor for _ in range(AHEAD) for actor in self._started(job)]
        while left or waiting:
            while left and idle:
                actor, piece = idle.pop(0), left.pop(0)
                known = job.earlier.of([job.data.ids[place] for place in piece])
                waiting[actor.records.remote([self._held], piece, known)] = actor
            (done,), _ = ray.wait(list(waiting), num_returns=1)
            idle.append(waiting.pop(done))
            try:
                records = ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError):
                raise InputError(
                    f"workers died {DEATHS} times on the same examples; if their memory ran out, expected a smaller "
                    "--batch-size or fewer workers; the same command goes on"
                ) from None
            yield from records

    def _started(self, job: Job) -> list[Any]:
        """Return the actors; they are started once, and take the job's model and data with their first piece."""
        if not self._actors:
            gpus = int(self._device != "cpu" and self._ray.cluster_resources().get("GPU", 0) >= self.workers)
            options = {"num_cpus": self._threads, "num_gpus": gpus, "max_restarts": -1, "max_task_retries": DEATHS}
            plain = replace(job, classifier=_on_cpu(job.classifier), graphs=None, pending=None, earlier=Earlier())
            for name in {type(module).__module__ for module in job.classifier.modules()}:
                if name.startswith(PREFIX):  # a file that workers cannot import: its code travels along
                    self._ray.cloudpickle.register_pickle_by_value(sys.modules[name])
            try:
                self._held = self._ray.put((plain, job.graphs is not None))
            except TypeError as error:
                line = str(error.__cause__ or error).strip().splitlines()[-1]
                raise InputError(
                    f"the model or the data cannot be sent to workers ({line}); expected neither locks nor open files"
                ) from None
            kind = self._ray.remote(**options)(_Worker)
            self._actors = [kind.remote(self._threads) for _ in range(self.workers)]
        return self._actors


class _Worker:
    """An evaluation's model and data in a process of their own."""

    def __init__(self, threads: int) -> None:
        torch.set_num_threads(threads)
        self._job: Job | None = None

    def records(self, held: list[Any], places: list[int], earlier: Earlier) -> list[WithImages]:
        """Return the records of these examples; `held` refers to the job, which travels once."""
        if self._job is None:
            job, proven = importlib.import_module("ray").get(held[0])
            classifier = job.classifier.to("cuda" if torch.cuda.is_available() else "cpu")
            shape = job.data.shape or tuple(job.data.read(0).x.shape)
            self._job = replace(job, classifier=classifier, graphs=graphs_of(classifier, shape) if proven else None)
        return list(evaluate_shard(replace(self._job, earlier=earlier), places))


def _on_cpu(classifier: Classifier) -> Classifier:
    return classifier if classifier.device.type == "cpu" else copy.deepcopy(classifier).cpu()
