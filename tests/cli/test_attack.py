import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from saddlepoint.cli.main import main
from saddlepoint.data import pixels, preprocess, read_image
from saddlepoint.geometry import L1, L2, Linf

TOP = ["model", "norm", "eps", "attack", "seed", "box", "seconds", "findings", "images"]
IMAGE = ["image", "clean", "adversarial", "written", "success", "perturbation", "trace"]
IMAGE += ["forwards", "backwards", "files", "error"]
FIELDS = {
    "clean": ["label", "name", "probability", "loss"],
    "adversarial": ["label", "name", "probability", "true_class_probability", "loss"],
    "written": ["label", "name", "probability", "true_class_probability", "success"],
    "perturbation": ["linf", "l2", "l1"],
    "files": ["adversarial", "perturbation", "figure"],
}


def crop_of(path, model):
    return preprocess(read_image(path), model.classifier.preprocessing)


def test_the_object_has_exactly_these_fields(attack, photo, tiny_model, tmp_path):
    code, found, err = attack(photo(), "--eps", "0.3", "--steps", 12)
    assert (code, err) == (0, "")
    assert list(found) == TOP
    assert {key: found[key] for key in TOP[:6]} == {
        "model": "efficientnet-lite0",
        "norm": "linf",
        "eps": 0.3,
        "attack": "pgd",
        "seed": 0,
        "box": "pixel",
    }
    (image,) = found["images"]
    assert list(image) == IMAGE
    assert {key: list(image[key]) for key in FIELDS} == FIELDS
    assert [point["step"] for point in image["trace"]] == list(range(13))
    assert image["error"] is None
    assert image["image"] == str(tmp_path / "red.png")
    assert image["files"] == {kind: str(tmp_path / "out" / f"red.{kind}.png") for kind in FIELDS["files"]}


@pytest.mark.parametrize(("norm", "ball", "eps"), [("linf", Linf, 0.25), ("l2", L2, 3.0), ("l1", L1, 40.0)])
@pytest.mark.parametrize("method", ["pgd", "fgsm", "sgd"])
def test_what_is_reported_is_what_was_written(attack, photo, tiny_model, norm, ball, eps, method):
    code, found, _ = attack(photo(), "--norm", norm, "--eps", eps, "--attack", method)
    (image,) = found["images"]
    clean = crop_of(image["image"], tiny_model)
    with Image.open(image["files"]["adversarial"]) as file:
        written = torch.from_numpy(np.array(file)).permute(2, 0, 1)
    n = (written.double() - clean.double())[None]
    assert float(ball(1.0).norm(n / 255)) <= eps
    assert image["perturbation"][norm] <= eps
    probability = tiny_model.classifier.predict(pixels(written)[None]).logits.softmax(1)[0]
    truth = image["clean"]["label"]
    assert image["written"]["label"] == int(probability.argmax())
    assert image["written"]["success"] == (image["written"]["label"] != truth)
    assert image["written"]["probability"] == pytest.approx(float(probability.max()), rel=1e-4)
    assert image["written"]["true_class_probability"] == pytest.approx(float(probability[truth]), rel=1e-3)
    assert image["success"] == (image["adversarial"]["label"] != truth)
    assert image["adversarial"]["loss"] == pytest.approx(-np.log(image["adversarial"]["true_class_probability"]))
    assert image["clean"]["loss"] == pytest.approx(-np.log(image["clean"]["probability"]))
    assert code == 0
    assert image["adversarial"]["loss"] > image["clean"]["loss"]
    assert image["backwards"] >= 1


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.5), ("l1", 12.0)])
def test_default_radii(attack, photo, tiny_model, norm, eps):
    """The tiny model takes 6 × 6 pixels; `saddlepoint.cli.radii` has the table."""
    assert attack(photo(), "--norm", norm, "--attack", "fgsm")[1]["eps"] == eps


