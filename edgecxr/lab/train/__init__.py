"""The lab: fit a classifier on labelled pictures (extra: train). Nothing in the runtime imports this package."""
