"""The library's desk: what a lake holds, where its runtime is, who may ask."""