def test_the_lessons_loop_without_a_box(attack, photo, tiny_model):
    """sgd from zero on the raw float32 pixels, clamped to the ball alone, has the losses of a plain loop."""
    path = photo(colour=(250, 5, 250))
    (image,) = attack(path, "--attack", "sgd", "--lr", "0.05", "--steps", 6, "--eps", "0.1", "--box", "none")[1][
        "images"
    ]
    x, classifier = pixels(crop_of(path, tiny_model))[None], tiny_model.classifier
    delta, label = torch.zeros_like(x, requires_grad=True), torch.tensor([image["clean"]["label"]])
    losses = []
    for _ in range(7):
        loss = torch.nn.functional.cross_entropy(classifier(x + delta), label)
        losses.append(loss.item())
        (gradient,) = torch.autograd.grad(loss, delta)
        delta = (delta + 0.05 * gradient).clamp(-0.1, 0.1).detach().requires_grad_()
    assert [point["loss"] for point in image["trace"]] == pytest.approx(losses, rel=1e-4)
    assert image["error"] is None


def test_a_target_is_hit_and_success_means_just_that(attack, photo, tiny_model):
    arguments = (photo(), "--target", "Sea", "--attack", "sgd", "--lr", "0.5", "--steps", 40)
    (image,) = attack(*arguments, "--eps", "0.6")[1]["images"]
    assert (image["adversarial"]["name"], image["success"], image["written"]["success"]) == ("sea", True, True)
    (image,) = attack(*arguments, "--eps", "0.001")[1]["images"]
    assert (image["success"], image["written"]["success"]) == (False, False)
    difference = image["trace"][0]["loss"]
    assert difference < 0


def test_a_given_label_that_is_not_predicted_is_wrong_from_the_start(attack, photo, tiny_model):
    (image,) = attack(photo(), "--label", "leaf", "--eps", "0")[1]["images"]
    assert image["clean"]["name"] != "leaf"
    assert image["success"]
    assert image["written"]["success"]
    assert image["perturbation"] == {"linf": 0, "l2": 0, "l1": 0}


def test_signs_of_masked_gradients_are_told(attack, photo, tiny_model, monkeypatch):
    import saddlepoint.models
    from saddlepoint.classifier import Classifier

    class Rounded(torch.nn.Module):
        def forward(self, x):
            return (x * 2).round() / 2

    twin = tiny_model.classifier
    masked = Classifier(torch.nn.Sequential(Rounded(), twin), names=twin.names, preprocessing=twin.preprocessing)
    monkeypatch.setattr(saddlepoint.models, "load_classifier", lambda *_, **__: masked)
    code, found, err = attack(photo(), "--eps", "1/255", "--steps", 5)
    assert code == 0
    assert not found["images"][0]["success"]
    assert [text.split(":")[0] for text in found["findings"]] == ["zero gradient"]
    assert err == f"saddlepoint: {found['findings'][0]}\n"
    assert attack(photo(), "--eps", "1/255", "--steps", 5, "--strict")[0] == 1


