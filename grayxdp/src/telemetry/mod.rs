//! Prometheus metrics and logging.
