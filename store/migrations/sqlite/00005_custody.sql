-- +goose Up

-- One row: all that officers decide on, as the package custody encodes it. Its revision is in audit_head too, because every group commit
-- reads that row already: a change that was decided under another revision is refused without a query more.
CREATE TABLE custody (
    one      INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    revision BIGINT  NOT NULL,
    document TEXT    NOT NULL -- '' before the first officers
);
INSERT INTO custody (one, revision, document) VALUES (1, 0, '');
ALTER TABLE audit_head ADD COLUMN revision BIGINT NOT NULL DEFAULT 0;

-- One row a change request, in the order of commit.
CREATE TABLE change_requests (
    audit_index INTEGER NOT NULL PRIMARY KEY, -- of the entry of its proposal
    id          TEXT    NOT NULL UNIQUE,
    body        TEXT    NOT NULL, -- exactly the bytes that officers sign
    act         TEXT    NOT NULL,
    author      TEXT    NOT NULL,
    expires_at  BIGINT  NOT NULL, -- microseconds since 1970
    state       TEXT    NOT NULL,
    approvals   TEXT    NOT NULL, -- JSON
    executor    TEXT    NOT NULL, -- the node that works at it
    attempt     BIGINT  NOT NULL, -- rises with each taking of the work
    claimed_at  BIGINT  NOT NULL, -- microseconds since 1970; 0: never
    detail      TEXT    NOT NULL,
    ended_index BIGINT  NOT NULL  -- of the entry that ended it; 0 while it is not over
);
CREATE INDEX change_requests_open ON change_requests (audit_index) WHERE ended_index = 0;
