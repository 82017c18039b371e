"""What runs a stage: arguments, parameters, record, signals, and training with its checkpoints."""
