-- +goose Up

-- One row a terminal of a key set: the last serial number that it was given. It only rises.
CREATE TABLE terminals (
    key_set     TEXT   NOT NULL,
    terminal    TEXT   NOT NULL,
    last_serial BIGINT NOT NULL,
    PRIMARY KEY (key_set, terminal)
) WITHOUT ROWID;

-- One row a purchase for which a MAC1 was issued, in the order of commit. Both indexes are rules: one (counter, random) of a
-- place is recorded once (the signer's places are cards, with no purse), and one serial number of a terminal is used once.
CREATE TABLE purchases (
    audit_index     INTEGER PRIMARY KEY,
    key_set         TEXT    NOT NULL,
    card            TEXT    NOT NULL,
    purse           TEXT    NOT NULL,
    counter         INTEGER NOT NULL,
    random          TEXT    NOT NULL,
    id              TEXT    NOT NULL,
    client          TEXT    NOT NULL, -- who began it, and alone may complete it
    type            TEXT    NOT NULL,
    amount          BIGINT  NOT NULL,
    initialize      TEXT    NOT NULL, -- the card's answer as received, hex
    terminal        TEXT    NOT NULL,
    terminal_serial BIGINT  NOT NULL,
    date            TEXT    NOT NULL,
    time            TEXT    NOT NULL,
    key_version     INTEGER NOT NULL,
    kcv             TEXT    NOT NULL,
    boundary        TEXT    NOT NULL,
    mac1            TEXT    NOT NULL,
    created_at      BIGINT  NOT NULL, -- microseconds since 1970, by the signer's clock
    state           TEXT    NOT NULL,
    right_mac2      TEXT    NOT NULL,
    wrong_mac2s     TEXT    NOT NULL, -- distinct, separated by commas
    right_tac       TEXT    NOT NULL,
    wrong_tacs      TEXT    NOT NULL  -- distinct, separated by commas
);
CREATE UNIQUE INDEX purchases_by_card ON purchases (key_set, card, purse, counter, random);
CREATE UNIQUE INDEX purchases_by_terminal ON purchases (key_set, terminal, terminal_serial);

-- One row a session with a reader's secure module. It holds no key and no data.
CREATE TABLE reader_sessions (
    id               TEXT    NOT NULL PRIMARY KEY,
    key_set          TEXT    NOT NULL,
    device           TEXT    NOT NULL,
    client           TEXT    NOT NULL,
    key_version      INTEGER NOT NULL,
    host_challenge   TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    expires_at       BIGINT  NOT NULL, -- microseconds since 1970
    device_challenge TEXT    NOT NULL,
    device_proof     TEXT    NOT NULL,
    host_proof       TEXT    NOT NULL,
    outcome          TEXT    NOT NULL,
    sent             BIGINT  NOT NULL,
    sent_blocks      BIGINT  NOT NULL,
    sent_last        INTEGER NOT NULL,
    received         BIGINT  NOT NULL,
    received_blocks  BIGINT  NOT NULL,
    received_last    INTEGER NOT NULL,
    audit_index      BIGINT  NOT NULL
) WITHOUT ROWID;
