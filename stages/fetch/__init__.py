"""Stage 1: bytes from somewhere, exactly as they are, into `data/raw/{Training,Testing}/<class>/`."""
