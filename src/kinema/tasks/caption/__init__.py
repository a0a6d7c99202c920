"""Captions for one video or many: a resumable job, and a stage for Python loops."""
