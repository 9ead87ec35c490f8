"""How noisy is the gradient of L_vlb, and what does drawing t by the second moment of the losses do about it?

    python -m benchmarks.gradient_noise

trains a small U-Net on the digits with L_vlb (t drawn uniformly, and by the second moment), L_hybrid and L_simple,
measures the gradient noise scale on the way, and writes docs/gradient_noise.md and .svg. Six minutes on one core.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from matplotlib.lines import Line2D
from torch import Tensor, nn

from ddpm_bench.datasets import data_root
from ddpm_bench.datasets.digits import Digits
from ddpm_bench.diffusion.losses import Batch, Loss
from ddpm_bench.diffusion.losses.hybrid import Hybrid
from ddpm_bench.diffusion.losses.simple import Simple
from ddpm_bench.diffusion.losses.vlb import Vlb
from ddpm_bench.diffusion.predictions.epsilon import Epsilon
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.schedules.linear import Linear
from ddpm_bench.diffusion.time_sampling import LossSecondMoment, TimeSampler
from ddpm_bench.diffusion.variances.learned_range import LearnedRange
from ddpm_bench.networks import Problem
from ddpm_bench.networks.unet import Unet
from ddpm_bench.report.figures import export, legend, log_axis, new_figure, style
from ddpm_bench.report.figures.encoding import PALETTE
from ddpm_bench.report.words import mathtext
from ddpm_bench.stages._batches import Batches

DOCS = Path(__file__).resolve().parent.parent / "docs"
NETWORK = Unet(channels=16, channel_multipliers=(1, 2), residual_blocks=1, attention_resolutions=(4,))
TIMESTEPS, STEPS, EVERY, BATCH, LEARNING_RATE, WARMUP = 100, 1000, 50, 128, 2e-3, 50
NUM_BATCHES = 16
"""Batches whose gradients are compared at each state."""

VLB = Vlb(variance=LearnedRange(), first_step="beta_tilde_2")
UNIFORM, MOMENT = "L_vlb, t uniform", "L_vlb, t by second moment"
LOSSES: dict[str, Loss] = {
    UNIFORM: VLB,
    MOMENT: replace(VLB, time_sampling="loss_second_moment"),
    "L_hybrid": Hybrid(variance=LearnedRange(), first_step="beta_tilde_2"),
    "L_simple": Simple(),
}
LOOK = {name: (PALETTE[i], dash) for name, i, dash in zip(LOSSES, (0, 1, 2, 7), ("-", "-", "-", "--"), strict=True)}


@dataclass(frozen=True)
class Bench:
    """What all trainings share: levels [N, 1, 8, 8] and the process."""

    images: Tensor
    process: Process

    def mean(self, net: nn.Module, loss: Loss, values: Tensor, draws: tuple[Any, Any, Any]) -> tuple[Tensor, Tensor]:
        """(the weighted mean loss of a batch, the loss of each image without weight); draws: t, 1/(T p_t), ε."""
        t, weight, eps = draws
        x_0 = values / 8.0 - 1.0
        x_t = self.process.q_sample(x_0, t, eps)
        losses = loss.per_image(net(x_t, t), Batch(x_0, eps, x_t, t, values, 17), self.process, Epsilon())
        return (losses if weight is None else losses * weight).mean(), losses.detach()

    def noise(self, net: nn.Module, loss: Loss, sampler: TimeSampler) -> tuple[float, float]:
        """(tr Σ, |G|²): Σ is the covariance of one image's gradient, G its mean; both estimated without bias.

        Independent batches, images with replacement; the same images, ε and uniform numbers at every state.
        Source: McCandlish et al. 2018, An empirical model of large-batch training, appendix A.1.
        """
        generator, parameters = torch.Generator().manual_seed(1), list(net.parameters())
        gradients = []
        for _ in range(NUM_BATCHES):
            values = self.images[torch.randint(len(self.images), (BATCH,), generator=generator)]
            eps = torch.randn(values.shape, generator=generator)
            draws = (*sampler.sample(torch.rand(BATCH, dtype=torch.float64, generator=generator)), eps)
            parts = torch.autograd.grad(self.mean(net, loss, values, draws)[0], parameters)
            gradients.append(torch.cat([part.flatten() for part in parts]))
        found = torch.stack(gradients).double()
        spread = float((found - found.mean(0)).square().sum()) / (NUM_BATCHES - 1)  # tr Σ / batch
        return BATCH * spread, float(found.mean(0).square().sum()) - spread / NUM_BATCHES

    def network(self) -> nn.Module:
        """The network with its initial weights, the same for each training."""
        torch.manual_seed(0)
        return NETWORK.build(
            Problem(shape=(1, 8, 8), levels=17, outputs=2, process=self.process, prediction=Epsilon(), dataset=Digits())
        )

    def train(self, name: str) -> tuple[pd.DataFrame, list[float], Tensor]:
        """(rows of the table, the weighted mean loss of each step, p_t by the second moment at the end)."""
        loss, net = LOSSES[name], self.network()
        optimizer = torch.optim.Adam(net.parameters())
        batches, curve, rows = Batches(0, self.images, 17, BATCH, False), [], []
        drawing, moment = loss.time_sampler(TIMESTEPS), LossSecondMoment(TIMESTEPS)
        for step in range(1, STEPS + 1):
            values, _, unit, eps = batches.draw(step - 1, "cpu")
            t, weight = drawing.sample(unit)
            optimizer.zero_grad()
            mean, losses = self.mean(net, loss, values, (t, weight, eps))
            mean.backward()
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * min(1.0, step / WARMUP)
            optimizer.step()
            curve.append(float(mean.detach()))
            for sampler in (drawing, moment):
                sampler.update(t, losses)
            if step % EVERY == 0:
                measured = {name: drawing, **({MOMENT: moment} if name == UNIFORM else {})}
                for how, sampler in measured.items():
                    trace, square = self.noise(net, loss, sampler)
                    rows.append({"trained": name, "measured": how, "step": step, "trace": trace, "square": square})
        print(f"{name}: {STEPS} steps", flush=True)
        return pd.DataFrame(rows), curve, moment.probabilities()


def smooth(rows: pd.DataFrame) -> pd.Series:
    """tr Σ / |G|² by step, numerator and denominator each averaged over three neighbouring states."""
    averages = rows.set_index("step")[["trace", "square"]].rolling(3, center=True, min_periods=2).mean()
    return averages["trace"] / averages["square"]


def part(table: pd.DataFrame, trained: str, measured: str) -> pd.DataFrame:
    """The rows of one training, measured in one way."""
    return table[(table["trained"] == trained) & (table["measured"] == measured)]


def draw(table: pd.DataFrame, p: Tensor) -> str:
    """The figure as SVG."""
    with style():
        figure = new_figure(8.6, 3.0)
        scale, trace, share = figure.subplots(1, 3)
        for name, (colour, dash) in LOOK.items():
            rows = part(table, name, name)
            scale.plot(rows["step"], rows["trace"] / rows["square"], ".", color=colour, ms=3, alpha=0.45)
            scale.plot(smooth(rows), color=colour, ls=dash)
        for name in (UNIFORM, MOMENT):
            rows = part(table, UNIFORM, name)
            trace.plot(rows["step"], rows["trace"], color=LOOK[name][0], marker="o", ms=2.2)
        t = range(1, TIMESTEPS + 1)
        share.plot(t, [1 / TIMESTEPS] * TIMESTEPS, color=LOOK[UNIFORM][0])
        share.plot(t, p, color=LOOK[MOMENT][0])
        share.set_xscale("log")
        titles = ("noise scale B = tr Σ / |G|²", f"tr Σ at the states of {UNIFORM}", f"p_t after {STEPS} steps")
        for axes, title in zip((scale, trace, share), titles, strict=True):
            axes.set_yscale("log")
            axes.set_title(mathtext(title).replace("p_t", "$p_t$"))
            axes.set_xlabel("t" if axes is share else "step")
            values = [float(value) for line in axes.lines for value in line.get_ydata()]
            log_axis(axes.yaxis, min(values), max(values))
        log_axis(share.xaxis, 1, TIMESTEPS)
        legend(figure, [Line2D([], [], color=c, ls=dash, label=mathtext(name)) for name, (c, dash) in LOOK.items()])
        return export(figure)[0]


def page(table: pd.DataFrame, curves: dict[str, list[float]], p: Tensor, num_images: int, num_weights: int) -> str:
    """The page as Markdown: every number in it is computed."""
    traces = {name: part(table, UNIFORM, name).set_index("step")["trace"] for name in (UNIFORM, MOMENT)}
    ratio = traces[UNIFORM] / traces[MOMENT]
    scales = pd.DataFrame({name: smooth(part(table, name, name)) for name in LOSSES})
    late = scales[scales.index > STEPS // 2].median()
    last = {name: torch.tensor(curves[name][-200:], dtype=torch.float64) for name in (UNIFORM, MOMENT)}
    bits = {name: f"{float(x.mean()):.3f} ± {float(x.std()) / len(x) ** 0.5:.3f}" for name, x in last.items()}
    rows = [
        [step, *(f"{traces[name][step]:.0f}" for name in traces), *(f"{scales[name][step]:.0f}" for name in LOSSES)]
        for step in scales.index
    ]
    head = ["step", "tr Σ, t uniform", "tr Σ, t by second moment", *(f"B: {name}" for name in LOSSES)]
    lines = ["| " + " | ".join(str(item) for item in row) + " |" for row in (head, ["---:"] * len(head), *rows)]
    return f"""# Gradient noise of L_vlb

