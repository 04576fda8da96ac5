-- +goose Up

-- The schema of SQLite at the same version, which says more of each table; see there. Whole numbers are BIGINT, flags BOOLEAN.

CREATE TABLE purses (
    key_set TEXT   NOT NULL,
    card    TEXT   NOT NULL,
    purse   TEXT   NOT NULL,
    highest BIGINT NOT NULL,
    pending TEXT   NOT NULL,
    epoch   BIGINT NOT NULL,
    PRIMARY KEY (key_set, card, purse)
);

CREATE TABLE cards (
    key_set       TEXT    NOT NULL,
    card          TEXT    NOT NULL,
    mac1_failures BIGINT  NOT NULL,
    locked        BOOLEAN NOT NULL,
    PRIMARY KEY (key_set, card)
);

CREATE TABLE attempts (
    audit_index  BIGINT  NOT NULL PRIMARY KEY,
    key_set      TEXT    NOT NULL,
    card         TEXT    NOT NULL,
    purse        TEXT    NOT NULL,
    counter      BIGINT  NOT NULL,
    random       TEXT    NOT NULL,
    id           TEXT    NOT NULL,
    operation    TEXT    NOT NULL,
    amount       BIGINT  NOT NULL,
    old_limit    BIGINT  NOT NULL,
    balance      BIGINT  NOT NULL,
    terminal     TEXT    NOT NULL,
    date         TEXT    NOT NULL,
    time         TEXT    NOT NULL,
    issuer_id    TEXT    NOT NULL,
    key_version  BIGINT  NOT NULL,
    kcv          TEXT    NOT NULL,
    boundary     TEXT    NOT NULL,
    mac2         TEXT    NOT NULL,
    created_at   BIGINT  NOT NULL,
    epoch        BIGINT  NOT NULL,
    state        TEXT    NOT NULL,
    evidence     TEXT    NOT NULL,
    contradicted BOOLEAN NOT NULL,
    right_tac    TEXT    NOT NULL,
    wrong_tacs   TEXT    NOT NULL
);
CREATE UNIQUE INDEX attempts_by_card ON attempts (key_set, card, purse, counter, random, epoch);
CREATE INDEX attempts_open ON attempts (key_set, audit_index) WHERE state = 'OPEN';

CREATE TABLE settlements (
    id          TEXT   NOT NULL PRIMARY KEY,
    key_set     TEXT   NOT NULL,
    card        TEXT   NOT NULL,
    purse       TEXT   NOT NULL,
    terminal    TEXT   NOT NULL,
    issuer_id   TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    answer      TEXT   NOT NULL,
    outcome     TEXT   NOT NULL,
    settled     TEXT   NOT NULL,
    key_version BIGINT NOT NULL,
    audit_index BIGINT NOT NULL
);

CREATE TABLE audit_entries (
    idx   BIGINT NOT NULL PRIMARY KEY,
    entry TEXT   NOT NULL
);

-- The row that every group of every node locks first, which puts them in one order.
CREATE TABLE audit_head (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    next     BIGINT NOT NULL,
    tries    BIGINT NOT NULL,
    revision BIGINT NOT NULL
);
INSERT INTO audit_head (one, next, tries, revision) VALUES (1, 0, 0, 0);

CREATE TABLE terminals (
    key_set     TEXT   NOT NULL,
    terminal    TEXT   NOT NULL,
    last_serial BIGINT NOT NULL,
    PRIMARY KEY (key_set, terminal)
);

