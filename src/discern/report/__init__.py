"""The last stage: one table of arms, and one HTML file that shows how every figure came about."""
