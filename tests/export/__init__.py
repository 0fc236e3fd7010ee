"""Tests of the export stage; a package, so that its conftest isn't mistaken for the one above."""
