"""Diagnosis for `lungtune doctor`: the state of this machine and of the services it uses, and how to fix each."""
