"""Encoder, decoder, and their weights in and out."""
