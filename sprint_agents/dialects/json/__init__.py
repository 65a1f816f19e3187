"""Plans and results as JSON, for any model that follows instructions."""
