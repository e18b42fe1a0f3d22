"""Jobs that were made in conversations and at the command line, and how far every job's fires are decided.

    decide:  a fire is written down as `fired`, together with the moment up to which its job is decided, in one transaction;
             only then does its envelope go into the inbox, and once more after a crash in between: the same envelope is one row
    record:  what came of it takes the place of `fired`

So each due time has exactly one row, whenever the process dies, and of two daemons only one decides. Knows rows. Does not know
when a job falls due, nor what a fire does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from nanochat.errors import JobError
from nanochat.jobs import Job, JobState, Verdict, begins, mark_of
from nanochat.keys import SessionKey
from nanochat.ledger.database import Database, open_readonly
from nanochat.ledger.inbox import KEPT_DAYS
from nanochat.ledger.job_rows import decode, encode, stamp
from nanochat.ledger.runs import Run, read_runs

__all__ = ["Jobs", "Made", "made_jobs"]

# What came of a run can be looked up for so long; what was said stands in its session for ever.
RUNS_KEPT = timedelta(days=400)

# A reminder that is over stays in the lists for so long.
OVER_KEPT = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Made:
    """What a reader finds: the jobs that were made, and the state of each job that a daemon has seen."""

    jobs: tuple[Job, ...] = ()
    states: Mapping[str, JobState] | None = None


class Jobs:
    """The jobs of one ledger. Safe to call concurrently."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._read: dict[str, tuple[str, Job]] = {}

    # --- the jobs themselves -----------------------------------------------------------------------------------------

    async def all(self) -> list[Job]:
        """Every job that was made; a paused one is not enabled."""

        def select(database: sqlite3.Connection) -> list[Job]:
            paused = {job_id for (job_id,) in database.execute("SELECT id FROM job_states WHERE paused")}
            rows = database.execute("SELECT id, job FROM jobs").fetchall()
            known = {job_id: self._known(job_id, text) for job_id, text in rows}
            self._read = known
            return [replace(job, enabled=False) if job.id in paused else job for _, job in known.values()]

        return await self._database.run(select)

    async def add(self, job: Job, call_id: str = "") -> Job:
        """Keep a job; where this very call made one before, it is that one, and nothing is done.

        Raises:
            JobError: another job has its id.
        """

        def insert(database: sqlite3.Connection) -> Job:
            row = database.execute(
                "SELECT id, job FROM jobs WHERE call_id = ? AND call_id <> ''", (call_id,)
            ).fetchone()
            if row is not None:
                return decode(*row)
            if database.execute("SELECT 1 FROM jobs WHERE id = ?", (job.id,)).fetchone():
                raise JobError(job.id, "id", "another job has this id; remove that one, or take another")
            database.execute("INSERT INTO jobs VALUES (?, ?, ?)", (job.id, encode(job), call_id))
            database.execute("DELETE FROM job_states WHERE id = ?", (job.id,))
            return job

        return await self._database.run(insert)

    async def remove(self, job_id: str) -> bool:
        """Forget a job; what came of its runs is kept. False where it was not."""

        def delete(database: sqlite3.Connection) -> bool:
            gone = database.execute("DELETE FROM jobs WHERE id = ?", (job_id,)).rowcount > 0
            if gone:
                for table, column in (("job_states", "id"), ("watermarks", "job_id")):
                    database.execute(f"DELETE FROM {table} WHERE {column} = ?", (job_id,))
            return gone

        return await self._database.run(delete)

    async def pause(self, job: Job, now: datetime) -> None:
        """Let a job rest, of the settings or made: what falls due meanwhile is not missed, it was not wanted."""
        await self._set_paused(job, now, paused=True)

    async def resume(self, job: Job, now: datetime) -> None:
        """Let it fire again, from now on."""
        await self._set_paused(job, now, paused=False)

    async def _set_paused(self, job: Job, now: datetime, *, paused: bool) -> None:
        def upsert(database: sqlite3.Connection) -> None:
            known = database.execute("SELECT paused FROM job_states WHERE id = ?", (job.id,)).fetchone()
            if known is None:
                row = (job.id, mark_of(job), stamp(begins(job, now)), paused)
                database.execute("INSERT INTO job_states (id, mark, decided_until, paused) VALUES (?, ?, ?, ?)", row)
            elif bool(known[0]) != paused:
                until = "decided_until" if paused else "max(decided_until, ?2)"
                database.execute(
                    f"UPDATE job_states SET paused = ?1, decided_until = {until} WHERE id = ?3",
                    (paused, stamp(now), job.id),
                )

        await self._database.run(upsert)

    # --- what is decided ---------------------------------------------------------------------------------------------

    async def states(self) -> dict[str, JobState]:
        """How far each job is decided, by its id."""
        return await self._database.run(_states)

    async def begin(self, begun: Mapping[str, JobState], known: Collection[str], now: datetime) -> None:
        """Write down where new jobs begin, and forget those that are neither made nor `known`; and what is long over."""
        others = frozenset(known)

        def upsert(database: sqlite3.Connection) -> None:
            database.executemany(
                "INSERT INTO job_states (id, mark, decided_until) VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET mark = excluded.mark, decided_until = excluded.decided_until",
                [(job_id, state.mark, stamp(state.until)) for job_id, state in begun.items()],
            )
            rows = database.execute("SELECT id FROM job_states WHERE id NOT IN (SELECT id FROM jobs)").fetchall()
            database.executemany("DELETE FROM job_states WHERE id = ?", [row for row in rows if row[0] not in others])
            _forget_old(database, now)

        await self._database.run(upsert)

    async def decide(self, verdicts: Sequence[Verdict], now: datetime) -> list[tuple[str, datetime]]:
        """Write down what becomes of fires; returns those that are to be run now, by the id of their job.

        A verdict on a job that was decided otherwise meanwhile, or removed, is not taken.
        """

        def write(database: sqlite3.Connection) -> list[tuple[str, datetime]]:
            fires = []
            for verdict in verdicts:
                decision = verdict.decision
                taken = database.execute(
                    "UPDATE job_states SET decided_until = ? WHERE id = ? AND decided_until = ? AND mark = ? AND NOT paused",
                    (stamp(decision.until), verdict.job_id, stamp(verdict.state.until), verdict.state.mark),
                )
                if not taken.rowcount:
                    continue
                _write_others(database, verdict, now)
                if decision.fire is not None:
                    _write_fired(database, verdict.job_id, decision.fire)
                    fires.append((verdict.job_id, decision.fire))
            return fires

        return await self._database.run(write)

    async def fire(self, job_id: str, now: datetime) -> None:
        """Have a job run out of its turn; its next fires are not changed."""
        await self._database.run(lambda database: _write_fired(database, job_id, now))

    async def fired(self, now: datetime) -> list[tuple[str, datetime]]:
        """Fires of which nothing has come yet: their envelopes may not have reached the inbox.

        The inbox knows a source for some days only. What is older was never taken up, or could be run twice: it is missed.
        """
        too_old = stamp(now - timedelta(days=KEPT_DAYS - 1))

        def select(database: sqlite3.Connection) -> list[tuple[str, datetime]]:
            database.execute(
                "UPDATE runs SET outcome = 'missed', note = 'it was to be run, and nobody was there for days'"
                " WHERE outcome = 'fired' AND fire < ?",
                (too_old,),
            )
            rows = database.execute("SELECT job_id, fire FROM runs WHERE outcome = 'fired' ORDER BY fire").fetchall()
            return [(job_id, datetime.fromisoformat(fire)) for job_id, fire in rows]

        return await self._database.run(select)

    # --- what came of it ---------------------------------------------------------------------------------------------

    async def record(self, run: Run) -> None:
        """Write down what came of a fire; of a fire that has run already, nothing is changed but what it lacks."""

        def write(database: sqlite3.Connection) -> None:
            database.execute(
                "INSERT INTO runs (job_id, fire, outcome, first_fire, started_at, ended_at, text, note)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (job_id, fire) DO UPDATE SET outcome = excluded.outcome,"
                " started_at = excluded.started_at, ended_at = excluded.ended_at, text = excluded.text, note = excluded.note"
                " WHERE outcome IN ('fired', 'failed')",
                (
                    run.job_id,
                    stamp(run.fire),
                    run.outcome,
                    stamp(run.fire),
                    stamp(run.started_at) if run.started_at else "",
                    stamp(run.ended_at) if run.ended_at else "",
                    run.text,
                    run.note,
                ),
            )

        await self._database.run(write)

    async def delivering(self, job_id: str, fire: datetime, recipient: SessionKey, source_id: str) -> None:
        """What came of a fire goes to a recipient under this source id; how far it comes, the inbox tells."""
        await self._database.run(
            lambda database: database.execute(
                "INSERT OR IGNORE INTO run_deliveries (job_id, fire, recipient, source_id) VALUES (?, ?, ?, ?)",
                (job_id, stamp(fire), str(recipient), source_id),
            )
        )

    async def history(self, job_id: str = "", limit: int = 20) -> list[Run]:
        """The newest runs, oldest first: of one job, or, with an empty id, of all."""
        return await self._database.run(lambda database: read_runs(database, job_id, limit))

    # --- how far a summary has read ----------------------------------------------------------------------------------

    async def watermark(self, job_id: str, source: str) -> int | None:
        """How far a job's recorded summaries have read one of its sources; None where they never did."""

        def select(database: sqlite3.Connection) -> int | None:
            row = database.execute(
                "SELECT place FROM watermarks WHERE job_id = ? AND source = ?", (job_id, source)
            ).fetchone()
            return int(row[0]) if row else None

        return await self._database.run(select)

    async def set_watermarks(self, job_id: str, places: Mapping[str, int]) -> None:
        """A summary that has read so far is recorded."""
        rows = [(job_id, source, place) for source, place in places.items()]
        await self._database.run(
            lambda database: database.executemany("INSERT OR REPLACE INTO watermarks VALUES (?, ?, ?)", rows)
        )

    def _known(self, job_id: str, text: str) -> tuple[str, Job]:
        before = self._read.get(job_id)
        return before if before is not None and before[0] == text else (text, decode(job_id, text))


