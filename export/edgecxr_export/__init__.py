"""The export stage: from a RUN of `edgecxr train` to a bundle that a device can trust.

    stage          the way from RUN to bundle, step by step; `edgecxr export` calls it
    deploy         the trained model rebuilt for devices: scaling folded, dropout gone, evidence as a second output
    onnx_graph     that model as ONNX, with names and bytes that don't depend on the process
    quantize       the ONNX graph in int8, calibrated on training pictures
    parity         an artifact against the float32 Keras model, on real pictures; the gates
    temperature    calibrated probabilities
    evaluation     how often each model is right, by class and by origin
    golden         inputs and answers by which a device checks itself
    card           MODEL_CARD.md, written from the reports
    phantoms       drawn pictures that look like chest films, for samples and golden inputs

Nothing of it is needed, or imported, on a device.
"""
