"""What one step of PGD costs, against the floor and the peers, as ratios in one run.

    python benchmarks/attack_speed.py [--model resnet50|efficientnet-lite0] [--batch 16] [--steps 4] [--allocator keep]

The floor is one forward and one backward to the input of the frozen, channels_last module in the same precision: no
attack that differentiates that module as it is can do with less. Each contender runs in a process of its own on the
same pixels and labels, with the normalisation inside the module and the parameters as a user has them. They take turns,
so that a machine that becomes slower becomes slower for all. A step is measured as (T(steps + 2) − T(2)) / steps, each
T the least of the turns: what else runs on a machine only ever adds. "PGD-40" adds what an attack does before and after
its steps. Memory is the peak of the process above what it held before its first attack.

By default the C library gives every large tensor back to the system and asks for a new one, whose pages are touched for
the first time: on a virtual machine that can cost as much as the arithmetic. `--allocator keep` tells it to keep freed
memory, for all contenders alike, so that the ratios are those of the work.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

EPS, ALPHA = 8 / 255, 2 / 255
PEERS = ("torchattacks", "foolbox", "art")
CONTENDERS = ("floor", "saddlepoint", "floor bf16", "saddlepoint bf16", *PEERS)

KEEP = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**36), "MALLOC_TOP_PAD_": str(2**28)}

Attack = Callable[[int], object]
"""Run this many steps of PGD on the batch."""


class Normalised(nn.Module):
    """The module with its normalisation inside, for those who cannot be told mean and std."""

    def __init__(self, module: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.module: nn.Module = module
        self.mean, self.std = mean, std

    def forward(self, x: Tensor) -> Tensor:
        """Return logits for pixels."""
        logits: Tensor = self.module((x - self.mean) / self.std)
        return logits


def build(name: str, batch: int) -> tuple[Normalised, Tensor, Tensor]:
    """Return a module in eval mode, pixels and labels."""
    torch.manual_seed(0)
    if name == "resnet50":
        from torchvision.models import resnet50

        module, mean, std = resnet50(weights=None), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    else:
        import saddlepoint as sp

        module, mean, std = sp.load_classifier(name).module, (0.5,) * 3, (0.5,) * 3
    wrapped = Normalised(module, torch.tensor(mean)[:, None, None], torch.tensor(std)[:, None, None]).eval()
    x = torch.rand(batch, 3, 224, 224)
    with torch.no_grad():
        return wrapped, x, wrapped(x).argmax(1)


def floor(model: Normalised, x: Tensor, y: Tensor, dtype: torch.dtype) -> Attack:
    """Return bare forward and backward passes of the frozen, channels_last module."""
    module = model.module.requires_grad_(False).to(dtype).to(memory_format=torch.channels_last)
    pixels = x.to(dtype=dtype, memory_format=torch.channels_last).requires_grad_()

    def run(steps: int) -> None:
        for _ in range(steps):
            loss = nn.functional.cross_entropy(module(pixels).float(), y, reduction="sum")
            torch.autograd.grad(loss, pixels)

    return run


def ours(model: Normalised, x: Tensor, y: Tensor, precision: str) -> Attack:
    """Return saddlepoint's PGD, all steps run."""
    import saddlepoint as sp

    classifier = sp.Classifier(model.module, mean=model.mean.flatten().tolist(), std=model.std.flatten().tolist())

    def run(steps: int) -> object:
        solver = sp.PGD(steps=steps, step_size=ALPHA)
        return sp.attack(classifier, x, y, sp.Linf(EPS), solver, stop="never", precision=precision)  # type: ignore[arg-type]

    return run


def torchattacks(model: nn.Module, x: Tensor, y: Tensor) -> Attack:
    """Return torchattacks' PGD."""
    import torchattacks

    return lambda steps: torchattacks.PGD(model, eps=EPS, alpha=ALPHA, steps=steps)(x, y)


def foolbox(model: nn.Module, x: Tensor, y: Tensor) -> Attack:
    """Return Foolbox's PGD."""
    from foolbox.attacks import LinfPGD
    from foolbox.models.pytorch import PyTorchModel

    wrapped = PyTorchModel(model, bounds=(0, 1))
    return lambda steps: LinfPGD(abs_stepsize=ALPHA, steps=steps)(wrapped, x, y, epsilons=EPS)


