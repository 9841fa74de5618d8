"""The layers that encoders and decoders are made of."""
