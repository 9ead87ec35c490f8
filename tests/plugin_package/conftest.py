"""The tests of the package run where it is installed."""

from importlib.util import find_spec

collect_ignore = [] if find_spec("ddpm_bench_example") else ["test_example.py"]
