"""Make the model that the agents call: curate reasoning traces, train on them, and evaluate the result."""
