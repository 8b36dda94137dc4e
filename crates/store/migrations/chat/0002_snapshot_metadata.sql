-- What was known of a turn at each of its moments (chapter 30 D36); of older snapshots only what is known now.
ALTER TABLE snapshots ADD COLUMN metadata TEXT NOT NULL DEFAULT '{}';  -- JSON
UPDATE snapshots SET metadata = coalesce(
    (SELECT t.metadata FROM turns t WHERE t.conversation = snapshots.conversation AND t.ordinal = snapshots.ordinal),
    '{}');
