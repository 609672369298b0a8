"""The history of the tables, oldest first. A new revision's name is appended here (a test holds both together)."""

REVISIONS = ("r0001_initial", "r0002_models", "r0003_trainings")
HEAD = REVISIONS[-1]
