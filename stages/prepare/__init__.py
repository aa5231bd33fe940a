"""Decode, crop to the head, resize: from image files to the uint8 arrays that every later stage reads."""
