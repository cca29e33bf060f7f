"""`invoke benchmark`: one benchmark from beginning to end. May import every other package of tasks.lib."""
