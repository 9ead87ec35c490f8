"""What a sampler costs over the bare calls of its network.

    python -m benchmarks.sampler [--device cuda] [--samplers ancestral,ddim,dpm_solver]

writes its section of docs/performance.md. A U-Net of 0.7 million weights on 16×16 images, batch 256, 100 steps: seven
pairs for each sampler, the bare network calls and then the sampler; the median of the ratios. Ancestral sampling is
measured with a table of σ² and with a learned one, seven minutes of one core each, and is the most expensive: the
others add no noise. The numbers are processor seconds of one thread; on a GPU wall seconds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks._page import write_section
from ddpm_bench.datasets.fashion_mnist import FashionMnist
from ddpm_bench.diffusion.losses.hybrid import Hybrid
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.variances.learned_range import LearnedRange
from ddpm_bench.networks.unet import Unet
from ddpm_bench.registry import get
from ddpm_bench.spec import Reverse, Training, TrainingOptions
from ddpm_bench.stages._model import Model, build_network, sub_batch
from ddpm_bench.stages._sampling import ReverseChain

ROUNDS, BATCH, STEPS, SHAPE = 7, 256, 100, (1, 16, 16)
NETWORK = Unet(channels=26, channel_multipliers=(1, 2, 2), residual_blocks=1, attention_resolutions=(4,))


def make_model(device: str, timesteps: int, with_head: bool = False) -> Model:
    """The network with its initial weights, the output layer included (which training starts from zero)."""
    head = LearnedRange()
    options = {name: getattr(TrainingOptions(), name) for name in ("precision", "tf32")}
    training = Training(
        network=NETWORK, timesteps=timesteps, schedule=get("schedules", "linear")(),
        prediction=get("predictions", "epsilon")(), seed=0, options=options, learned_variance=with_head,
        loss=Hybrid(variance=head, first_step="beta_tilde_2") if with_head else Simple(),
    )  # fmt: skip
    module = build_network(training, FashionMnist(size=16), SHAPE, device).eval().requires_grad_(False)
    torch.nn.init.normal_(module.conv_out.weight, std=0.02, generator=None if device != "cpu" else _generator())
    return Model(module, training, training.schedule.process(timesteps), SHAPE, 256, device)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def make_chain(model: Model, sampler: str, variance: str) -> ReverseChain:
    """All steps of the chain, clipped."""
    return ReverseChain(
        model,
        Reverse(
            variance=get("variances", variance)(), first_step="beta_tilde_2", sampler=get("samplers", sampler)(),
            timesteps=None, thresholding="clip", weights="ema",
        ),
    )  # fmt: skip


def bare(model: Model) -> None:
    """The calls of the network that a sampler makes, and nothing else."""
    x = torch.randn(BATCH, *SHAPE, device=model.device)
    size = min(BATCH, sub_batch(SHAPE, model.device))
    parts = [x[start : start + size] for start in range(0, BATCH, size)]
    with torch.inference_mode():
        for i in range(STEPS):
            t = torch.full((size,), i, dtype=torch.int64, device=model.device)
            for part in parts:
                model.module(part, t)


def walk(chain: ReverseChain) -> None:
    """Draw the batch."""
    chain.walk(*chain.noise(torch.arange(BATCH, device=chain.model.device)))


def seconds(work: Callable[[], None], device: str) -> float:
    """Processor seconds on a CPU; wall seconds, until the device is idle, on a GPU."""
    if device == "cpu":
        started = time.process_time()
        work()
        return time.process_time() - started
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):+.1f} %"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--samplers", default="ancestral", help="registered names, with commas between them")
    arguments = parser.parse_args()
    device = arguments.device
    torch.set_num_threads(1)
    fixed, learned = make_model(device, STEPS), make_model(device, STEPS, with_head=True)
    weights = sum(parameter.numel() for parameter in fixed.module.parameters())
    runs = {(name, "beta"): (fixed, make_chain(fixed, name, "beta")) for name in arguments.samplers.split(",")}
    runs["ancestral", "learned_range"] = learned, make_chain(learned, "ancestral", "learned_range")
    bare(fixed)  # warm caches
    ratios: dict[tuple[str, str], list[float]] = {run: [] for run in runs}
    calls: list[float] = []
    for _ in range(ROUNDS):
        for run, (model, chain) in runs.items():
            alone = seconds(lambda model=model: bare(model), device)  # type: ignore[misc]
            ratios[run].append(seconds(lambda chain=chain: walk(chain), device) / alone)  # type: ignore[misc]
            calls.append(alone)
            print(run, f"{_percent(ratios[run][-1])}", flush=True)
    rows = [
        f"| {sampler} | {variance if get('samplers', sampler).uses_variance else '–'} | "
        f"{_percent(statistics.median(found))} | {_percent(min(found))} to {_percent(max(found))} |"
        for (sampler, variance), found in ratios.items()
    ]
    where = "one CPU thread" if device == "cpu" else torch.cuda.get_device_name()
    text = f"""
U-Net of {weights:,} weights, {SHAPE[1]}×{SHAPE[2]}, batch {BATCH}, {STEPS} steps, {where}:
{BATCH * STEPS / statistics.median(calls):,.0f} bare network calls (images × steps) a second. Over that, median and
range of {ROUNDS} alternating pairs, noise and update included:

| sampler | σ² | median | range |
| --- | --- | ---: | ---: |
{chr(10).join(rows)}
"""
    write_section("sampler", text)
    print("\n".join(rows))


if __name__ == "__main__":
    main()
