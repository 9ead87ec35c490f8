"""Stage fit: a variance that follows the network's errors, from a score of the fit split. No network call."""

from __future__ import annotations

import numpy as np
import torch

from ddpm_bench.diffusion.reverse import THRESHOLDINGS
from ddpm_bench.spec import rebuild_reverse
from ddpm_bench.stages import Context
from ddpm_bench.stages._scored import load_scored

VERSION = 1


def run(context: Context) -> None:
    """Writes log_sigma2.npy float64 [S], ln σ²_t of the chain, and mse.npy float64 [S], E|x_0 − x̂_0|²/D behind it."""
    spec = context.spec
    reverse = rebuild_reverse(spec["reverse"])
    scored = load_scored(context, reverse, spec["split"])
    means = THRESHOLDINGS[reverse.thresholding](scored.x_0_first)
    first = (scored.x_0.unsqueeze(1) - means).square().double().mean()
    later = scored.squared[reverse.thresholding].double().mean(0) / scored.num_dims

    def mean_l_0(log_sigma2: float) -> float:
        table = torch.tensor(log_sigma2, dtype=torch.float64)
        return float(scored.decoder_nats(means, table, spec["decoder"]).mean())

    mse = torch.cat([first.reshape(1), later])
    log_sigma2 = reverse.variance.fit(scored.process, mse, mean_l_0)
    np.save(context.out / "log_sigma2.npy", log_sigma2.numpy())
    np.save(context.out / "mse.npy", mse.numpy())
    context.manifest["info"] = {"split": spec["split"], "num_images": len(scored.indices)}
