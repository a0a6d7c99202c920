"""The verb ``data``: making, validating and measuring data to train on."""
