"""From a list to its accuracy without a tensor on disk: jobs, stream, engine, record, comparison."""
