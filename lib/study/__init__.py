"""Experiments: what decides them, training, tables, profiles, notebooks."""
