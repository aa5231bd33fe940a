"""Scores for all, clean and leaked test images, and the tables and pictures that show them."""
