"""Pictures made to be read: figures drawn from the tables, as SVG files with the same bytes on every machine."""
