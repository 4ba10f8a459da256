"""Whole collections: nearest neighbours, late interaction."""
