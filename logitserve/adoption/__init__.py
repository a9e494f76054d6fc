"""Turn a third-party ONNX file into a model file: analyze, cut, wrap, compare, publish."""
