"""MuJoCo in batches: one task definition, engines that step many environments of it."""
