"""The record of how every number came about: run records beside the results, and MLflow where it is on."""
