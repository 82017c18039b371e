"""The last stage: one table of methods, and one HTML file that shows how every figure came about."""
