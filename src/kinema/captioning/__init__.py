"""Describing videos: segments, prompts, chapters, summaries, quality and exports; no engine."""
