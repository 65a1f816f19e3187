"""The paper's tag format, for models that were trained on it."""
