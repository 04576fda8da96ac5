-- +goose Up

-- One row a purse of a card: the highest online counter that the card proved, and its pending settlement.
CREATE TABLE purses (
    key_set TEXT    NOT NULL,
    card    TEXT    NOT NULL,
    purse   TEXT    NOT NULL,
    highest INTEGER NOT NULL,
    pending TEXT    NOT NULL,
    PRIMARY KEY (key_set, card, purse)
) WITHOUT ROWID;

-- One row a card that ever failed its MAC1.
CREATE TABLE cards (
    key_set       TEXT    NOT NULL,
    card          TEXT    NOT NULL,
    mac1_failures INTEGER NOT NULL,
    locked        INTEGER NOT NULL,
    PRIMARY KEY (key_set, card)
) WITHOUT ROWID;

-- One row an authorised transaction, in the order of commit: a new one goes to the end of the file, and only the index
-- below is written in the middle. The index is a rule: one (counter, random) of a purse is recorded once.
CREATE TABLE attempts (
    audit_index  INTEGER PRIMARY KEY,
    key_set      TEXT    NOT NULL,
    card         TEXT    NOT NULL,
    purse        TEXT    NOT NULL,
    counter      INTEGER NOT NULL,
    random       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    amount       INTEGER NOT NULL,
    balance      INTEGER NOT NULL,
    terminal     TEXT    NOT NULL,
    date         TEXT    NOT NULL,
    time         TEXT    NOT NULL,
    issuer_id    TEXT    NOT NULL,
    key_version  INTEGER NOT NULL,
    kcv          TEXT    NOT NULL,
    boundary     TEXT    NOT NULL,
    mac2         TEXT    NOT NULL,
    created_at   INTEGER NOT NULL, -- microseconds since 1970, by the signer's clock
    state        TEXT    NOT NULL,
    evidence     TEXT    NOT NULL,
    contradicted INTEGER NOT NULL,
    right_tac    TEXT    NOT NULL,
    wrong_tacs   TEXT    NOT NULL  -- distinct, separated by commas
);
CREATE UNIQUE INDEX attempts_by_card ON attempts (key_set, card, purse, counter, random);
CREATE INDEX attempts_open ON attempts (key_set, audit_index) WHERE state = 'OPEN';

CREATE TABLE settlements (
    id          TEXT    NOT NULL PRIMARY KEY,
    key_set     TEXT    NOT NULL,
    card        TEXT    NOT NULL,
    purse       TEXT    NOT NULL,
    terminal    TEXT    NOT NULL,
    issuer_id   TEXT    NOT NULL,
    expires_at  INTEGER NOT NULL, -- microseconds since 1970
    state       TEXT    NOT NULL,
    answer      TEXT    NOT NULL,
    outcome     TEXT    NOT NULL,
    settled     TEXT    NOT NULL, -- JSON
    key_version INTEGER NOT NULL,
    audit_index INTEGER NOT NULL
) WITHOUT ROWID;

-- The record, one row an entry, and the one row that the next index is taken from.
CREATE TABLE audit_entries (
    idx   INTEGER PRIMARY KEY,
    entry TEXT    NOT NULL
);
CREATE TABLE audit_head (
    one   INTEGER NOT NULL PRIMARY KEY CHECK (one = 1),
    next  INTEGER NOT NULL,
    tries INTEGER NOT NULL -- raised to try a write: a value written as it was would write nothing
);
INSERT INTO audit_head (one, next, tries) VALUES (1, 0, 0);
