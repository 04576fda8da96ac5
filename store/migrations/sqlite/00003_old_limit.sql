-- +goose Up

-- The overdraft limit before, of a change of it: its TAC covers BAL + NEWLIM - OLDLIM.
ALTER TABLE attempts ADD COLUMN old_limit INTEGER NOT NULL DEFAULT 0;
