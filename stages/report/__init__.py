"""One page that a person reads: data, audit, scores, pictures. Self-contained and byte-stable."""
