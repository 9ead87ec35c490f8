"""The validation curve and the loss landscape: two numbers in units that all variants share, on a fixed set of
(image, t, ε)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ddpm_bench.diffusion.likelihood import bits_per_dim, decoder_nll, mean_cost, prior_kl
from ddpm_bench.diffusion.process import Process
from ddpm_bench.diffusion.variances.beta_tilde import BetaTilde
from ddpm_bench.randomness import Stream
from ddpm_bench.spec import Training
from ddpm_bench.stages._images import subset
from ddpm_bench.stages._model import Model

MAX_IMAGES = 128
"""Images of the validation curve at most; fewer where the suite evaluates fewer (evaluation.images)."""
DRAWS_PER_IMAGE = 8
"""t per image: t = 1 always, and this many of t = 2…T. All images' draws together cover 2…T evenly."""


class Validation:
    """ε-MSE (mean over t = 1…T) and an estimate of bits/dim with σ² = β̃, of images of one split.

    The draws depend on nothing but the split and T, so that curves of variants and seeds can be laid over each other.
    """

    def __init__(
        self, training: Training, values: Tensor, x_0: Tensor, levels: int | None, num_images: int, device: str,
        batch: int | None = None,
    ):  # fmt: skip
        """values: levels or real values [N, C, H, W]; x_0: the same scaled for the network; batch: images per network
        call, None: those of any evaluation."""
        self._training, self._levels, self._device = training, levels, device
        self._process = training.schedule.process(training.timesteps)
        self._batch = batch
        count = min(num_images, len(x_0))
        # Not the first ones: image_folder's come class by class.
        chosen = torch.from_numpy(subset(len(x_0), count))
        self._values, self._x_0 = values[chosen].to(device), x_0[chosen].to(device)
        self._t = self._draw_timesteps(count).to(device)
        index = torch.arange(self._t.numel(), device=device)
        noise = Stream(0, "validation").normal(0, index, x_0.shape[1:])
        self._eps = noise.reshape(*self._t.shape, *x_0.shape[1:])

    def _draw_timesteps(self, count: int) -> Tensor:
        """Indices int64 [N, 1 + draws]: 0 first, then 1…T−1, each as often as the others (to one), in random order."""
        rest = len(self._process) - 1
        first = torch.zeros(count, 1, dtype=torch.int64)
        if not rest:
            return first
        total = count * DRAWS_PER_IMAGE
        order = torch.argsort(Stream(0, "validation t").uniform(0, torch.arange(total))[:, 0], stable=True)
        return torch.cat([first, 1 + (order * rest // total).reshape(count, -1)], dim=1)

    @property
    def num_calls(self) -> int:
        """Images that the network sees in one measurement."""
        return self._t.numel()

    def measure(self, module: nn.Module) -> tuple[float, float]:
        """(ε-MSE, bits/dim) of the module in evaluation mode."""
        shape = tuple(self._x_0.shape[1:])
        model = Model(
            module, self._training, self._process, shape, self._levels, self._device, batch=self._batch  # type: ignore[arg-type]
        )  # fmt: skip
        was_training = module.training
        module.eval()
        columns = []
        with torch.inference_mode():
            for j in range(self._t.shape[1]):
                columns.append(self._column(model, j))
        module.train(was_training)
        error = torch.stack([squared for squared, _ in columns], dim=1).double().cpu()
        x_0_first = columns[0][1]
        return self._epsilon_mse(error), self._bits_per_dim(error, x_0_first)

    def _column(self, model: Model, j: int) -> tuple[Tensor, Tensor]:
        t, eps = self._t[:, j], self._eps[:, j]
        x_t = self._process.q_sample(self._x_0, t, eps)
        output = model(x_t, t)[:, : x_t.shape[1]]
        pred_x_0 = self._training.prediction.to_x_0(output, x_t, t, self._process)
        return (self._x_0 - pred_x_0).square().flatten(1).sum(1), pred_x_0

    def _mean_over_t(self, per_draw: Tensor) -> float:
        """Mean over t = 1…T of values [N, 1 + draws]: of the means at each t where all were drawn, else of draws."""
        total, t = len(self._process), self._t.cpu()
        sums = torch.zeros(total, dtype=torch.float64).scatter_add_(0, t.flatten(), per_draw.flatten())
        counts = torch.bincount(t.flatten(), minlength=total)
        if bool((counts > 0).all()):
            return float((sums / counts).mean())
        return float((sums[0] / counts[0] + sums[1:].sum() / counts[1:].sum() * (total - 1)) / total)

    def _epsilon_mse(self, error: Tensor) -> float:
        snr = self._process.snr[self._t.cpu()]
        return self._mean_over_t(error * snr / self._x_0[0].numel())

    def _bits_per_dim(self, error: Tensor, x_0_first: Tensor) -> float:
        process: Process = self._process
        log_sigma2 = BetaTilde().log_sigma2(process, torch.arange(len(process)))
        t = self._t.cpu()
        costs = mean_cost(process, log_sigma2, torch.ones(len(process)))[t] * error
        first = decoder_nll(self._values, x_0_first, log_sigma2[0].to(self._device), self._levels).double().cpu()
        nats = (
            self._mean_over_t(costs) * len(process) + float(first.mean()) + float(prior_kl(self._x_0, process).mean())
        )
        return float(bits_per_dim(torch.tensor(nats), self._x_0[0].numel()))
