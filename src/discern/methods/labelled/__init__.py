"""References that see the labels."""