def made_jobs(path: Path) -> Made:
    """What stands in the ledger, for a reader who changes nothing.

    Raises:
        LedgerError: the ledger cannot be read.
    """
    connection = open_readonly(path)
    if connection is None:
        return Made()
    with closing(connection):
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'job_states'").fetchone():
            return Made()  # of an earlier version, and not yet opened by this one
        rows = connection.execute("SELECT id, job FROM jobs ORDER BY id").fetchall()
        return Made(tuple(decode(*row) for row in rows), _states(connection))


def _states(database: sqlite3.Connection) -> dict[str, JobState]:
    rows = database.execute("SELECT id, mark, decided_until, paused FROM job_states")
    return {job_id: JobState(mark, datetime.fromisoformat(until), bool(paused)) for job_id, mark, until, paused in rows}


def _write_fired(database: sqlite3.Connection, job_id: str, fire: datetime) -> None:
    row = (job_id, stamp(fire), stamp(fire))
    database.execute("INSERT OR IGNORE INTO runs (job_id, fire, outcome, first_fire) VALUES (?, ?, 'fired', ?)", row)


def _write_others(database: sqlite3.Connection, verdict: Verdict, now: datetime) -> None:
    """A row for each of the newest fires that are not run, and one for all those before them."""
    decision = verdict.decision
    outcome = "skipped" if decision.skipped else "missed"
    rows = [(verdict.job_id, stamp(fire), outcome, stamp(fire), 1, stamp(now)) for fire in decision.named]
    before = decision.missed + decision.skipped - len(decision.named)
    if before > 0 and decision.first is not None and decision.unnamed_last is not None:
        span = (stamp(decision.unnamed_last), outcome, stamp(decision.first), before, stamp(now))
        rows.append((verdict.job_id, *span))
    database.executemany(
        "INSERT OR IGNORE INTO runs (job_id, fire, outcome, first_fire, fires, ended_at) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )


def _forget_old(database: sqlite3.Connection, now: datetime) -> None:
    database.execute("DELETE FROM runs WHERE fire < ? AND outcome <> 'fired'", (stamp(now - RUNS_KEPT),))
    database.execute("DELETE FROM run_deliveries WHERE fire < ?", (stamp(now - RUNS_KEPT),))
    # The inbox forgets sooner than we do.
    database.execute(
        "UPDATE run_deliveries SET (state, note) ="
        " (SELECT outcome, note FROM inbox WHERE inbox.source_id = run_deliveries.source_id)"
        " WHERE state = '' AND EXISTS (SELECT 1 FROM inbox WHERE inbox.source_id = run_deliveries.source_id"
        " AND outcome IS NOT NULL)"
    )
    # Its state goes with the next call: it is then neither made nor known.
    database.execute(
        "DELETE FROM jobs WHERE json_extract(job, '$.at') <> '' AND json_extract(job, '$.at') < ?"
        " AND id NOT IN (SELECT job_id FROM runs WHERE outcome = 'fired')",
        (stamp(now - OVER_KEPT),),
    )
