"""Tests of the transport, one module per module."""
