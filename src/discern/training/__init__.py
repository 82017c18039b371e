"""The loop, schedules, checkpoints and what a step minimises; needs torch and nothing of the pipeline's tools."""