`python -m benchmarks.gradient_noise` wrote this page and its figure.

![Noise scales of four losses; tr Σ for two ways to draw t; the p_t that are drawn](gradient_noise.svg)

Nichol & Dhariwal (2021, § 3.3) find the gradient of L_vlb far noisier than that of L_hybrid, and draw t with
p_t ∝ √E[L_t²] (eq. 18) to calm it: `loss = {{ name = "vlb", time_sampling = "loss_second_moment" }}`. Here is what that
does at a small scale: {num_images} of scikit-learn's 8×8 digits, a U-Net of {num_weights} weights, ε-prediction, the
linear schedule, T = {TIMESTEPS}, learned σ², Adam at {LEARNING_RATE:g}, batches of {BATCH}, {STEPS} steps, one seed.

**What is measured.** G is the mean and Σ the covariance of the gradient of one image, weight 1/(T p_t) included, over
images, noise and t. B = tr Σ / |G|² is the simple noise scale: the batch in which noise and signal are equally strong
(McCandlish et al. 2018, An empirical model of large-batch training, § 2.2). tr Σ and |G|² are estimated without bias
from {NUM_BATCHES} independent batches of {BATCH} images (their appendix A.1, with batches of {BATCH} and
{BATCH * NUM_BATCHES}). For B each is averaged over three neighbouring states; a dot is one state.

