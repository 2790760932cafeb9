"""Decides what runs, and tells the world what came out."""
