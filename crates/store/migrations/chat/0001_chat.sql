-- Conversations: each block is stored once, turns and their snapshots refer to blocks by number.
CREATE TABLE conversations (
    id               INTEGER PRIMARY KEY NOT NULL,
    conv_id          TEXT   NOT NULL UNIQUE,
    session_id       TEXT   NOT NULL,
    title            TEXT   NOT NULL,
    status           TEXT   NOT NULL,              -- how the newest turn ended, or 'active'
    last_error       TEXT   NOT NULL,
    runtime_key      TEXT   NOT NULL,              -- of the newest turn
    created_at_ms    BIGINT NOT NULL,
    last_activity_ms BIGINT NOT NULL,
    seq              BIGINT NOT NULL               -- every frame so far has a number below this one
);
CREATE INDEX conversations_by_activity ON conversations (last_activity_ms DESC, conv_id);

CREATE TABLE turns (
    conversation    BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    ordinal         BIGINT NOT NULL,               -- 1, 2, 3
    turn_id         TEXT   NOT NULL,
    inference_id    TEXT   NOT NULL,
    session_id      TEXT   NOT NULL,
    state           TEXT   NOT NULL,
    registry        TEXT   NOT NULL,               -- what it ran under: never changed afterwards
    profile         TEXT   NOT NULL,
    profile_version BIGINT NOT NULL,
    runtime_key     TEXT   NOT NULL,
    fingerprint     TEXT   NOT NULL,
    superseded      INTEGER NOT NULL,
    base            TEXT   NOT NULL,               -- the context before its prompt: [[first, last], ...] of blocks
    layout          TEXT   NOT NULL,               -- the context after it
    data            TEXT   NOT NULL,               -- JSON
    metadata        TEXT   NOT NULL,               -- JSON
    started_at_ms   BIGINT NOT NULL,
    ended_at_ms     BIGINT NOT NULL,
    PRIMARY KEY (conversation, ordinal)
) WITHOUT ROWID;
CREATE INDEX turns_running ON turns (conversation) WHERE state = 'running';
CREATE INDEX turns_by_session ON turns (session_id);

CREATE TABLE blocks (
    conversation BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    place        BIGINT NOT NULL,                  -- 1, 2, 3
    body         TEXT   NOT NULL,                  -- JSON: id, kind, role, payload, metadata
    PRIMARY KEY (conversation, place)
) WITHOUT ROWID;

CREATE TABLE snapshots (
    id           INTEGER PRIMARY KEY NOT NULL,     -- in the order in which they were taken
    conversation BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    ordinal      BIGINT NOT NULL,
    phase        TEXT   NOT NULL,
    at_ms        BIGINT NOT NULL,
    layout       TEXT   NOT NULL,
    data         TEXT                              -- JSON; NULL where it is that of the snapshot before
);
CREATE INDEX snapshots_by_turn ON snapshots (conversation, ordinal);
CREATE INDEX snapshots_with_data ON snapshots (conversation) WHERE data IS NOT NULL;

CREATE TABLE entities (
    conversation  BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    place         BIGINT NOT NULL,                 -- the number of the frame that first announced it
    entity_id     TEXT   NOT NULL,
    kind          TEXT   NOT NULL,
    created_at_ms BIGINT NOT NULL,
    updated_at_ms BIGINT NOT NULL,
    version       BIGINT NOT NULL,                 -- the number of the frame that announced this version
    body          TEXT   NOT NULL,                 -- JSON as it is sent
    PRIMARY KEY (conversation, place)
) WITHOUT ROWID;
CREATE UNIQUE INDEX entities_by_id ON entities (conversation, entity_id);
CREATE INDEX entities_by_version ON entities (conversation, version);

CREATE TABLE entity_texts (
    conversation BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    entity_id    TEXT   NOT NULL,
    version      BIGINT NOT NULL,
    at_ms        BIGINT NOT NULL,
    text         TEXT   NOT NULL,                  -- follows the content of the entity while it grows
    PRIMARY KEY (conversation, entity_id, version)
) WITHOUT ROWID;

CREATE TABLE requests (
    conversation  BIGINT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    key           TEXT   NOT NULL,                 -- a client's idempotency key
    prompt_sha256 TEXT   NOT NULL,
    status        TEXT   NOT NULL,
    turn_id       TEXT   NOT NULL,
    inference_id  TEXT   NOT NULL,
    error         TEXT   NOT NULL,
    runtime       TEXT   NOT NULL,                 -- JSON
    at_ms         BIGINT NOT NULL,
    PRIMARY KEY (conversation, key)
) WITHOUT ROWID;

CREATE TABLE identity (
    id TEXT PRIMARY KEY NOT NULL                   -- one row: names this database among others
);