CREATE TABLE purchases (
    audit_index     BIGINT NOT NULL PRIMARY KEY,
    key_set         TEXT   NOT NULL,
    card            TEXT   NOT NULL,
    purse           TEXT   NOT NULL,
    counter         BIGINT NOT NULL,
    random          TEXT   NOT NULL,
    id              TEXT   NOT NULL,
    client          TEXT   NOT NULL,
    type            TEXT   NOT NULL,
    amount          BIGINT NOT NULL,
    initialize      TEXT   NOT NULL,
    terminal        TEXT   NOT NULL,
    terminal_serial BIGINT NOT NULL,
    date            TEXT   NOT NULL,
    time            TEXT   NOT NULL,
    key_version     BIGINT NOT NULL,
    kcv             TEXT   NOT NULL,
    boundary        TEXT   NOT NULL,
    mac1            TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    state           TEXT   NOT NULL,
    right_mac2      TEXT   NOT NULL,
    wrong_mac2s     TEXT   NOT NULL,
    right_tac       TEXT   NOT NULL,
    wrong_tacs      TEXT   NOT NULL
);
CREATE UNIQUE INDEX purchases_by_card ON purchases (key_set, card, purse, counter, random);
CREATE UNIQUE INDEX purchases_by_terminal ON purchases (key_set, terminal, terminal_serial);

CREATE TABLE reader_sessions (
    id               TEXT    NOT NULL PRIMARY KEY,
    key_set          TEXT    NOT NULL,
    device           TEXT    NOT NULL,
    client           TEXT    NOT NULL,
    key_version      BIGINT  NOT NULL,
    host_challenge   TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    expires_at       BIGINT  NOT NULL,
    device_challenge TEXT    NOT NULL,
    device_proof     TEXT    NOT NULL,
    host_proof       TEXT    NOT NULL,
    outcome          TEXT    NOT NULL,
    sent             BIGINT  NOT NULL,
    sent_blocks      BIGINT  NOT NULL,
    sent_last        BOOLEAN NOT NULL,
    received         BIGINT  NOT NULL,
    received_blocks  BIGINT  NOT NULL,
    received_last    BOOLEAN NOT NULL,
    audit_index      BIGINT  NOT NULL
);

CREATE TABLE audit_sealing (
    one        BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    holder     TEXT   NOT NULL,
    fence      BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    size       BIGINT NOT NULL,
    checkpoint TEXT   NOT NULL
);
INSERT INTO audit_sealing (one, holder, fence, expires_at, size, checkpoint) VALUES (1, '', 0, 0, 0, '');

CREATE TABLE audit_pruned (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    before BIGINT NOT NULL
);
INSERT INTO audit_pruned (one, before) VALUES (1, 0);

CREATE TABLE custody (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    revision BIGINT NOT NULL,
    document TEXT   NOT NULL
);
INSERT INTO custody (one, revision, document) VALUES (1, 0, '');

CREATE TABLE change_requests (
    audit_index BIGINT NOT NULL PRIMARY KEY,
    id          TEXT   NOT NULL UNIQUE,
    body        TEXT   NOT NULL,
    act         TEXT   NOT NULL,
    author      TEXT   NOT NULL,
    expires_at  BIGINT NOT NULL,
    state       TEXT   NOT NULL,
    approvals   TEXT   NOT NULL,
    executor    TEXT   NOT NULL,
    attempt     BIGINT NOT NULL,
    claimed_at  BIGINT NOT NULL,
    detail      TEXT   NOT NULL,
    ended_index BIGINT NOT NULL
);
CREATE INDEX change_requests_open ON change_requests (audit_index) WHERE ended_index = 0;

-- What SQLite has no need of.

-- One row a running store: the number of its last group that was committed, written in that group's transaction, or of one of which it was
-- settled that it never will be. Numbers only rise: the check refuses a group that comes after it was settled.
CREATE TABLE group_commits (
    instance TEXT   NOT NULL PRIMARY KEY,
    number   BIGINT NOT NULL CHECK (number > 0),
    seen_at  BIGINT NOT NULL -- microseconds since 1970, by the node's clock
);

-- The row that a ceremony, a backup or a restore keeps locked, so that no other is held over this store.
CREATE TABLE ceremony_lock (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1)
);
INSERT INTO ceremony_lock (one) VALUES (1);
