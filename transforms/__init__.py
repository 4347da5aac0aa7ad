"""Model to model: the pass manager and the passes."""
