"""Other sites: a study's heads, fitted once, on the images of other caches."""
