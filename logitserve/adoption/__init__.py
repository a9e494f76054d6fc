"""A stranger's ONNX file becomes a model file: looked at, cut, wrapped, compared, published."""
