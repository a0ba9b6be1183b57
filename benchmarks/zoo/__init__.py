"""Whole models of Hugging Face's transformers, from configurations with random weights: nothing is downloaded."""
