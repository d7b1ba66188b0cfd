"""Numbers with intervals: what a model gets right, how sure that number is, and a page to read it on."""
