"""The model's card."""
