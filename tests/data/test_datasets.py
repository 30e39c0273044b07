"""Data sets: what was written is read back, subsets are nested, and damaged bytes are one line."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torch import nn

import saddlepoint as sp
from saddlepoint.classifier import Preprocessing
from saddlepoint.data.datasets import Dataset, arrays, load_dataset
from saddlepoint.errors import InputError
from saddlepoint.models.robustbench import CIFAR10
from saddlepoint.models.zoo import imagenet_names

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, images, labels, packed, joint="-", split="t10k"):
    folder.mkdir(exist_ok=True, parents=True)
    for kind, content in ((f"images{joint}idx3", images), (f"labels{joint}idx1", labels)):
        data = idx(content)
        name = f"{split}-{kind}-ubyte" + (".gz" if packed else "")
        (folder / name).write_bytes(gzip.compress(data) if packed else data)


def write_cifar(folder, form, images, labels):
    flat = images.reshape(len(images), -1)
    if form == "binary":
        (folder / "test_batch.bin").write_bytes(np.hstack([labels[:, None].astype(np.uint8), flat]).tobytes())
    elif form == "python":
        inner = folder / "cifar-10-batches-py"
        inner.mkdir(exist_ok=True)
        content = {b"data": flat, b"labels": labels.tolist(), b"batch_label": b"testing", b"filenames": [b"a.png"]}
        (inner / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    else:
        np.savez_compressed(folder / "test.npz", x=images, y=labels)


def everything(data):
    samples = [data.read(index) for index in range(len(data))]
    assert [sample.id for sample in samples] == list(data.ids)
    assert len(set(data.ids)) == len(data)
    assert all(sample.x.dtype == torch.float32 and sample.x.is_contiguous() for sample in samples)
    return torch.stack([sample.x for sample in samples]), [sample.y for sample in samples]


def same(data, images, labels):
    x, y = everything(data)
    assert torch.equal(x, torch.from_numpy(np.ascontiguousarray(images)).float() / 255)
    assert y == labels.tolist()


counts = st.integers(1, 5)
grey = counts.flatmap(lambda n: hnp.arrays(np.uint8, (n, 4, 3)))
colour = counts.flatmap(lambda n: hnp.arrays(np.uint8, (n, 3, 32, 32), elements=st.sampled_from([0, 1, 128, 255])))


@QUICK
@given(grey, st.booleans(), st.sampled_from("-."), st.sampled_from([("t10k", ""), ("train", ":train")]))
@pytest.mark.parametrize("kind", ["mnist", "fashion-mnist"])
@pytest.mark.parametrize("inside", [".", "raw"])
def test_idx_files_are_read_back(tmp_path_factory, kind, inside, images, packed, joint, split):
    folder = tmp_path_factory.mktemp("mnist")
    labels = np.arange(len(images), dtype=np.uint8)
    write_mnist(folder / inside, images, labels, packed, joint, split[0])
    same(load_dataset(f"{kind}:{folder}{split[1]}"), images[:, None], labels)


@QUICK
@given(colour)
@pytest.mark.parametrize("form", ["binary", "python", "npz"])
def test_every_form_of_cifar10_is_read_back(tmp_path_factory, form, images):
    folder, labels = tmp_path_factory.mktemp("cifar"), np.arange(len(images)) % 10
    write_cifar(folder, form, images, labels)
    same(load_dataset(f"cifar10:{folder}"), images, labels)


@QUICK
@given(colour, st.sampled_from(arrays.IMAGES), st.sampled_from(arrays.LABELS), st.booleans(), st.booleans())
def test_npz_files_are_read_back(tmp_path_factory, images, x, y, last, floats):
    labels, path = np.arange(len(images)), tmp_path_factory.mktemp("npz") / "a.npz"
    stored = images.transpose(0, 2, 3, 1) if last else images
    np.savez(path, **{x: (stored / 255).astype(np.float32) if floats else stored, y: labels[:, None]})
    for reference in (f"npz:{path}", str(path)):
        found, got = everything(load_dataset(reference))
        assert torch.allclose(found, torch.from_numpy(images).float() / 255, atol=1e-7)
        assert got == labels.tolist()


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_digits_need_no_file(digits):
    x, y = everything(digits)
    assert x.shape == (1797, 1, 8, 8)
    assert (x.min(), x.max()) == (0, 1)
    assert np.bincount(y).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


@QUICK
@given(st.integers(0, 3), st.integers(0, 1797), st.integers(0, 1797))
def test_samples_are_nested_and_in_order(digits, seed, one, other):
    less, more = sorted((one, other))
    small, large = digits.select(limit=less, seed=seed), digits.select(limit=more, seed=seed)
    assert set(small.ids) <= set(large.ids)
    assert list(large.ids) == sorted(large.ids)
    assert len(large) == more
    assert list(digits.select(first=less).ids) == list(digits.ids)[:less]
    if less:
        sample = small.read(less // 2)
        whole = digits.read(digits.ids.index(sample.id))
        assert (sample.digest, sample.y) == (whole.digest, whole.y)
        assert torch.equal(sample.x, whole.x)


def test_a_sample_has_no_favourites(digits):
    taken = np.zeros(len(digits))
    for seed in range(60):
        taken[[digits.ids.index(identity) for identity in digits.select(limit=600, seed=seed).ids]] += 1
    halves = taken[:900].mean(), taken[900:].mean()
    assert abs(halves[0] - halves[1]) < 1
    assert taken.std() < 1.3 * np.sqrt(60 * (1 / 3) * (2 / 3))


def test_a_digest_is_of_the_content(tmp_path):
    images = np.zeros((3, 4, 4), np.uint8)
    images[1, 0, 0] = 1
    np.savez(tmp_path / "a.npz", x=images, y=np.array([0, 0, 1]))
    data = load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert len({data.read(index).digest for index in range(3)}) == 3
    assert data.read(0).digest == data.select(first=1).read(0).digest


def classifier(names, channels=3, **recipe):
    module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, len(names)))
    return sp.Classifier(module, mean=[0.5] * channels, names=names, preprocessing=Preprocessing(**recipe))


def write_images(folder, names, size=(6, 5)):
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        Image.new("RGB", size, (number, 7, 9)).save(folder / name / f"{number}.png")


IMAGENET = tuple(imagenet_names())
FOLDERS = {
    "indices": (["3", "0", "11"], IMAGENET, [0, 11, 3]),
    "names": (["Siamese_cat", "hog"], ("hog", "bee", "siamese cat"), [2, 0]),
    "WordNet ids": (["n02395406", "n01440764"], IMAGENET, [0, 341]),
}


@pytest.mark.parametrize("form", FOLDERS)
def test_class_folders_are_the_classes_of_the_model(tmp_path, form):
    folders, names, expected = FOLDERS[form]
    write_images(tmp_path, folders)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / folders[0] / "notes.txt").touch()
    for reference in (f"imagefolder:{tmp_path}", str(tmp_path)):
        data = load_dataset(reference, classifier=classifier(names, resize=4, crop=4))
        x, y = everything(data)
        assert y == expected
        assert x.shape == (len(folders), 3, 4, 4)
        assert [Path(identity).parent.name for identity in data.ids] == sorted(folders)


def test_without_names_folders_are_in_their_order(tmp_path):
    write_images(tmp_path, ["b", "a", "c"])
    x, y = everything(load_dataset(f"imagefolder:{tmp_path}"))
    assert y == [0, 1, 2]
    assert x.shape == (3, 3, 5, 6)


def test_a_grey_model_sees_grey(tmp_path):
    write_images(tmp_path, ["0"])
    grey = sp.Classifier(nn.Sequential(nn.Conv2d(1, 2, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    x = load_dataset(f"imagefolder:{tmp_path}", classifier=grey).read(0).x
    assert x.shape == (1, 5, 6)
    assert set((x * 255).round().flatten().tolist()) == {round(0.587 * 7 + 0.114 * 9)}


def test_a_dense_grey_model_sees_grey(tmp_path):
    write_images(tmp_path, ["0"])
    dense = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(30, 2)), mean=0.5)
    assert load_dataset(f"imagefolder:{tmp_path}", classifier=dense).read(0).x.shape == (1, 5, 6)


def labels(folder, names, count=None):
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, count or len(names)))
    return load_dataset(f"imagefolder:{folder}", classifier=sp.Classifier(model, names=names)).labels


def test_wordnet_folders_are_the_models_own_classes_first(tmp_path):
    write_images(tmp_path, ["n01440764", "n02395406"])
    assert labels(tmp_path, ("n02395406", "n00000001", "n01440764")) == [2, 0]
    assert labels(tmp_path, None, 2) == [0, 1], "in their order, where there are as many"
    assert labels(tmp_path, None, 1000) == [0, 341]
    with pytest.raises(InputError, match="'n01440764' of the data is no class of the model"):
        labels(tmp_path, tuple(f"class {index}" for index in range(1000)))
    with pytest.raises(InputError, match="2 class folders, and the model has 3 classes without names; expected as"):
        labels(tmp_path, None, 3)


def test_folders_by_index_that_the_model_does_not_have(tmp_path):
    write_images(tmp_path, ["0", "7"])
    with pytest.raises(InputError, match="class 7 does not exist; .* has classes 0 to 6"):
        labels(tmp_path, None, 7)


@pytest.mark.parametrize("suffix", ["pgm", "pbm", "pnm", "jfif", "j2k", "tga", "PNG"])
def test_every_image_that_can_be_read_is_listed(tmp_path, suffix):
    write_images(tmp_path, ["a", "b"])
    (tmp_path / "a" / "0.png").unlink()
    Image.new("L", (4, 4)).save(tmp_path / "a" / f"x.{suffix}", format={"pnm": "PPM", "jfif": "JPEG"}.get(suffix))
    data = load_dataset(f"imagefolder:{tmp_path}")
    assert data.labels == [0, 1]
    assert data.read(0).x.shape == (3, 4, 4)


def test_a_class_folder_without_images_is_named(tmp_path):
    write_images(tmp_path, ["a", "b"])
    (tmp_path / "a" / "0.png").rename(tmp_path / "a" / "0.txt")
    with pytest.raises(InputError, match="the class folder '.*/a' holds no image; expected one at least"):
        load_dataset(f"imagefolder:{tmp_path}")


def test_cifar10_is_for_models_of_its_classes(tmp_path):
    write_cifar(tmp_path, "binary", np.zeros((2, 3, 32, 32), np.uint8), np.array([3, 0]))
    for names, expected in ((None, [3, 0]), (CIFAR10, [3, 0]), (CIFAR10[::-1], [6, 9])):
        model = sp.Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 10)), names=names)
        assert load_dataset(f"cifar10:{tmp_path}", classifier=model).labels[:2] == expected
    with pytest.raises(InputError, match="'airplane' of the data is no class of the model"):
        load_dataset(f"cifar10:{tmp_path}", classifier=classifier(IMAGENET))
    model = sp.Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 1000)))
    with pytest.raises(InputError, match="10 classes .airplane, automobile, bird, ….*the model has 1000 others"):
        load_dataset(f"cifar10:{tmp_path}", classifier=model)


def test_two_examples_of_one_id_are_refused():
    with pytest.raises(InputError, match="two examples of mine have the id 'a'; expected different names: rename one"):
        Dataset("mine", ["a", "b", "a"], lambda _: np.zeros((1, 2, 2), np.uint8), range(3), [0, 0, 0])


def test_a_data_set_without_examples_is_refused(tmp_path):
    write_mnist(tmp_path, np.zeros((0, 4, 4), np.uint8), np.zeros(0, np.uint8), packed=False)
    with pytest.raises(InputError, match="holds no example; expected at least one"):
        load_dataset(f"mnist:{tmp_path}")


def test_a_split_is_never_taken_for_another(tmp_path):
    np.savez(tmp_path / "train.npz", x=np.zeros((2, 3, 32, 32), np.uint8), y=np.arange(2))
    with pytest.raises(InputError, match="has none of the files"):
        load_dataset(f"cifar10:{tmp_path}")
    assert load_dataset(f"cifar10:{tmp_path}:train").ids == ["train/00000", "train/00001"]


@pytest.mark.skipif(not hasattr(os, "fsdecode") or os.name != "posix", reason="names are bytes on POSIX alone")
def test_a_name_in_another_encoding_has_an_identity(tmp_path):
    write_images(tmp_path, ["0"])
    (tmp_path / "0" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path / "0") + b"/caf\xe9.png"))
    (identity,) = load_dataset(f"imagefolder:{tmp_path}").ids
    assert identity == "0/caf\\xe9.png"
    write_images(tmp_path, ["1"])
    (tmp_path / "1" / "0.png").rename(tmp_path / "0" / "caf\\xe9.png")
    (tmp_path / "1").rmdir()
    assert sorted(load_dataset(f"imagefolder:{tmp_path}").ids) == ["0/caf\\\\xe9.png", "0/caf\\xe9.png"]


def test_a_broken_image_is_an_error_of_its_own(tmp_path):
    write_images(tmp_path, ["0", "1"])
    (tmp_path / "0" / "0.png").write_bytes(b"\x89PNG")
    data = load_dataset(f"imagefolder:{tmp_path}")
    with pytest.raises(InputError, match="cannot read image .*0.png"):
        data.read(0)
    assert data.read(1).y == 1


def test_the_hub_is_read_as_its_own_library_reads_it(tmp_path):
    import datasets

    images = [Image.new("L", (5, 4), value) for value in (0, 100, 255)]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 0]}, features=features)
    table.save_to_disk(tmp_path / "saved")
    x, y = everything(load_dataset(f"hf:{tmp_path / 'saved'}"))
    assert y == [0, 1, 0]
    assert (x[:, 0, 0, 0] * 255).round().tolist() == [0, 100, 255]


def test_a_table_of_the_hub_has_what_is_asked_of_it(tmp_path):
    import datasets

    images = [Image.new("L", (5, 4), value) for value in (0, 100, 255)]
    for name, found in (("good", [0, 1, 0]), ("none", [0, -1, 0]), ("null", [0, None, 1])):
        datasets.Dataset.from_dict({"image": images, "label": found}).cast_column(
            "image", datasets.Image()
        ).save_to_disk(tmp_path / name)
    dense = sp.Classifier(nn.Sequential(nn.Flatten(), nn.Linear(20, 2)))
    assert load_dataset(f"hf:{tmp_path / 'good'}", classifier=dense).read(1).x.shape == (1, 4, 5)
    for reference, message in {
        "good:nosuch": "is a single table, without splits; expected hf:",
        "none": "has the label -1 at its example 1; .*name another split",
        "null": "are such as None; expected a column of class indices",
    }.items():
        with pytest.raises(InputError, match=message):
            load_dataset(f"hf:{tmp_path / reference}")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_runs_nothing(tmp_path):
    content = {b"data": np.zeros((1, 3072), np.uint8), b"labels": [0], b"x": Bomb(tmp_path / "ran")}
    (tmp_path / "test_batch").write_bytes(pickle.dumps(content))
    with pytest.raises(InputError, match="a pickle wants to run .*expected arrays alone"):
        load_dataset(f"cifar10:{tmp_path}")
    assert not (tmp_path / "ran").exists()


class Buffer:
    """NumPy's constructor over a buffer of "objects": with it a pickle would reach any memory."""

    def __reduce__(self):
        return np.ndarray, ((1,), "O", b"A" * 8)


