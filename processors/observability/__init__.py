"""What leaves a process for the tools of operators: metrics, traces, logs."""
