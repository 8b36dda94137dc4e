-- The log of changes is the truth; heads and registries point into it and can be rebuilt from it.
CREATE TABLE changes (
    id               INTEGER PRIMARY KEY NOT NULL, -- 1, 2, 3 without gaps; the highest is the revision
    registry         TEXT   NOT NULL,
    operation        TEXT   NOT NULL,
    slug             TEXT   NOT NULL,              -- '' for changes of the registry alone
    version          BIGINT NOT NULL,
    registry_version BIGINT NOT NULL,
    default_profile  TEXT   NOT NULL,              -- of the registry since; '' for none
    document         TEXT,                         -- the profile since; NULL where it did not change, or is gone
    document_hash    TEXT   NOT NULL,              -- SHA-256 of the document's text, checked when it is loaded
    content_hash     TEXT   NOT NULL,              -- SHA-256 of what its author owns of it
    actor            TEXT   NOT NULL,
    source           TEXT   NOT NULL,
    note             TEXT   NOT NULL,
    request_id       TEXT   NOT NULL,
    at_ms            BIGINT NOT NULL
);
CREATE INDEX changes_by_profile ON changes (registry, slug, id);

CREATE TABLE heads (
    registry  TEXT    NOT NULL,
    slug      TEXT    NOT NULL,
    version   BIGINT  NOT NULL,
    change_id BIGINT  NOT NULL REFERENCES changes (id),
    deleted   INTEGER NOT NULL,                    -- 1: the slug is free, its versions go on from here
    PRIMARY KEY (registry, slug)
) WITHOUT ROWID;

CREATE TABLE identity (
    id TEXT PRIMARY KEY NOT NULL                   -- one row: names this database among others
);

CREATE TABLE registries (
    slug            TEXT   PRIMARY KEY NOT NULL,
    display_name    TEXT   NOT NULL,
    description     TEXT   NOT NULL,
    default_profile TEXT   NOT NULL,
    metadata        TEXT   NOT NULL                -- JSON: version, times, authors
);
