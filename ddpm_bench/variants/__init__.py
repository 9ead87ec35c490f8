"""Named variants: functions without arguments that return {short name: value}, one a file, decorated with @register.

A variant is what its source calls its model, in the words of a suite: `[[include]] variant = "improved_ddpm"` puts it
beside the cells of a matrix, with every seed. It sets

- prediction, variance, schedule and loss always, and the sampler that its variance was meant for: whatever the base
  tables of the suite say, these are the source's;
- thresholding only where the source departs from the default (clip for data with levels, none for real values).

It leaves alone what is a budget and not a method: timesteps and sampling_steps, the network, the optimiser, the number
of steps, the data. Named variants of one suite therefore differ in what they are named for, at equal cost: bits/dim
across T contains arithmetic, and T = 4000 beside T = 100 would cost 40 times the evaluation. A variant is no
reproduction. The T of the source stands in each docstring; `[diffusion] timesteps = 4000` gives it to a whole suite.
"""
