"""Bulk work: a ledger of units, a runner for one unit's story, and the sites where it is done."""
