"""The report: results of a suite as one offline page, readable as a paper, with its tables and figures as files."""

from ddpm_bench.report.page import build

__all__ = ["build"]
