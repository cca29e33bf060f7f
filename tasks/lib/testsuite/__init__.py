"""`invoke test`: which tests run, with which interpreter. May import: common, embedded."""
