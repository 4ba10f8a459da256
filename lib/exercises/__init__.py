"""Exercises of the notebooks: their checks, and the learners' copies."""
