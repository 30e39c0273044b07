"""Recipes, and the loop: it resumes bit for bit, names what is wrong, and makes a model more robust."""

import csv
import json
import re
import subprocess
import sys
import types
import xml.etree.ElementTree as ET
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

import saddlepoint as sp
from saddlepoint.cli.main import main
from saddlepoint.models import nets
from saddlepoint.training import examples, load_recipe, loop, recipe, schedules, train
from saddlepoint.training.catalogue import OBJECTIVES
from saddlepoint.training.loop import Run
from saddlepoint.training.processes import Processes

SMALL = {"epochs": 2, "batch_size": 256}


class KilledError(Exception):
    """Stands for a kill."""


def _weights(folder):
    return sp.load_classifier(str(folder)).module.state_dict()


FAST = {"standard", "pgd-at", "fgsm-rs", "ibp", "imagenet"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in FAST else [pytest.mark.slow]) for name in recipe.names()]
)
def test_every_recipe_trains_and_resumes_bit_for_bit(name, tmp_path, monkeypatch):
    chosen = replace(load_recipe(name, "digits"), **SMALL, ema=0.9, clip=1.0, augment=("crop", "flip"))
    chosen = replace(chosen, replays=min(chosen.replays, 2))
    sp.train(None, "digits", chosen, out=tmp_path / "whole")
    monkeypatch.setattr(loop, "_SAVED_EVERY", -1.0)
    for stop in (3, 7, 9):

        def observe(state, steps, stop=stop):
            if state.step == stop:
                raise KilledError

        with pytest.raises(KilledError):
            sp.train(None, "digits", chosen, out=tmp_path / "parts", observe=observe)
    sp.train(None, "digits", chosen, out=tmp_path / "parts")
    whole, parts = (_weights(tmp_path / kind) for kind in ("whole", "parts"))
    assert all(torch.equal(value, parts[key]) for key, value in whole.items())
    rows = [(tmp_path / kind / "metrics.csv").read_text() for kind in ("whole", "parts")]
    assert rows[0] == rows[1]


