"""A DICOM file becomes grey levels: `reading` is the way, along the modules that do each step.

elements    the bytes, walked under limits, give the few values that matter
film        is it one frontal chest film
codestream  what a compressed frame says of its own size
decoder     frames that native libraries decode, in a process of their own (`child`)
samples     pixel data become stored values
render      stored values become grey levels: modality LUT, VOI, polarity, padding
"""
