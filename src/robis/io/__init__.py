"""Files: atomic writes, images, maps and masks, arrays on disk, tables, weights."""