def test_a_folder_of_another_run_is_refused_and_a_finished_one_tells_its_model(tmp_path):
    chosen = replace(load_recipe("standard", "digits"), **SMALL)
    first = sp.train(None, "digits", chosen, out=tmp_path)
    again = sp.train(None, "digits", chosen, out=tmp_path)
    assert first.accuracies == again.accuracies
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(sp.InputError, match=r'holds another run \(there "lr": 0.005, here "lr": 0.5\)'):
        sp.train(None, "digits", replace(chosen, lr=0.5), out=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    with pytest.raises(sp.InputError, match=r'there "seed": 0, here "seed": 1'):
        sp.train(None, "digits", chosen, out=tmp_path, seed=1)


def test_a_damaged_checkpoint_is_one_line_and_runs_nothing(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(sp.InputError, match=r"cannot be read .*remove it to begin anew"):
        sp.train(None, "digits", replace(load_recipe("standard", "digits"), **SMALL), out=tmp_path)


def test_a_loss_that_is_no_number_names_epoch_and_step(tmp_path):
    wild = replace(load_recipe("standard", "digits"), **SMALL, optimiser="sgd", lr=1000.0, warmup=0.0)
    with pytest.raises(sp.ModelError, match=r"the loss is no number any more at epoch \d+, step \d+; expected"):
        sp.train(None, "digits", wild, out=tmp_path)


def test_global_random_states_are_untouched(tmp_path):
    before = torch.get_rng_state()
    sp.train(None, "digits", replace(load_recipe("standard", "digits"), epochs=1), out=tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_of_ones_own_is_trained_and_its_weights_saved(tmp_path):
    torch.manual_seed(0)
    module = nets.make("small", (1, 8, 8), 10)
    trained = sp.train(module, "digits", replace(load_recipe("standard", "digits"), epochs=8), out=tmp_path)
    assert trained.accuracies["validation_clean"] > 0.8
    fresh = nets.make("small", (1, 8, 8), 10)
    from safetensors.torch import load_file

    fresh.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(fresh[0].weight, trained.classifier.module[0].weight)


def test_the_command_trains_and_says_what_is_reached(tmp_path, capsys):
    out = str(tmp_path / "model")
    command = ["train", "--data", "digits", "--recipe", "pgd-at", "--set", "attack.steps=2", "--epochs", "2", "--json"]
    assert main([*command, "--out", out]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["recipe"]["attack"]["steps"] == 2
    assert len(told["metrics"]) == 2
    card = json.loads((tmp_path / "model" / "model.json").read_text())["card"]
    assert card["accuracies"] == told["accuracies"]
    assert card["recipe"]["name"] == "pgd-at"
    with (tmp_path / "model" / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1.0", "2.0"]
    ET.fromstring((tmp_path / "model" / "curves.svg").read_text())  # noqa: S314 - our own
    assert main(["attack", "--data", "digits", "--first", "8", "--model", out, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--recipe", "pdg-at"], "did you mean 'pgd-at'?"),
        (["--recipe", "none.toml"], "there is no file 'none.toml'"),
        (["--recipe", "pgd-at", "--set", "learning=3"], "has no key 'learning'"),
        (["--recipe", "pgd-at", "--set", "lr"], "expected KEY=VALUE"),
        (["--recipe", "pgd-at", "--eps", "8"], "did you mean 8/255?"),
        (["--recipe", "pgd-at", "--set", "attack.speed=3"], "PGD has no field 'speed'"),
        (["--recipe", "standard", "--arch", "big"], "unknown architecture 'big'"),
        (["--recipe", "standard", "--set", "objective=trades"], "needs a ball; expected eps > 0"),
        (["--recipe", "standard", "--set", "epochs=0"], "epochs is 0; expected a number from 1"),
        (["--recipe", "standard", "--set", "schedule=later"], "schedule is 'later'; expected one of constant"),
    ],
)
def test_what_cannot_be_used_is_one_line(flags, line, tmp_path, capsys):
    assert main(["train", "--data", "digits", "--out", str(tmp_path / "m"), *flags]) == 2
    error = capsys.readouterr().err
    assert line in error
    assert error.count("\n") == 1


def test_recipes_and_objectives_are_told_everywhere(capsys):
    """Help and docs name what folder and table hold, and each objective's settings are fields or the loop's."""
    assert main(["train", "--help"]) == 0
    assert set(recipe.names()) <= set(re.split(r"[\s,]+", capsys.readouterr().out))
    page = (Path(__file__).parents[2] / "docs/training.md").read_text(encoding="utf-8")
    known = {each.name for each in fields(recipe.Recipe)} | {"ball", "key", "x_adv", "delta", "program"}
    for name, objective in OBJECTIVES.items():
        row = next(row for row in page.splitlines() if f"`{name.replace('-', '_')}`" in row and row.startswith("|"))
        assert not objective.source or objective.source.split(" et al")[0].split(" & ")[0] in row
        assert set(objective.settings) <= known
    for name in recipe.names():
        for data in ("digits", "mnist:DIR", "fashion-mnist:DIR", "cifar10:DIR"):
            assert load_recipe(name, data).about


def test_schedules_rise_fall_and_end():
    for kind in ("constant", "cosine", "one-cycle", "step"):
        chosen = recipe.Recipe(schedule=kind, warmup=0.25, ramp=0.5, eps=0.2, lr=1.0)
        rates = [schedules.learning_rate(chosen, t / 100) for t in range(100)]
        assert rates[0] < rates[20] <= max(rates) <= 1.0
        assert kind == "constant" or rates[-1] < 0.2
        assert schedules.radius(chosen, 0.0) == 0
        assert schedules.radius(chosen, 0.25) == pytest.approx(0.1)
        assert schedules.radius(chosen, 0.9) == 0.2


def test_split_and_order_depend_on_the_seed_alone():
    x = torch.arange(100.0).reshape(100, 1, 1, 1) / 100
    whole = examples.Examples(x, torch.arange(100))
    training, validation = examples.split(whole, 0.2, seed=3)
    assert sorted([*training.y.tolist(), *validation.y.tolist()]) == list(range(100))
    assert len(validation) == 20
    again = examples.split(whole, 0.2, seed=3)[1]
    assert torch.equal(again.y, validation.y)
    rows = torch.cat(list(examples.batches(80, 32, key=5)))
    assert sorted(rows.tolist()) == list(range(80))
    assert examples.steps_of(80, 32) == 3
    assert examples.steps_of(70, 32) == 2  # a last batch of six is left out


def test_augmentation_moves_whole_images():
    torch.manual_seed(0)
    x = torch.rand(64, 2, 8, 8)
    flipped = examples._flipped(x)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in zip(flipped, x, strict=True))
    cropped = examples._cropped(x)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))
    places = [(i, j) for i in range(3) for j in range(3)]
    assert all(
        any(torch.equal(c, p[:, i : i + 8, j : j + 8]) for i, j in places) for c, p in zip(cropped, padded, strict=True)
    )


@pytest.mark.parametrize("name", ["linear", "small", "cnn7-8", "preact-resnet-18", "wrn-10-1"])
def test_architectures_are_rebuilt_from_their_reference(name):
    shape = (3, 32, 32)
    reference = nets.reference(name, shape, 7)
    classifier = sp.load_classifier(reference)
    assert classifier.predict(torch.rand(2, *shape)).logits.shape == (2, 7)


def test_the_small_network_has_its_166_thousand_parameters():
    assert sum(p.numel() for p in nets.make("small", (1, 28, 28), 10).parameters()) == 166_406
    assert sum(p.numel() for p in nets.make("preact-resnet-18", (3, 32, 32), 10).parameters()) == 11_172_170
    assert sum(p.numel() for p in nets.make("wrn-28-10", (3, 32, 32), 10).parameters()) == 36_479_194


def test_a_run_counts_its_steps():
    whole = examples.Examples(torch.rand(100, 1, 2, 2), torch.zeros(100, dtype=torch.long))
    net, chosen = sp.Classifier(torch.nn.Flatten()), recipe.Recipe(epochs=3, batch_size=32)
    run = Run(chosen, net, whole, whole, 0, Path(), "", torch.device("cpu"), Processes())
    assert (run.per_epoch, run.steps) == (3, 9)


@pytest.fixture
def folder(tmp_path):
    """An image folder of 80 digits, so small that reading it is quick."""
    from PIL import Image

    data = sp.load_dataset("digits")
    for index in range(80):
        sample = data.read(index)
        place = tmp_path / "images" / str(sample.y)
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * sample.x[0]).round().to(torch.uint8).numpy()).save(place / f"{index}.png")
    return f"imagefolder:{tmp_path / 'images'}"


