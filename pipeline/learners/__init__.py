"""Learners: what adapts to a support set and labels the queries; one file each."""

from pipeline.core.registry import Registry

LEARNERS = Registry("learners", "learner")
get, names = LEARNERS.get, LEARNERS.names
