"""Tokens to batches: order, windows, mixtures."""
