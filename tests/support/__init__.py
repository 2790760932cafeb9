"""Helpers of the tests: made-up corpora, results and boards, real servers, a browser."""