class Objects:
    def __reduce__(self):
        rebuild, given, _ = np.zeros(1).__reduce__()
        return rebuild, given, (1, (1,), np.dtype(object), False, [3])


class Cast:
    """A type whose state turns it into another one."""

    def __reduce__(self):
        return np.dtype, ("u1", False, True), (3, "|", None, None, None, 8, 8, 63)


@pytest.mark.parametrize("data", [Buffer(), Objects(), np.ndarray, Cast(), np.zeros((1, 3072)), np.dtype])
def test_a_pickle_reaches_no_memory(tmp_path, data):
    (tmp_path / "test_batch").write_bytes(pickle.dumps({b"data": data, b"labels": [0]}, protocol=2))
    program = "import sys; from saddlepoint.data.datasets import load_dataset; load_dataset(f'cifar10:{sys.argv[1]}')"
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1, "an error of Python, no signal"
    assert "InputError: " in done.stderr.splitlines()[-1]


def test_a_pickle_changes_nothing_that_it_names(tmp_path):
    content = b"cnumpy\ndtype\n(N(S'_build'\nNdtb."  # the name, then setattr(name, "_build", None)
    (tmp_path / "test_batch").write_bytes(content)
    with pytest.raises(InputError, match="wants to change what it names"):
        load_dataset(f"cifar10:{tmp_path}")


