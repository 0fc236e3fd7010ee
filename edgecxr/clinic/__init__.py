"""What a clinic's network takes and gives: results as DICOM objects (`report`)."""
