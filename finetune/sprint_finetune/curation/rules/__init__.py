"""Rules that find the steps of a trace and their dependencies without a model."""
