"""Thin adapters: other servers' wire formats in front of the one ``Predictor``."""