def test_the_text_says_what_was_wrong_from_the_start(photo, tiny_model, tmp_path, capsys):
    assert main(["attack", photo(), "--label", "leaf", "--stop", "fooled", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "red.png  misclassified: crimson, not leaf" in out
    assert "no step was needed" in out


def test_a_trace_goes_on_where_low_precision_gave_way_to_float32(attack, photo, tiny_model):
    (image,) = attack(photo(), "--precision", "bf16", "--steps", 10, "--eps", "0.0005")[1]["images"]
    assert not image["success"]
    assert [point["step"] for point in image["trace"]] == list(range(12))


def test_images_that_fail_do_not_stop_the_others(attack, photo, tiny_model, tmp_path):
    (tmp_path / "broken.jpg").write_text("no picture")
    code, found, err = attack(photo("a.png"), tmp_path / "broken.jpg", photo("b.png", (20, 200, 30)), tmp_path / "none")
    assert code == 2
    assert [image["error"] is None for image in found["images"]] == [True, False, True, False]
    failed = found["images"][1]
    assert list(failed) == IMAGE
    assert {key for key, value in failed.items() if value is not None} == {"image", "error"}
    assert [line.partition(" '")[0] for line in err.splitlines()] == ["saddlepoint: cannot read image"] * 2
    assert failed["image"] == str(tmp_path / "broken.jpg")


def test_a_target_that_is_already_predicted_is_an_error_of_that_image(attack, photo, tiny_model):
    code, found, err = attack(photo("a.png"), photo("b.png", (20, 200, 30)), "--target", "leaf", "--eps", "0.01")
    assert code == 2
    assert [image["error"] is None for image in found["images"]] == [True, False]
    assert "already predicts the target 'leaf'; expected another class" in err


def test_images_of_different_shapes_are_attacked_in_their_groups(attack, photo, tiny_model):
    paths = [photo("a.png", size=(20, 16)), photo("b.png", size=(16, 20)), photo("c.png", (9, 90, 200), (40, 32))]
    _, found, _ = attack(*paths, "--resize", 8, "--eps", "0.1", "--steps", 3)
    sizes = []
    for image in found["images"]:
        with Image.open(image["files"]["adversarial"]) as file:
            sizes.append(file.size)
    assert sizes == [(10, 8), (8, 10), (10, 8)]
    assert [Path(image["image"]).name for image in found["images"]] == ["a.png", "b.png", "c.png"]


def test_a_photograph_is_attacked_alike_wherever_it_lies_and_whoever_stands_beside(attack, photo, tiny_model):
    flags = ("--eps", "0.1", "--steps", 5, "--batch-size", 2)
    _, one, _ = attack(photo("a.png"), photo("b.png", (20, 200, 30)), *flags)
    _, two, _ = attack(photo("c.png", (9, 90, 200)), photo("d.png", (20, 200, 30)), photo("elsewhere/e.png"), *flags)
    alike = ("clean", "adversarial", "written", "perturbation", "trace")
    for first, second in ((one["images"][0], two["images"][2]), (one["images"][1], two["images"][1])):
        assert [first[key] for key in alike] == [second[key] for key in alike]


def test_the_seed_moves_the_start(attack, photo, tiny_model):
    traces = [attack(photo(), "--seed", seed, "--steps", 2)[1]["images"][0]["trace"] for seed in (0, 0, 1)]
    assert traces[0] == traces[1] != traces[2]


def test_equal_names_and_given_images_are_never_overwritten(attack, photo, tiny_model, tmp_path):
    given = photo("out/red.adversarial.png")
    before = Path(given).read_bytes()
    _, found, _ = attack(photo("red.png"), photo("other/red.png", (20, 200, 30)), given, "--attack", "fgsm")
    files = [path for image in found["images"] for path in image["files"].values()]
    assert len(set(files)) == 9
    assert Path(given).read_bytes() == before
    assert found["images"][1]["files"]["figure"] == str(tmp_path / "out" / "red-3.figure.png")


def test_the_same_image_twice(attack, photo, tiny_model):
    code, found, _ = attack(photo(), photo(), "--attack", "fgsm")
    assert code == 0
    assert len(found["images"]) == 2


def test_restarts_show_the_run_that_found_the_point(attack, photo, tiny_model):
    (image,) = attack(photo(), "--restarts", 3, "--steps", 4, "--eps", "0.05")[1]["images"]
    assert [point["step"] for point in image["trace"]] == list(range(5))
    assert image["backwards"] >= 12


def test_references_and_weights_reach_the_loader(attack, photo, tiny_model):
    attack(photo(), "--model", "torchvision:resnet50", "--weights", "w.pth", "--device", "cpu", "--attack", "fgsm")
    assert tiny_model.asked == [("torchvision:resnet50", "w.pth", "cpu")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["--attack", "fgsm", "--restarts", "2"],
            "--restarts 2: fgsm has no such setting; expected --attack pgd or ",
        ),
        (
            ["--attack", "sgd", "--restarts", "2"],
            "--restarts 2: sgd has no such setting; expected --attack pgd or ",
        ),
        (
            ["--attack", "fgsm", "--lr", "1/255"],
            "--step-size 1/255: fgsm has no such setting; expected --attack pgd or sgd",
        ),
        (
            ["--attack", "fgsm", "--steps", "3"],
            "--steps 3: fgsm has no such setting; expected --attack pgd or mi-fgsm or sgd or ",
        ),
        (["--attack", "fast", "--steps", "3"], "--steps 3: fast has no such setting; expected --attack pgd or "),
        (["--attack", "rand"], "--attack rand is a suite, for data sets; expected --data, or one attack"),
        (["--eps", "8"], "--eps is 8; expected at most 1, pixels being in [0, 1]: did you mean 8/255?"),
        (
            ["--label", "leaves"],
            "no class is called 'leaves' in efficientnet-lite0: expected a name or an index; did you",
        ),
        (["--label", "crane"], "class 'crane' is ambiguous; expected one of the indices 4, 5"),
        (["--label", "6"], "class 6 does not exist; efficientnet-lite0 has classes 0 to 5"),
        (["--label", "1", "--target", "leaf"], "--label and --target are both 'leaf'; expected two classes"),
    ],
)
def test_what_does_not_go_together_is_one_line(attack, photo, tiny_model, arguments, said):
    code, found, err = attack(photo(), *arguments)
    assert (code, found) == (2, None)
    assert said in err
    assert err.count("\n") == 1


