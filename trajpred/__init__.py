"""trajpred: several weighted future paths for every road user, from a streaming LSTM."""

__version__ = "0.1.0"