- At equal states, those of the training with uniform t, tr Σ with uniform t is {ratio.median():.1f} times that by
  second moment (median of {len(ratio)} states; {ratio.min():.1f} to {ratio.max():.1f}). G is the same for both.
- Each along its own training, median B of the second half: {"; ".join(f"{name} {late[name]:.0f}" for name in LOSSES)}.
- The loss itself in bits/dim (the bound without L_T, images of the training, raw weights), mean of the last
  {len(last[UNIFORM])} steps ± its standard error: t uniform {bits[UNIFORM]}, by second moment {bits[MOMENT]}.
- At the end of the training with uniform t, the second moment would draw t = {int(p.argmax()) + 1} the most, with
  p_t = {float(p.max()):.3f} where uniform has {1 / TIMESTEPS:g}.

{chr(10).join(lines)}
"""


def main() -> None:
    """Train, measure, write."""
    torch.set_num_threads(1)
    images = torch.from_numpy(Digits().load(data_root()).train)
    bench = Bench(images, Linear().process(TIMESTEPS))
    found = {name: bench.train(name) for name in LOSSES}
    table, p = pd.concat([rows for rows, _, _ in found.values()], ignore_index=True), found[UNIFORM][2]
    (DOCS / "gradient_noise.svg").write_text(draw(table, p), encoding="utf-8")
    weights = sum(parameter.numel() for parameter in bench.network().parameters())
    text = page(table, {name: curve for name, (_, curve, _) in found.items()}, p, len(images), weights)
    (DOCS / "gradient_noise.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