def test_an_unknown_model_is_one_line(attack, photo):
    code, found, err = attack(photo(), "--model", "resnet50")
    assert (code, found) == (2, None)
    assert err.startswith("saddlepoint: unknown model 'resnet50': expected efficientnet-lite0, torchvision:NAME, ")
    assert err.endswith("; did you mean 'torchvision:resnet50'?\n")
    assert err.count("\n") == 1


def test_a_folder_that_cannot_be_made_is_found_before_the_work(photo, tiny_model, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["attack", photo(), "--out", str(tmp_path / "file" / "out")]) == 2
    assert "cannot create folder" in capsys.readouterr().err
    assert tiny_model.asked == []


def test_a_shape_that_the_model_cannot_take_is_an_error_of_those_images(attack, photo, tiny_model, monkeypatch):
    import saddlepoint.models

    def picky(*_, **__):
        classifier = tiny_model.classifier
        classifier.module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 6))
        return classifier

    monkeypatch.setattr(saddlepoint.models, "load_classifier", picky)
    code, found, err = attack(photo("a.png"), photo("b.png", size=(16, 16)), "--resize", 8, "--attack", "fgsm")
    assert code == 2
    assert [image["error"] is None for image in found["images"]] == [False, True]
    assert "efficientnet-lite0 cannot take images of 8 × 10 pixels (" in err


def test_running_out_of_memory_is_one_line(attack, photo, tiny_model, monkeypatch):
    def burst(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("saddlepoint.cli.attack.search.attack", burst)
    code, _, err = attack(photo())
    assert code == 2
    assert err == "saddlepoint: out of memory; expected smaller batches: pass a smaller --batch-size, or fewer images\n"


def test_text_for_people(photo, tiny_model, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["attack", photo(), "--eps", "3/10", "--steps", "12", "--out", "pictures"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for said in (
        "efficientnet-lite0 · pgd, 12 steps · ‖δ‖∞ ≤ 3/10 · pixels in [0, 1] · seed 0",
        "red.png  broken: crimson → ",
        "p(true class)",
        "cross-entropy of crimson",
        "as 8-bit PNG",
        "pictures/red.figure.png",
        "1 of 1 broken · 1 as written in 8 bits · ",
    ):
        assert said in out
    assert max(map(len, out.splitlines())) <= 100
    assert not any(line.endswith(" ") for line in out.splitlines())


def test_a_name_cannot_steer_the_terminal(photo, tiny_model, capsys, tmp_path):
    assert main(["attack", photo("\x1b[31m[bold]x.png"), "--attack", "fgsm", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\\x1b[31m[bold]x.png" in out


def test_json_is_all_there_is_on_standard_output(photo, tiny_model, tmp_path, capfd):
    assert main(["attack", photo(), "--json", "--attack", "fgsm", "--out", str(tmp_path)]) == 0
    json.loads(capfd.readouterr().out)