def zipped(**parts):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(f"{name}.npy", content)
    return file.getvalue()


ZERO = np.zeros((2, 4, 3), np.uint8)
NPZ = {
    "holds a, b; expected one of x": {"a": ZERO, "b": ZERO},
    "2 images and 3 labels": {"x": ZERO, "y": np.arange(3)},
    "labels are float64": {"x": ZERO, "y": np.zeros(2)},
    "labels are int64 of shape \\(2, 2\\)": {"x": ZERO, "y": np.zeros((2, 2), int)},
    "images have shape \\(2,\\)": {"x": np.zeros(2), "y": np.arange(2)},
    "float64 from 0.0 to 9.0; expected uint8, or \\[0, 1\\]": {"x": ZERO + 9.0 * (np.arange(3) > 1), "y": np.arange(2)},
    "float64 from nan": {"x": ZERO * np.nan, "y": np.arange(2)},
    "labels are int64 .*expected class indices": {"x": ZERO, "y": np.array([-1, 0])},
    "Object arrays cannot be loaded": {"x": np.array([{}, {}]), "y": np.arange(2)},
}


@pytest.mark.parametrize("message", NPZ)
def test_wrong_arrays_are_one_line(tmp_path, message):
    np.savez(tmp_path / "a.npz", **NPZ[message], allow_pickle=True)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(f"npz:{tmp_path / 'a.npz'}")
    assert "\n" not in str(caught.value)


