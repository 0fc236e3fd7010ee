"""How to quantize, chosen by measurement, and the int8 files."""
