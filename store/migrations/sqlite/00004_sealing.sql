-- +goose Up

-- One row: who seals the record, and how far it is sealed. fence rises with each taking of the lease; a mark needs the newest.
CREATE TABLE audit_sealing (
    one        INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    holder     TEXT    NOT NULL,
    fence      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL, -- microseconds since 1970
    size       INTEGER NOT NULL,
    checkpoint TEXT    NOT NULL  -- signed, of that size; marked before it is published
);
INSERT INTO audit_sealing (one, holder, fence, expires_at, size, checkpoint) VALUES (1, '', 0, 0, 0, '');
