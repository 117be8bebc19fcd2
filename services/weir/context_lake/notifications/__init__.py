"""Changes in S3, told through queues: making them, reading them, and what a message amounts to."""
