-- An index by profile, and a head that moves with every write, cost a page at a random place each. Now a change names the
-- one before it of its profile, and heads are written for thousands of changes at once.
CREATE TABLE chained (
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
    document_hash    TEXT   NOT NULL,              -- SHA-256 of the document's text, checked when it is loaded
    content_hash     TEXT   NOT NULL,              -- SHA-256 of what its author owns of it
    actor            TEXT   NOT NULL,
    source           TEXT   NOT NULL,
    note             TEXT   NOT NULL,
    request_id       TEXT   NOT NULL,
    at_ms            BIGINT NOT NULL
);

INSERT INTO chained
SELECT c.id, place.previous, place.nth, c.registry, c.operation, c.slug, c.version, c.registry_version, c.default_profile,
    c.document, c.document_hash, c.content_hash, c.actor, c.source, c.note, c.request_id, c.at_ms
FROM changes c JOIN (
    SELECT id,
        CASE slug WHEN '' THEN 0 ELSE lag(id, 1, 0) OVER profile END AS previous,
        CASE slug WHEN '' THEN 0 ELSE row_number() OVER profile END AS nth
    FROM changes WINDOW profile AS (PARTITION BY registry, slug ORDER BY id)
) place ON place.id = c.id
ORDER BY c.id;

-- Where profiles stood after the change that heads_until names.
CREATE TABLE stood (
    registry  TEXT    NOT NULL,
    slug      TEXT    NOT NULL,
    version   BIGINT  NOT NULL,
    change_id BIGINT  NOT NULL,                    -- that wrote its document, or deleted it
    deleted   INTEGER NOT NULL,                    -- 1: the slug is free, its versions go on from here
    newest_id BIGINT  NOT NULL,                    -- its newest change of any kind
    nth       BIGINT  NOT NULL,                    -- of that
    PRIMARY KEY (registry, slug)
) WITHOUT ROWID;

INSERT INTO stood
SELECT h.registry, h.slug, h.version, h.change_id, h.deleted, newest.id, newest.nth
FROM heads h JOIN (
    SELECT registry, slug, max(id) AS id, max(nth) AS nth FROM chained WHERE slug <> '' GROUP BY registry, slug
) newest ON newest.registry = h.registry AND newest.slug = h.slug;

CREATE TABLE heads_until (
    change_id BIGINT NOT NULL                      -- one row
);
INSERT INTO heads_until SELECT coalesce(max(id), 0) FROM chained;

DROP TABLE heads;
DROP TABLE changes;
ALTER TABLE chained RENAME TO changes;
ALTER TABLE stood RENAME TO heads;

-- A landmark in 64 changes of a profile; the chain leads on from it.
CREATE INDEX landmarks ON changes (registry, slug, version) WHERE nth > 0 AND nth % 64 = 0;
