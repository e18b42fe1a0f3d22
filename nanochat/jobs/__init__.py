"""Scheduled jobs: when one falls due, and what is to be done about what fell due while nothing ran.

Pure: `now` is passed in. Knows schedules, zones and policies. Does not know who keeps jobs, nor what a fire does.

    make -> Job -> schedule_of -> next_fires (a list), decide (what is to run now, what was missed)
"""

from nanochat.jobs.check import EXAMPLES, make, merged
from nanochat.jobs.fires import body_of, parse_body, source_id
from nanochat.jobs.job import Job, Kind
from nanochat.jobs.policy import Decision, JobState, Verdict, decide
from nanochat.jobs.schedule import At, Cron, Every, Schedule, begins, mark_of, next_fires, schedule_of
from nanochat.jobs.words import at_words, describe

__all__ = [
    "EXAMPLES",
    "At",
    "Cron",
    "Decision",
    "Every",
    "Job",
    "JobState",
    "Kind",
    "Schedule",
    "Verdict",
    "at_words",
    "begins",
    "body_of",
    "decide",
    "describe",
    "make",
    "mark_of",
    "merged",
    "next_fires",
    "parse_body",
    "schedule_of",
    "source_id",
]
