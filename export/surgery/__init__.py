"""Surgery on ONNX graphs: named passes that recognize patterns and contain no numbers of a particular model."""
