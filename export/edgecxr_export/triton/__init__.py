"""A model repository for NVIDIA Triton Inference Server, made of a bundle; needs neither TensorFlow nor Triton.

repository     its models and their files, written whole or not at all; `edgecxr export --to triton` calls it
pbtxt          a model's configuration in Protocol Buffers' text format
model          what Triton's Python backend runs: copied into the repository, and imported by a server alone
"""
