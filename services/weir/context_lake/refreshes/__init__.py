"""How the rows of datasets and views are kept, when they are read again, and what came of it."""
