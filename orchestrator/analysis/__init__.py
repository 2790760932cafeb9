"""Numbers computed from stored predictions: counts per patient, intervals, ranks, calibration, breakdowns."""
