"""From photographs as found to packed arrays: sources, the data gate and packing."""
