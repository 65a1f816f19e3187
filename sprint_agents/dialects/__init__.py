"""Text to plan and back."""
