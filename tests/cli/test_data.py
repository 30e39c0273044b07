"""`saddlepoint attack --data`: the rows are those of `sp.attack`, and survive whatever happens."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import saddlepoint as sp
import saddlepoint.models
from saddlepoint.attacks.registry import SUITES
from saddlepoint.cli.main import main
from saddlepoint.evaluation import executors
from saddlepoint.results import Writer, open_run

COUNT = 23


@pytest.fixture
def data(tmp_path, tiny_model):
    """Images of one colour each, labelled by what the tiny model says of most of them."""
    random = np.random.default_rng(0)
    images = (random.integers(0, 256, (COUNT, 1, 1, 3)) * np.ones((1, 8, 8, 1))).astype(np.uint8)
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    labels = tiny_model.classifier.predict(x).label.numpy().copy()
    labels[::7] = (labels[::7] + 1) % 6
    np.savez(tmp_path / "tiny.npz", images=images, labels=labels)
    return tmp_path / "tiny.npz", x, torch.from_numpy(labels)


@pytest.fixture
def command(data, tmp_path, capsys):
    def run(*arguments, out="run"):
        options = ["--out", str(tmp_path / out), "--eps", "0.1", "--batch-size", "4", "--json"]
        code = main(["attack", "--data", f"npz:{data[0]}", *options, *arguments])
        done, err = capsys.readouterr()
        return code, json.loads(done) if done else None, err

    return run


def rows(folder):
    return open_run(folder).rows().to_pylist()


def test_the_rows_are_those_of_the_library(command, data, tiny_model, tmp_path):
    _, x, y = data
    code, found, err = command("--restarts", "2", "--keep", "all")
    assert (code, err) == (0, "")
    listed = rows(tmp_path / "run")
    ids = [row["id"] for row in listed]
    solver = sp.PGD(steps=40, restarts=2)
    expected = sp.attack(tiny_model.classifier, x, y, sp.Linf(0.1), solver, batch_size=4, ids=ids)
    for name, column in {
        "success": expected.success,
        "margin": expected.margin,
        "distance": expected.norm,
        "steps": expected.steps,
        "forwards": expected.forwards,
        "backwards": expected.backwards,
    }.items():
        assert [row[name] for row in listed] == column.tolist(), name
    assert [row["attack"] for row in listed] == expected.attack
    assert [row["label"] for row in listed] == y.tolist()
    assert [row["index"] for row in listed] == list(range(COUNT))
    run = open_run(tmp_path / "run")
    for row, point in zip(listed, expected.x_adv, strict=True):
        assert np.array_equal(run.point(row["id"]), point.numpy())
        assert row["linf"] == row["distance"] <= 0.1
    clean = tiny_model.classifier.predict(x).label
    assert [row["clean_correct"] for row in listed] == (clean == y).tolist()
    assert found["summary"]["robust"] == int((~expected.success).sum())
    assert 0 < found["summary"]["robust"] < found["summary"]["clean_correct"] < COUNT


@pytest.mark.parametrize("stops", [[1], [3, 5, 2], [22]])
def test_a_run_that_was_stopped_goes_on_to_the_same_rows(command, tmp_path, monkeypatch, stops):
    command(out="whole")
    for stop in stops:
        with monkeypatch.context() as patch:
            patch.setattr(Writer, "add", _interrupted(Writer.add, stop))
            code, found, err = command()
        assert (code, found) == (130, None)
        assert "interrupted" in err
    assert command()[0] == 0
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    assert (tmp_path / "run" / "summary.json").read_bytes() == (tmp_path / "whole" / "summary.json").read_bytes()
    assert command()[0] == 0, "a run that is complete"


def _interrupted(add, left):
    count = iter(range(left - 1))

    def told(self, *given, **how):
        add(self, *given, **how)
        if next(count, None) is None:
            raise KeyboardInterrupt

    return told


def test_another_specification_is_refused_with_the_difference(command):
    command()
    code, _, err = command("--seed", "1")
    assert code == 2
    assert "seed: 0 → 1" in err
    assert err.count("\n") == 1


def test_a_sample_is_the_same_for_a_seed_and_its_rows_those_of_the_whole(command, tmp_path):
    command(out="whole")
    command("--limit", "9", out="part")
    whole = {row["id"]: row for row in rows(tmp_path / "whole")}
    part = rows(tmp_path / "part")
    assert len(part) == 9
    same = ("digest", "success", "margin", "steps", "linf")
    assert all(row[name] == whole[row["id"]][name] for row in part for name in same)
    command("--first", "9", out="first")
    assert [row["id"] for row in rows(tmp_path / "first")] == list(whole)[:9]


def test_what_cannot_be_read_has_its_error_and_the_rest_goes_on(tmp_path, tiny_model, photo, capsys):
    for index in range(4):
        photo(f"red{index}.png", (200 - index, 60, 50))
    folder = tmp_path / "set" / "crimson"
    folder.mkdir(parents=True)
    for path in tmp_path.glob("red*.png"):
        path.rename(folder / path.name)
    (folder / "red2.png").write_bytes(b"\x89PNG no more")
    arguments = ["attack", "--data", f"imagefolder:{tmp_path / 'set'}", "--out", str(tmp_path / "run")]
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "not readable" in out
    assert "1 example could not be read" in err
    listed = rows(tmp_path / "run")
    assert [row["error"] is None for row in listed] == [True, True, False, True]
    assert "red2.png" in listed[2]["error"]
    Image.new("RGB", (20, 16), (190, 60, 50)).save(folder / "red2.png")
    assert main(arguments) == 0, "what was mended is read when the run goes on"
    assert [row["error"] for row in rows(tmp_path / "run")] == [None] * 4


def test_text_for_people(command, data, tmp_path, capsys):
    assert main(["attack", "--data", f"npz:{data[0]}", "--out", str(tmp_path / "run"), "--norm", "l2"]) == 0
    text = capsys.readouterr().out
    assert "clean accuracy" in text
    assert "an upper bound on robust accuracy" in text
    assert str(tmp_path / "run") in text


WRONG = {
    "IMAGE and --data were both given": ["a.png"],
    "--label and --data were both given": ["--label", "1"],
    "--target and --data were both given": ["--target", "1"],
    "'some' given; expected a whole number": ["--keep", "some"],
    "'x,1' given; expected one number, or one per channel": ["--mean", "x,1"],
    "holds 'other' and no spec.json": [],
}


@pytest.mark.parametrize("message", WRONG)
def test_what_does_not_go_together_is_one_line(command, tmp_path, message):
    if not WRONG[message]:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "other").touch()
    code, found, err = command(*WRONG[message])
    assert (code, found) == (2, None)
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("flag", ["--limit", "--first", "--keep"])
def test_flags_of_a_data_set_need_one(photo, tiny_model, capsys, flag):
    assert main(["attack", photo(), flag, "3"]) == 2
    assert f"{flag} was given without --data" in capsys.readouterr().err


def test_running_out_of_memory_is_one_line(command, monkeypatch):
    monkeypatch.setattr(executors, "evaluate_shard", lambda *_: (_ for _ in ()).throw(MemoryError()))
    code, _, err = command()
    assert (code, err.count("\n")) == (2, 1)
    assert "pass a smaller --batch-size" in err


def test_a_model_that_cannot_take_the_images_ends_the_run(command, monkeypatch):
    module = nn.Sequential(nn.Flatten(), nn.Linear(7, 6))
    monkeypatch.setattr(saddlepoint.models, "load_classifier", lambda *_, **__: sp.Classifier(module))
    code, _, err = command()
    assert code == 2
    assert "the model cannot take images of shape (3, 8, 8)" in err
    assert err.count("\n") == 1


def test_another_content_of_an_npz_is_refused_with_the_difference(command, data):
    command("--first", "5")
    images = np.load(data[0])["images"]
    images[20] ^= 1
    np.savez(data[0], images=images, labels=data[2].numpy())
    code, _, err = command("--first", "5")
    assert code == 2
    assert 'data.content: "sha256:' in err
    assert err.count("\n") == 1


def folder_of(photo, tmp_path, sizes, name="crimson"):
    folder = tmp_path / "set" / name
    folder.mkdir(parents=True)
    for index, size in enumerate(sizes):
        Path(photo(f"red{index}.png", (200 - index, 60, 50), size)).rename(folder / f"red{index}.png")
    return folder


def test_another_photograph_under_the_same_name_is_refused(tmp_path, tiny_model, photo, capsys):
    folder = folder_of(photo, tmp_path, [(20, 16)] * 3)
    arguments = ["attack", "--data", f"imagefolder:{tmp_path / 'set'}", "--out", str(tmp_path / "run")]
    assert main(arguments) == 0
    Image.new("RGB", (20, 16), (190, 60, 50)).save(folder / "red1.png")
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert "the example 'crimson/red1.png' of imagefolder:" in err
    assert "is another one than the run attacked" in err


def test_the_classes_of_a_folder_are_part_of_what_was_asked(tmp_path, tiny_model, photo, capsys):
    folder_of(photo, tmp_path, [(20, 16)])
    assert main(["attack", "--data", f"imagefolder:{tmp_path / 'set'}", "--out", str(tmp_path / "run")]) == 0
    spec = open_run(tmp_path / "run").spec["data"]
    assert (spec["classes"], spec["shape"]) == ({"crimson": 0}, [3, 8, 8])


def test_the_shape_is_that_of_the_first_example_also_when_a_run_goes_on(tmp_path, monkeypatch, photo, capsys):
    folder_of(photo, tmp_path, [(20, 16), (30, 16), (30, 16), (20, 16)])
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 6))
    model = sp.Classifier(module, names=["crimson", *"bcdef"])
    monkeypatch.setattr(saddlepoint.models, "load_classifier", lambda *_, **__: model)
    arguments = ["attack", "--data", f"imagefolder:{tmp_path / 'set'}", "--out", str(tmp_path / "run")]
    for _ in range(2):
        assert main(arguments) == 2
        listed = rows(tmp_path / "run")
        assert [row["error"] is None for row in listed] == [True, False, False, True]
        assert "its shape is (3, 16, 30); expected (3, 16, 20), which the others have" in listed[1]["error"]


MISMATCHED = {
    "has the label 9; the model has 6 classes, 0 to 5": ((3, 8, 8), 9, []),
    "the model cannot take the data: x has 1 channels; the classifier normalises 3": ((1, 8, 8), 0, ["mean"]),
    "--resize is 4, and npz:": ((3, 8, 8), 0, ["--resize", "4"]),
}


@pytest.mark.parametrize("message", MISMATCHED)
def test_what_does_not_belong_together_ends_the_run_before_it_begins(
    tmp_path, monkeypatch, tiny_model, capsys, message
):
    shape, label, flags = MISMATCHED[message]
    if flags == ["mean"]:
        model, flags = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(64, 6)), mean=[0.5] * 3), []
        monkeypatch.setattr(saddlepoint.models, "load_classifier", lambda *_, **__: model)
    np.savez(tmp_path / "a.npz", x=np.zeros((4, *shape), np.uint8), y=np.array([0, 0, 0, label]))
    options = ["--out", str(tmp_path / "run"), *flags]
    assert main(["attack", "--data", f"npz:{tmp_path / 'a.npz'}", *options]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.skipif(os.name != "posix", reason="names are bytes on POSIX alone")
def test_names_in_another_encoding(tmp_path, tiny_model, photo, capsys):
    folder_of(photo, tmp_path, [(20, 16)])
    odd, out = (os.fsdecode(os.fsencode(tmp_path) + name) for name in (b"/d\xff", b"/o\xff"))
    (tmp_path / "set").rename(odd)
    assert main(["attack", "--data", f"imagefolder:{odd}", "--out", out, "--json", "--keep", "all"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["out"].endswith("/o\\xff")
    assert said["data"]["reference"].endswith("/d\\xff")


def test_lost_points_are_named_and_computed_again(command, tmp_path):
    command("--keep", "all")
    before = (tmp_path / "run" / "summary.json").read_bytes()
    next((tmp_path / "run" / "adversarial").iterdir()).unlink()
    code, _, err = command("--keep", "all")
    assert code == 0
    assert "are missing or torn (23 of them); the examples of that shard are attacked again" in err
    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_the_example_of_the_readme(tmp_path, capsys):
    example = Path(__file__).parents[2] / "examples" / "digits.py"
    options = ["--eps", "1/16", "--limit", "300", "--out", str(tmp_path / "run"), "--json"]
    assert main(["attack", "--data", "digits", "--model", f"{example}:make", *options]) == 0
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert 0.93 < summary["clean_accuracy"] < 0.995
    assert 0.65 < summary["attacked_accuracy"] < 0.85
    broken = next(row for row in rows(tmp_path / "run") if row["attack"] == "PGD")
    assert sp.open_run(tmp_path / "run").point(broken["id"]).shape == (1, 8, 8)


def test_another_code_of_the_same_weights_is_another_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = (
        "import torch\nfrom torch import nn\n\ndef make():\n    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 10))\n"
    )
    file = tmp_path / "net.py"
    file.write_text(code)
    command = ["attack", "--data", "digits", "--first", "4", "--model", "net.py:make", "--steps", "2", "--out", "run"]
    assert main(command) == 0
    for other in (code.replace("ReLU", "Sigmoid"), code + "# a remark\n"):
        file.write_text(other)
        assert main(command) == 2
        assert "model" in capsys.readouterr().err
    file.write_text(code)
    assert main(command) == 0


@pytest.mark.parametrize(("name", "suite"), [("fast", sp.FAST), ("rand", sp.RAND)])
def test_a_suite_is_that_of_the_library(command, data, tiny_model, tmp_path, monkeypatch, name, suite):
    short = (
        tuple(replace(step, attack=sp.APGD(steps=3), draws=2) for step in suite[:1]) if name == "rand" else suite[:2]
    )
    monkeypatch.setitem(SUITES, name, short)
    _, x, y = data
    code, found, err = command("--attack", name)
    assert (code, err) == (0, "")
    listed = rows(tmp_path / "run")
    ids = [row["id"] for row in listed]
    expected = sp.attack(tiny_model.classifier, x, y, sp.Linf(0.1), short, batch_size=4, ids=ids)
    assert [row["attack"] for row in listed] == expected.attack
    assert [row["accuracy"] for row in listed] == expected.accuracy.tolist()
    assert found["summary"]["attacked_accuracy"] == expected.accuracy.mean(dtype=torch.float64).item()
    assert found["summary"]["doubts"] == {}


def test_signs_of_masked_gradients_are_told(command, data, tiny_model, tmp_path, monkeypatch):
    class Quantised(nn.Module):
        def forward(self, x):
            return (x * 255).round() / 255

    masked = sp.Classifier(nn.Sequential(Quantised(), tiny_model.classifier), names=tiny_model.classifier.names)
    monkeypatch.setattr(saddlepoint.models, "load_classifier", lambda *_, **__: masked)
    code, found, err = command("--attack", "pgd", "--steps", "2")
    standing = COUNT - found["summary"]["broken"]["clean"]
    assert code == 0
    assert f"saddlepoint: zero gradient: on {standing} of {COUNT} examples the gradient was exactly zero" in err
    assert found["summary"]["doubts"] == {"zero gradient": standing}
    assert sum(row["doubts"] == "zero gradient" for row in rows(tmp_path / "run")) == standing
