"""Measures, significance, the shapes of scores, figures."""