def test_a_header_that_promises_too_much_allocates_nothing(tmp_path):
    labels = np.zeros(1, np.uint8)
    write_mnist(tmp_path, np.zeros((1, 2, 2), np.uint8), labels, packed=False)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 2**31, 2**31, 2**31))
    with pytest.raises(InputError, match="promises .* and holds 0"):
        load_dataset(f"mnist:{tmp_path}")


def test_a_bomb_is_refused_before_it_unfolds(tmp_path, monkeypatch):
    monkeypatch.setattr(arrays, "_ROOM", 2**16)
    images, labels = np.zeros((100, 64, 64), np.uint8), np.zeros(100, np.uint8)
    np.savez_compressed(tmp_path / "a.npz", x=images, y=labels)
    write_mnist(tmp_path, images, labels, packed=True)
    for reference in (f"npz:{tmp_path / 'a.npz'}", f"mnist:{tmp_path}"):
        with pytest.raises(InputError, match="bytes of it unfold to .*store it uncompressed"):
            load_dataset(reference)


REFUSED = {
    "unknown data 'mnits:x'.*did you mean mnist:DIR": "mnits:x",
    "unknown data 'digits:3'": "digits:3",
    "unknown data 'mnist'": "mnist",
    "there is no folder 'none'": "mnist:none",
    "has none of the files t10k-images-idx3-ubyte": "mnist:.",
    "has none of the files test_batch.bin": "cifar10:.",
    "there is no file 'none.npz'": "npz:none.npz",
    "there is no folder 'none'; expected imagefolder:DIR": "imagefolder:none",
    "has no folders with images": "imagefolder:.",
}


