-- A hash is 32 bytes, not 64 digits, and the hash of what an author owns is reckoned from the document when it is asked for:
-- a write is smaller by a tenth.
CREATE TABLE hashed (
    id               INTEGER PRIMARY KEY NOT NULL, -- 1, 2, 3 without gaps; the highest is the revision
    previous         BIGINT NOT NULL,              -- the change before it of the same profile; 0 for none
    nth              BIGINT NOT NULL,              -- 1 for the first change of a profile; 0 for changes of the registry alone
    registry         TEXT   NOT NULL,
    operation        TEXT   NOT NULL,
    slug             TEXT   NOT NULL,              -- '' for changes of the registry alone
    version          BIGINT NOT NULL,
    registry_version BIGINT NOT NULL,
    default_profile  TEXT   NOT NULL,              -- of the registry since; '' for none
    document         TEXT,                         -- the profile since; NULL where it did not change, or is gone
    document_hash    BLOB   NOT NULL,              -- SHA-256 of the document's text, checked when it is loaded; empty without one
    actor            TEXT   NOT NULL,
    source           TEXT   NOT NULL,
    note             TEXT   NOT NULL,
    request_id       TEXT   NOT NULL,
    at_ms            BIGINT NOT NULL
);

INSERT INTO hashed
SELECT id, previous, nth, registry, operation, slug, version, registry_version, default_profile, document,
    coalesce(unhex(document_hash), x''), actor, source, note, request_id, at_ms
FROM changes ORDER BY id;

DROP TABLE changes;
ALTER TABLE hashed RENAME TO changes;

-- A landmark in 64 changes of a profile; the chain leads on from it.
CREATE INDEX landmarks ON changes (registry, slug, version) WHERE nth > 0 AND nth % 64 = 0;
