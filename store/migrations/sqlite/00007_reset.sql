-- +goose Up

-- Which of the cards that had a purse's number one after the other a row is about: raised by each reset of the purse. The attempts of an
-- earlier card are history, and no rule looks at them; one (counter, random) of one card is recorded once.
ALTER TABLE purses ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempts ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
DROP INDEX attempts_by_card;
CREATE UNIQUE INDEX attempts_by_card ON attempts (key_set, card, purse, counter, random, epoch);
