"""From traces to the model that the agents call."""
