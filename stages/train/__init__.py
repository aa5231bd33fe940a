"""Fine-tuning, exact and resumable."""
