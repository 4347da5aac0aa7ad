"""The tool that a person meets: loading, compressing, verifying, benchmarking, reports and the command line."""
