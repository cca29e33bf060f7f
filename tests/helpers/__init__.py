"""What several kinds of tests use: servers, clients, files, records, and waiting for conditions."""
