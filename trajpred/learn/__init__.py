"""Training: the model, its data, its losses, and its export. The only room where torch lives."""
