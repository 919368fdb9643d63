"""The CPU backend: a reader compiled to ONNX graphs with 8-bit weights, which runs without torch."""
