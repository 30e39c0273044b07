"""Input that is probably not what was meant is questioned, once, in one line; honest input never is."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import saddlepoint as sp
from saddlepoint.classifier.questions import question, questions
from saddlepoint.cli.main import main
from saddlepoint.testing import toys


def logits_of(labels, classes=5, sure=8.0):
    return torch.nn.functional.one_hot(labels, classes) * sure - 1.0


@given(st.integers(20, 60), st.integers(0, 2**32 - 1), st.floats(0, 0.3))
def test_honest_labels_raise_no_question(count, seed, wrong):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(5, (count,), generator=generator)
    predicted = torch.where(torch.rand(count, generator=generator) < wrong / 2, (y + 2) % 5, y)
    assert list(questions(logits_of(predicted), y)) == []


@pytest.mark.parametrize(("shift", "advice"), [(1, "pass y - 1"), (-1, r"pass y \+ 1")])
def test_labels_that_count_from_elsewhere_are_seen(shift, advice):
    predicted = torch.arange(40) % 4 + (shift < 0)
    with pytest.warns(sp.InputWarning, match=advice):
        question(logits_of(predicted), predicted + shift)


def test_confidence_without_accuracy_is_seen():
    (line,) = questions(logits_of(torch.zeros(40, dtype=torch.int64)), torch.arange(40) % 5)
    assert "right on 20% of these images, but 100% sure on average" in line


def test_outputs_of_a_sigmoid_are_seen():
    y = torch.arange(40) % 5
    assert any("outputs of a sigmoid" in line for line in questions(logits_of(y).sigmoid(), y))


def test_few_images_say_nothing():
    assert list(questions(logits_of(torch.arange(19) % 4), torch.arange(19) % 4 + 1)) == []


def test_an_attack_asks(recwarn):
    classifier, x = toys.convolutional(), toys.pixels(24, (3, 6, 5))
    y = (classifier.predict(x).label + 1) % 4
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sp.attack(classifier, x, y, sp.Linf(0.01), sp.FGSM())
    assert any(issubclass(each.category, sp.InputWarning) for each in seen)


@pytest.mark.parametrize("command", [["attack", "--attack", "fgsm", "--eps", "0.1"], ["evaluate", "--certify", "none"]])
def test_the_command_line_asks_in_one_line(command, tmp_path, capsys):
    from saddlepoint.data.datasets import load_dataset

    data = load_dataset("fashion-mnist-sample").select(limit=24)
    samples = [data.read(index) for index in range(24)]
    x, y = np.stack([each.x.numpy() for each in samples]), np.array([(each.y + 1) % 10 for each in samples])
    np.savez(tmp_path / "shifted.npz", x=x, y=y)
    where = ["--data", f"npz:{tmp_path / 'shifted.npz'}", "--model", "fashion-mnist-standard"]
    assert main([*command, *where, "--out", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().err.count("they seem to count classes from 1") == 1


def test_a_result_prints_as_a_short_table():
    classifier, x = toys.convolutional(), toys.pixels(4, (3, 6, 5))
    y = classifier.predict(x).label
    result = sp.attack(classifier, x, y, sp.Linf(0.2), [sp.FGSM(), sp.PGD(steps=5)])
    text = repr(result)
    assert "tensor" not in text
    assert text.startswith(f"4 examples: {result.accuracy.double().mean().item():.1%} right under attack")
    assert f"not broken  {sum(each is None for each in result.attack)}" in text
