"""Explanations: how they are computed, and the results that a person works with."""
