"""Thin library of the study; each module holds one idea. Importing it does nothing."""