def art(model: nn.Module, x: Tensor, y: Tensor) -> Attack:
    """Return the PGD of the Adversarial Robustness Toolbox."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    wrapped = PyTorchClassifier(
        model, nn.CrossEntropyLoss(), input_shape=x.shape[1:], nb_classes=1000, clip_values=(0, 1)
    )
    pixels, labels = x.numpy(), y.numpy()

    def run(steps: int) -> object:
        options = {"eps": EPS, "eps_step": ALPHA, "max_iter": steps, "num_random_init": 1, "verbose": False}
        return ProjectedGradientDescentPyTorch(wrapped, batch_size=len(x), **options).generate(pixels, labels)

    return run


def prepare(contender: str, model: Normalised, x: Tensor, y: Tensor) -> Attack:
    """Return the attack of a contender."""
    name, _, precision = contender.partition(" ")
    if name == "floor":
        return floor(model, x, y, torch.bfloat16 if precision else torch.float32)
    if name == "saddlepoint":
        return ours(model, x, y, precision or "fp32")
    return {"torchattacks": torchattacks, "foolbox": foolbox, "art": art}[name](model, x, y)


def seconds(attack: Attack, steps: int) -> float:
    """Return the wall time of one attack."""
    start = time.perf_counter()
    attack(steps)
    return time.perf_counter() - start


def peak() -> float:
    """Return the largest memory that this process has held, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def serve(contender: str, model: str, batch: int) -> None:
    """Time attacks of as many steps as each line of the input asks for; answer with seconds and with MiB so far."""
    attack = prepare(contender, *build(model, batch))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20
    for line in sys.stdin:
        print(json.dumps([seconds(attack, int(line)), peak() - before]), flush=True)


class Contender:
    """A process that attacks when asked to."""

    def __init__(self, name: str, options: list[str], environment: dict[str, str]) -> None:
        self._name = name
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--only", name, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._ask(1)
        self.short: list[float] = []
        self.long: list[float] = []
        self.mebibytes = 0.0

    def turn(self, steps: int) -> None:
        """Take one measurement."""
        self.short.append(self._ask(2)[0])
        long, self.mebibytes = self._ask(steps + 2)
        self.long.append(long)

    def _ask(self, steps: int) -> tuple[float, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(steps, file=self._process.stdin, flush=True)
        for line in self._process.stdout:
            if line.startswith("["):
                time_, memory = json.loads(line)
                return time_, memory
        raise SystemExit(f"{self._name} ended with {self._process.wait()}")

    def result(self, steps: int) -> dict[str, float]:
        """Return seconds per step, seconds around the steps, and MiB."""
        step = (min(self.long) - min(self.short)) / steps
        around = max(min(self.short) - 2 * step, 0.0)
        return {"step": step, "around": around, "mebibytes": self.mebibytes}


def table(results: dict[str, dict[str, float]]) -> str:
    """Return the results as a Markdown table."""
    base = results["saddlepoint"]["step"]
    low = results["saddlepoint bf16"]["step"]
    lines = [
        "| one step of PGD | seconds | × floor | × Saddlepoint | × Saddlepoint bf16 | PGD-40, × 40 floors | MiB |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, result in results.items():
        bare = results["floor bf16" if name.endswith("bf16") else "floor"]["step"]
        whole = (40 * result["step"] + result["around"]) / (40 * bare)
        ratios = " | ".join(f"{result['step'] / other:.2f}" for other in (bare, base, low))
        lines.append(f"| {name} | {result['step']:.3f} | {ratios} | {whole:.2f} | {result['mebibytes']:.0f} |")
    return "\n".join(lines)


def main() -> None:
    """Run every contender in a process of its own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50", choices=("resnet50", "efficientnet-lite0"))
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--allocator", default="default", choices=("default", "keep"))
    parser.add_argument("--only", choices=CONTENDERS, help="be one contender, which reads numbers of steps")
    args = parser.parse_args()
    if args.only:
        serve(args.only, args.model, args.batch)
        return
    environment = {**os.environ, **(KEEP if args.allocator == "keep" else {})}
    contenders = {name: Contender(name, sys.argv[1:], environment) for name in CONTENDERS}
    for turn in range(args.repeats):
        for name, contender in contenders.items():
            contender.turn(args.steps)
            print(f"{turn + 1}/{args.repeats} {name}: {contender.long[-1]:.3f} s", file=sys.stderr)
    results = {name: contender.result(args.steps) for name, contender in contenders.items()}
    setting = f"batch {args.batch}, 224×224, allocator: {args.allocator}, {torch.get_num_threads()} threads"
    print(f"\n{args.model}, {setting}, torch {torch.__version__}")
    print(f"\n{table(results)}")


if __name__ == "__main__":
    main()
