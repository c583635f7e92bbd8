"""Anyone's ONNX network as a model directory."""