def test_what_is_read_batch_by_batch_trains_to_the_weights_of_what_is_held_in_memory(folder, tmp_path, monkeypatch):
    chosen = replace(load_recipe("standard", folder), epochs=2, batch_size=16, arch="linear", normalise=False)
    held = sp.train(None, folder, chosen, out=tmp_path / "held")
    monkeypatch.setattr(examples, "MEMORY", 0)
    streamed = sp.train(None, folder, chosen, out=tmp_path / "streamed")
    assert isinstance(examples.read(sp.load_dataset(folder)), examples.Streamed)
    assert len(held.metrics) == 2
    for name, value in held.classifier.module.state_dict().items():
        assert torch.equal(value, streamed.classifier.module.state_dict()[name])
    assert held.metrics == streamed.metrics


def test_an_image_that_cannot_be_read_is_named_whether_held_or_streamed(folder, tmp_path):
    broken = Path(folder.partition(":")[2]) / "3" / "broken.png"
    broken.write_bytes(b"no image")
    named = pytest.raises(sp.InputError, match=r"the example '3/broken.png' of imagefolder:.* cannot be used")
    with named:
        examples.read(sp.load_dataset(folder))
    streamed = examples.read(sp.load_dataset(folder), memory=0)
    with named:
        streamed.images(torch.arange(len(streamed)))