@pytest.mark.parametrize("message", REFUSED)
def test_wrong_references_are_one_line(tmp_path, monkeypatch, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_dataset(REFUSED[message])
    assert "\n" not in str(caught.value)


def test_labels_and_folders_that_the_model_does_not_have(tmp_path, digits):
    with pytest.raises(InputError, match="the data have 10 classes .0, 1, 2, ….*and the model has 2 others"):
        load_dataset("digits", classifier=classifier(("a", "b"), channels=1))
    write_images(tmp_path, ["hogg"])
    with pytest.raises(InputError, match="the class 'hogg' of the data is no class of the model: .*did you mean 'hog'"):
        load_dataset(f"imagefolder:{tmp_path}", classifier=classifier(("hog", "bee")))
    with pytest.raises(InputError, match="limit is 3 and first is 4; expected one of them"):
        digits.select(limit=3, first=4)


def files():
    """Small whole files of every format, with how to open them."""
    images, labels = np.arange(24, dtype=np.uint8).reshape(2, 4, 3), np.arange(2, dtype=np.uint8)
    colours = np.zeros((2, 3072), np.uint8)
    npz = io.BytesIO()
    np.savez(npz, x=images, y=labels)
    return {
        "mnist": ("t10k-images-idx3-ubyte", idx(images)),
        "mnist ": ("t10k-images-idx3-ubyte.gz", gzip.compress(idx(images))),
        "cifar10": ("test_batch.bin", np.hstack([labels[:, None], colours]).tobytes()),
        "cifar10 ": ("test_batch", pickle.dumps({b"data": colours, b"labels": [0, 1]})),
        "npz": ("a.npz", npz.getvalue()),
    }


def refusal(action):
    """What InputError says of an action; nothing if it goes well, and whatever else it raises goes on."""
    try:
        action()
    except InputError as error:
        return str(error)
    return ""


@settings(max_examples=150, deadline=None)
@given(st.data())
@pytest.mark.parametrize("kind", files())
def test_damaged_bytes_are_one_line_or_other_pixels(tmp_path_factory, kind, data):
    name, whole = files()[kind]
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    for _ in range(data.draw(st.integers(0, 4))):
        if damaged:
            place = data.draw(st.one_of(st.integers(0, min(60, len(damaged) - 1)), st.integers(0, len(damaged) - 1)))
            damaged[place] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.arange(2, dtype=np.uint8)))
    (folder / name).write_bytes(damaged)
    place = folder / name if kind == "npz" else folder
    assert "\n" not in refusal(lambda: everything(load_dataset(f"{kind.strip()}:{place}")))


def test_an_archive_with_two_members_of_one_name_is_one_line(tmp_path):
    path = tmp_path / "twice.npz"
    np.savez(path, x=np.zeros((2, 8, 8), np.uint8), y=np.zeros(2, np.int64))
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("x", b"not an array")
    with pytest.raises(sp.InputError, match="two of its members have one name"):
        load_dataset(f"npz:{path}")
