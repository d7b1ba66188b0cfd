"""Other people's knowledge about an image: cards that say what an expert can do, and measurements with uncertainty."""
