-- kedge's call records in PostgreSQL: the record as it is, and the columns that people ask for most.
-- Once: psql DATABASE -f postgresql.sql
CREATE TABLE IF NOT EXISTS cdr (
    record jsonb NOT NULL,
    id text GENERATED ALWAYS AS (record->>'id') STORED PRIMARY KEY,
    caller text GENERATED ALWAYS AS (record#>>'{legs,0,user}') STORED,
    callee text GENERATED ALWAYS AS (record#>>'{legs,1,user}') STORED,
    status integer GENERATED ALWAYS AS ((record->>'status')::integer) STORED,
    path text GENERATED ALWAYS AS (record->>'path') STORED,
    bytes_relayed bigint GENERATED ALWAYS AS ((record->>'bytes_relayed')::bigint) STORED,
    loaded timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS cdr_started ON cdr ((record->>'started'));
CREATE INDEX IF NOT EXISTS cdr_caller ON cdr (caller);
