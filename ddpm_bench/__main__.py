"""`python -m ddpm_bench` is the command line."""

from ddpm_bench.cli import main

main()
