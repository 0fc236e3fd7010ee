"""Labelled pictures before any training: fetch them from Kaggle, import a known layout, look at them on one sheet."""
