"""Measure models on benchmarks: check, run, score, judge, compare, report."""