def test_fine_tuning_starts_from_the_weights_and_keeps_the_rest(tmp_path):
    first = replace(load_recipe("standard", "digits"), **SMALL)
    before = sp.train(None, "digits", first, out=tmp_path / "first").classifier
    start = sp.load_classifier(str(tmp_path / "first"))
    nothing = replace(first, epochs=1, lr=1e-12, ema=0.0, weight_decay=0.0)
    tuned = sp.train(start, "digits", nothing, out=tmp_path / "tuned").classifier
    opened = sp.load_classifier(str(tmp_path / "tuned"))
    x = torch.rand(4, 1, 8, 8)
    for other in (tuned, opened):
        assert torch.allclose(other.predict(x).logits, before.predict(x).logits, atol=1e-4)
        assert torch.equal(other.mean, before.mean)
        assert other.names == before.names
    with pytest.raises(sp.InputError, match="holds another run"):  # other weights are another run
        sp.train(sp.load_classifier(str(tmp_path / "tuned")), "digits", nothing, out=tmp_path / "tuned")


@pytest.mark.slow
# On 4 of 200 images of 64 pixels a black box comes nearer than FAST's few gradients: FAST then goes on, and says so.
@pytest.mark.filterwarnings("ignore::saddlepoint.errors.MaskingWarning")
def test_adversarial_training_is_more_robust_than_standard_training(tmp_path):
    robust = {}
    for name in ("standard", "pgd-at", "fgsm-rs"):
        trained = sp.train(None, "digits", name, out=tmp_path / name)
        data = sp.load_dataset("digits", classifier=trained.classifier).select(limit=200)
        samples = [data.read(i) for i in range(len(data))]
        x, y = torch.stack([s.x for s in samples]), torch.tensor([s.y for s in samples])
        robust[name] = int((~sp.attack(trained.classifier, x, y, sp.Linf(0.1), sp.FAST).success).sum())
    assert robust["pgd-at"] > robust["standard"] + 60
    assert robust["fgsm-rs"] > robust["standard"] + 60


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    flags = ["train", "--data", "digits", "--recipe", "pgd-at", "--epochs", "2", "--set", "batch_size=128", "--set"]
    flags += ["validation=0", "--set", "optimiser=sgd", "--set", "lr=0.05", "--device", "cpu"]
    assert main([*flags, "--out", str(tmp_path / "one")]) == 0
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "saddlepoint.cli.main"]
    subprocess.run([*torchrun, *flags, "--out", str(tmp_path / "two")], check=True, capture_output=True, timeout=300)
    one, two = (_weights(tmp_path / kind) for kind in ("one", "two"))
    for name, value in one.items():
        assert torch.allclose(value, two[name], atol=2e-3), name


def test_tensorboard_gets_each_epoch_or_one_line(tmp_path, monkeypatch, capsys):
    where = ["--data", "digits", "--recipe", "standard", "--epochs", "2", "--out", str(tmp_path / "model")]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert main(["train", *where, "--tensorboard", str(tmp_path / "log")]) == 2
    assert "pip install tensorboard" in capsys.readouterr().err
    written = []

    class SummaryWriter:
        def __init__(self, folder):
            written.append(folder)

        def add_scalar(self, name, value, step):
            written.append((name, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=SummaryWriter))
    assert main(["train", *where, "--tensorboard", str(tmp_path / "log")]) == 0
    assert {("loss", 1), ("loss", 2)} <= set(written[1:-1])
    assert written[-1] == "closed"


def test_of_several_processes_one_speaks(tmp_path, monkeypatch, capsys):
    from saddlepoint.cli.train import run as training

    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(training, "train", lambda *_, **__: types.SimpleNamespace())
    where = ["--data", "digits", "--recipe", "standard", "--out", str(tmp_path)]
    assert main(["train", *where, "--json"]) == 0
    assert capsys.readouterr().out == ""


def test_a_mixed_step_trains_as_well(tmp_path):
    recipe = load_recipe("standard", "digits", {"epochs": 8, "mixed": True})
    assert train(None, "digits", recipe, out=tmp_path).accuracies["validation_clean"] > 0.8
