"""Packed arrays → batches → random views: what training and evaluation read images with."""
