"""The ledger's tables, as a list of migrations.

`PRAGMA user_version` counts the migrations that were applied; each one and its number are one transaction. A ledger
of a later version than we know is refused, never guessed at.

The UNIQUE indexes over live rows are the last line of defence: should every decision above be wrong, SQLite still
will not hold one address or MAC twice on a switch.
"""

from __future__ import annotations

from typing import Final

MIGRATIONS: Final[tuple[str, ...]] = (
    """
    CREATE TABLE meta (
        key   TEXT PRIMARY KEY,
        value TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;

    CREATE TABLE reservation (
        name             TEXT PRIMARY KEY,
        uid              TEXT NOT NULL,
        switch           TEXT NOT NULL,
        subnet           TEXT NOT NULL,
        pod_name         TEXT NOT NULL,
        namespace        TEXT NOT NULL,
        pod_type         TEXT NOT NULL,
        v4               INTEGER,
        v6               TEXT,
        mac              TEXT NOT NULL,
        state            TEXT NOT NULL CHECK (state IN ('intended', 'held', 'releasing', 'failed')),
        created          INTEGER NOT NULL,
        deleted          INTEGER,
        resource_version INTEGER NOT NULL,
        message          TEXT NOT NULL,
        more             TEXT NOT NULL,  -- JSON: labels, annotations, generation, node, container, attachments
        live             INTEGER NOT NULL CHECK (live = (state <> 'failed'))
    ) STRICT, WITHOUT ROWID;

    -- Over `live` and not over `state`, so that a reservation that becomes held leaves them alone.
    CREATE UNIQUE INDEX one_holder_v4  ON reservation (switch, v4)  WHERE live AND v4 IS NOT NULL;
    CREATE UNIQUE INDEX one_holder_v6  ON reservation (switch, v6)  WHERE live AND v6 IS NOT NULL;
    CREATE UNIQUE INDEX one_holder_mac ON reservation (switch, mac) WHERE live;

    CREATE TABLE journal (
        id      INTEGER PRIMARY KEY,
        at      REAL NOT NULL,
        type    TEXT NOT NULL,
        reason  TEXT NOT NULL,
        name    TEXT NOT NULL,
        uid     TEXT NOT NULL,
        message TEXT NOT NULL
    ) STRICT;

    CREATE INDEX journal_name ON journal (name, id);
    CREATE INDEX journal_released ON journal (uid) WHERE reason = 'Released';

    CREATE TABLE quarantine (
        switch  TEXT NOT NULL,
        address TEXT NOT NULL,
        since   REAL NOT NULL,
        PRIMARY KEY (switch, address)
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- The commit that made a reservation what it is; none for those of version 1.
    ALTER TABLE reservation ADD COLUMN incarnation  TEXT NOT NULL DEFAULT '';
    ALTER TABLE reservation ADD COLUMN number       INTEGER NOT NULL DEFAULT 0;
    """,
    """
    -- Owners and pools: few, and looked up by nothing but their name, so that what they say stands in their record.
    CREATE TABLE fact (
        name   TEXT PRIMARY KEY,
        uid    TEXT NOT NULL,
        state  TEXT NOT NULL CHECK (state IN ('intended', 'held', 'releasing', 'failed')),
        record TEXT NOT NULL  -- JSON: the external_ids of its DNS row
    ) STRICT, WITHOUT ROWID;
    """,
    """
    -- The journal names who asked and what was held, so that history needs nothing else. Of what still lives it is
    -- added to the entries from before.
    ALTER TABLE journal ADD COLUMN actor  TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN subnet TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN v4     TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN v6     TEXT NOT NULL DEFAULT '';
    ALTER TABLE journal ADD COLUMN mac    TEXT NOT NULL DEFAULT '';

    UPDATE journal SET
        subnet = r.subnet,
        v4 = CASE WHEN r.v4 IS NULL THEN ''
             ELSE printf('%d.%d.%d.%d', r.v4 >> 24, r.v4 >> 16 & 255, r.v4 >> 8 & 255, r.v4 & 255) END,
        v6 = coalesce(r.v6, ''),
        mac = r.mac
    FROM reservation AS r WHERE r.name = journal.name AND r.uid = journal.uid;

    CREATE INDEX journal_v4  ON journal (v4)  WHERE v4 <> '';
    CREATE INDEX journal_v6  ON journal (v6)  WHERE v6 <> '';
    CREATE INDEX journal_mac ON journal (mac) WHERE mac <> '';

    -- When did it end? By these reasons, as in model/history.py.
    DROP INDEX journal_released;
    CREATE INDEX journal_ended ON journal (uid)
    WHERE reason IN ('Failed', 'GivenBack', 'Released', 'ReleasedElsewhere', 'Superseded');

    -- Uids of which the journal does not say any more that they were released.
    CREATE TABLE released (uid TEXT PRIMARY KEY) STRICT, WITHOUT ROWID;
    """,
    """
    -- Which conflicts was told of that are not over? Asked at every start.
    CREATE INDEX journal_conflicts ON journal (name, id) WHERE reason IN ('Conflicted', 'ConflictResolved');
    """,
)
