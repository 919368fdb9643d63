"""ONNX Runtime on CPUs: graphs built from weights, and sessions that run them."""
