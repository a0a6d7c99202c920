"""Measuring models: benchmarks, answer parsing, metrics, judges, statistics, reports."""
