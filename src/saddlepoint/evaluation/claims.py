"""What an audit needs of a run, in its folder `evidence`: the network, the images, the hints, and what is claimed.

`saddlepoint_audit` reads it with NumPy and the standard library alone, so that nothing here is a table of Parquet.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from saddlepoint.certificates import Certificates
from saddlepoint.certificates.evidence import save_hints
from saddlepoint.certificates.listing import Listing, listing_of
from saddlepoint.data.datasets import Dataset
from saddlepoint.errors import InputError
from saddlepoint.evaluation.job import Job
from saddlepoint.evaluation.spec import Spec, ThreatModel, prefix
from saddlepoint.results import Record, open_run
from saddlepoint.results.folder.documents import make_folder, write_bytes
from saddlepoint.results.folder.points import Pixels, as_pixels, image
from saddlepoint.results.records.verdicts import standing_of
from saddlepoint_audit.files import arrays_of, json_of
from saddlepoint_audit.manifest import NAME as MANIFEST
from saddlepoint_audit.manifest import digests
from saddlepoint_audit.runs import FORMAT, VERSION

EVIDENCE = "evidence"
"""The folder, inside a run folder, of what an audit needs."""
OPERATIONS, ARRAYS, IMAGES, CLAIMS = "network.json", "network.safetensors", "images.safetensors", "claims.json"
"""Its files, besides the hints and the manifest."""


def evidence_path(folder: Path, threat: ThreatModel, identity: str) -> Path:
    """Return the file of an example's hints at one radius: ids may hold what a file's name cannot."""
    name = hashlib.sha256(f"{prefix(threat.norm, threat.eps)}{identity}".encode()).hexdigest()[:32]
    return folder / f"{name}.safetensors"


def keep_evidence(folder: Path, threat: ThreatModel, identities: Sequence[str], proof: Certificates) -> None:
    """Write the hints of each certified example, before its record says so.

    Args:
        folder: the run's folder for evidence.
        threat: the ball that was certified.
        identities: the identity of each example.
        proof: the certificates, in the same order.
    """
    make_folder(folder)
    for identity, hints in zip(identities, proof.evidence or (), strict=True):
        if hints is not None:
            save_hints(evidence_path(folder, threat, identity), hints)


def write_claims(job: Job, folder: Path) -> None:
    """Write the network, the images, and the verdict on each example of a finished run.

    Args:
        job: what was computed.
        folder: of the run.
    """
    from safetensors.numpy import save

    if job.evidence is None:
        return
    own = folder / EVIDENCE
    if own != job.evidence:  # an escalated run has taken over the certificates of the one before
        shutil.copytree(job.evidence, own, dirs_exist_ok=True)
    _listing(job).save(own)
    images, labels = _examples(job.data)
    write_bytes(own / IMAGES, save({"images": images}))
    # From the folder, not from memory: records of earlier sessions are there as well.
    told = _claims(job.spec, job.data, labels, open_run(folder).records(), own)
    write_bytes(own / CLAIMS, json.dumps(told, ensure_ascii=False, indent=1).encode())
    write_bytes(own / MANIFEST, json.dumps({"files": digests(folder)}, indent=1).encode())


def evidence_differs(job: Job, folder: Path, records: Sequence[Record]) -> Iterator[tuple[str, str]]:
    """Yield each file of a run's evidence that is not of its model, its data and its records, and why.

    Args:
        job: the evaluation, with the model and the data themselves.
        folder: of the run.
        records: its records.

    Raises:
        Refused: a file cannot be read.
        ModelError: the model has no list of operations.
    """
    own, listing = folder / EVIDENCE, _listing(job)
    arrays = {name: tensor.numpy() for name, tensor in listing.arrays.items()}
    if json_of(own / OPERATIONS) != json.loads(json.dumps(listing.entries)):
        yield OPERATIONS, "it lists other operations than the model's"
    if not _alike(arrays_of(own / ARRAYS)[0], arrays):
        yield ARRAYS, "it holds other numbers than the model"
    images, labels = _examples(job.data)
    if not _alike(arrays_of(own / IMAGES)[0], {"images": images}):
        yield IMAGES, "it holds other images than the data"
    if json_of(own / CLAIMS) != json.loads(json.dumps(_claims(job.spec, job.data, labels, records, own))):
        yield CLAIMS, "it claims something else than the records"


def _alike(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> bool:
    """Tell whether arrays are the same bit by bit."""
    return one.keys() == other.keys() and all(
        array.dtype == other[name].dtype
        and array.shape == other[name].shape
        and array.tobytes() == other[name].tobytes()
        for name, array in one.items()
    )


def _listing(job: Job) -> Listing:
    return listing_of(job.classifier, job.data.shape or tuple(job.data.read(0).x.shape))


def _claims(spec: Spec, data: Dataset, labels: list[int], records: Sequence[Record], own: Path) -> dict[str, Any]:
    """Return the verdict on each example under each threat, and the name of what proves it.

    Args:
        spec: what was asked.
        data: the examples.
        labels: of the examples.
        records: of the run.
        own: its folder of evidence.
    """
    by_example: dict[tuple[str, float, str], list[Record]] = {}
    for record in records:
        by_example.setdefault((record.norm, record.eps, record.id), []).append(record)
    threats = []
    for threat in spec.threats:
        verdicts = [str(standing_of(by_example.get((threat.norm, threat.eps, identity), []))) for identity in data.ids]
        proofs = [evidence_path(own, threat, identity) for identity in data.ids]
        names = [
            path.name if verdict == "certified" and path.exists() else None
            for path, verdict in zip(proofs, verdicts, strict=True)
        ]
        threats.append({"norm": threat.norm, "eps": threat.eps, "verdicts": verdicts, "proofs": names})
    about = {"format": FORMAT, "version": VERSION, "box": spec.threats[0].box}
    return {**about, "ids": list(data.ids), "labels": labels, "threats": threats}


def _examples(data: Dataset) -> tuple[np.ndarray, list[int]]:
    """Return all images, as bytes if all are multiples of 1/255, and labels; zeros for those that cannot be read."""
    images, labels = list[Pixels | None](), list[int]()
    for place in range(len(data)):
        try:
            sample = data.read(place)
        except InputError:
            images.append(None)
            labels.append(0)
            continue
        images.append(image(sample.x.numpy()))
        labels.append(int(sample.y))
    some = next(x for x in images if x is not None)
    filled = [np.zeros_like(some) if x is None else x for x in images]
    same = all(x.dtype == np.uint8 for x in filled)
    return np.stack(filled if same else [as_pixels(x) for x in filled]), labels
