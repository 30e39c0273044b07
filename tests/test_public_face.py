"""The public face: small, sorted, stable, and free to import."""

import subprocess
import sys

import pytest

import saddlepoint as sp


def test_all_is_what_is_promised():
    assert sp.__all__ == [
        "APGD",
        "APGDL1",
        "BPDA",
        "EOT",
        "FAB",
        "FAST",
        "FGSM",
        "FMN",
        "L1",
        "L2",
        "MIFGSM",
        "PGD",
        "PLUS",
        "RAND",
        "SGD",
        "STANDARD",
        "Answer",
        "Attack",
        "AttackResult",
        "Ball",
        "Certificates",
        "Classifier",
        "Dataset",
        "Evaluation",
        "Finding",
        "Fool",
        "Hints",
        "IfDoubted",
        "InputError",
        "InputWarning",
        "Last",
        "Linf",
        "MaskingWarning",
        "ModelError",
        "Nearest",
        "OnSample",
        "Property",
        "Recipe",
        "Region",
        "SaddlepointError",
        "SmoothedClassifier",
        "Spec",
        "Square",
        "Sweep",
        "ThreatModel",
        "Verdict",
        "attack",
        "certify",
        "check_evidence",
        "evaluate",
        "load_classifier",
        "load_dataset",
        "maximise",
        "open_run",
        "pose",
        "prove",
        "read_property",
        "save_classifier",
        "train",
    ]
    for name in sp.__all__:
        value = getattr(sp, name)
        assert isinstance(value, tuple) or (value.__name__ == name and value.__doc__)
    assert set(sp.__all__) <= set(dir(sp))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sp.nonsense


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, saddlepoint; sys.exit(bool({'torch', 'numpy', 'PIL', 'rich'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
