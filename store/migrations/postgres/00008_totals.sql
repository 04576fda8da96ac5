-- +goose Up

-- One row a running total: of a limit's subject in one hour or day, or of a signal. What attempts are charged with in a bucket is a function
-- of the attempts, and is written with each change of them.
CREATE TABLE totals (
    bucket        TEXT   NOT NULL PRIMARY KEY,
    fen           BIGINT NOT NULL,
    count         BIGINT NOT NULL,
    alarmed_fen   BIGINT NOT NULL, -- the highest thresholds that an alarm was raised for; 0: none
    alarmed_count BIGINT NOT NULL,
    until         BIGINT NOT NULL  -- microseconds since 1970, when its hour or day is over
);
CREATE INDEX totals_until ON totals (until);

ALTER TABLE attempts ADD COLUMN client TEXT NOT NULL DEFAULT '';  -- who asked
ALTER TABLE attempts ADD COLUMN buckets TEXT NOT NULL DEFAULT ''; -- that it is charged to, separated by commas
