"""The deploy model as Keras, ONNX and TFLite, and the network files that it becomes."""
