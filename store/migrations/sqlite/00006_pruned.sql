-- +goose Up

-- One row: entries before this index may have been deleted; the sealed log has them.
CREATE TABLE audit_pruned (
    one    INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    before INTEGER NOT NULL
);
INSERT INTO audit_pruned (one, before) VALUES (1, 0);
