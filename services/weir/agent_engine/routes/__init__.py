"""The studio's URLs: which verb answers, and who may ask."""
