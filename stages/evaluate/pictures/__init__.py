"""Pictures made to be read: figures drawn from the tables, as PNG files with the same bytes on every machine."""
