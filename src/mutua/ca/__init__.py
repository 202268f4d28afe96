"""Which certificate: csr → grant → template → sign → check. Pure: time, serial numbers and keys are arguments."""
