"""Strategies, the training loop, scoring."""
