"""The mathematics of denoising diffusion: tensors in, tensors out. Nothing here knows a suite, a file or a network.

Symbols (Ho et al. 2020), and the names they have everywhere in this package:

    T              num_timesteps     steps of the chain
    β_t            beta              variance added at step t, 0 < β_t < 1
    α_t = 1 − β_t  alpha
    ᾱ_t = Π α_s    alpha_bar         ᾱ_0 = 1 is `alpha_bar_prev` at the first step
    β̃_t            beta_tilde        (1 − ᾱ_{t−1}) / (1 − ᾱ_t) · β_t, the variance of q(x_{t−1} | x_t, x_0); β̃_1 = 0
    SNR_t          snr               ᾱ_t / (1 − ᾱ_t)
    c_t            posterior_x_0     √ᾱ_{t−1} β_t / (1 − ᾱ_t), the weight of x_0 in the mean of that posterior
    σ²_t           sigma2            the variance of p_θ(x_{t−1} | x_t); its logarithm is what functions return
    ε              eps               the noise in x_t = √ᾱ_t x_0 + √(1−ᾱ_t) ε
    x̂_0            pred_x_0          the network's estimate of x_0, whatever it predicts
    v              v                 √ᾱ_t ε − √(1−ᾱ_t) x_0
    D              num_dims          dimensions of an image, channels counted
    K              levels            grey levels of the data; None for real-valued data

Index rule: papers count t = 1…T; arrays are 0-based, so index 0 is t = 1. `t` in this package is the index (int64 [B]).
Everything shown to a user counts t = 1…T.

Shapes: x_0, x_t, eps, output [B, C, H, W]; t [B]; tables float64 [T]. Tables and sums are float64; float32 is for the
network alone. Names starting with q_ belong to the forward process, with p_ to the reverse process.

Where to find what: process.py (q), reverse.py (p_θ), gaussians.py (divergences and decoders), likelihood.py (the
bound), respacing.py (fewer steps); schedules/ predictions/ variances/ weightings/ losses/ samplers/ (the axes).
"""
