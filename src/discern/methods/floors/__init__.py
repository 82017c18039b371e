"""Encoders that are not trained: what training has to beat."""
