"""Which dimensions of the features do not discriminate."""
