"""What the job manager can do, by families; `base` says what a verb is."""
