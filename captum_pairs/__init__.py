"""Which word matched which region: feature-pair attributions of dual encoders."""

__version__ = "0.1.0"
