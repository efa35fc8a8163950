"""Captioned scenes with known truth, and the embedded model trained on them."""

__all__: list[str] = []
