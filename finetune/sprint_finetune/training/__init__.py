"""Fine-tuning any causal model on curated trajectories."""
