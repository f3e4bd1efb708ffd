"""Whole runs of the agent, measured beside a bare boto3 script; started by tests/bench/run."""
