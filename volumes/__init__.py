"""Images: reading, placing in patient millimetres, preprocessing contracts, the catalog, and the phantom hospital."""
