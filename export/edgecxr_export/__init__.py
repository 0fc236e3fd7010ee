"""The export stage: from a RUN of `edgecxr train` to a bundle that a device can trust.

    stage          the way from RUN to bundle, step by step; `edgecxr export` calls it
    refusals       what can't be carried out, found before any work, and artifacts that fail their gate
    labelled       the run's pictures, decoded and in the run's splits
    phantoms       drawn pictures that look like chest films, for samples and golden inputs

    graphs/        deploy        the trained model rebuilt for devices: scaling folded, dropout gone, evidence kept
                   onnx_graph    the deploy model as ONNX, with names and bytes that don't depend on the process
                   half          the ONNX graph in float16, for GPUs
                   tflite        the deploy model as TFLite, in float32 and int8; `tflite_graph` edits the files
                   artifacts     the network files: what each is called, who runs it here, how fast it is
    int8/          search        the way chosen on dev, then sensitive convolutions to float until the gate passes
                   ways          the candidates, and what is measured of them
                   networks      the float networks and ranges that both int8 files are made from
                   ranges        ranges of activations on training pictures
                   equalise      channels made alike before they share a scale
                   rounding      weights rounded so that their errors cancel
                   quantize      the ONNX graph in int8 with given ranges; calibration pictures; the uint8 input
                   transfer      the same networks and ranges in a TFLite file
    parity/        measure       every artifact against the float32 Keras model, on dev and on the whole test split
                   compare       how two sets of answers compare
                   gates         what an artifact must keep
    bundle/        golden        inputs and answers by which a device checks itself
                   contents      the bundle's files: `reports`, and `card`, MODEL_CARD.md written from them
    triton/        repository    a bundle as a server's model repository; needs no extra, and stands here as the last
                                 thing that is made of a bundle before it leaves the lab
                   pbtxt         configurations in Protocol Buffers' text format
                   model         what the server's Python runs, copied into the repository

Nothing of it is needed, or imported, on a device.
"""
