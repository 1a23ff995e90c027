"""Log driver: the forward protocol of Fluentd and Fluent Bit."""
