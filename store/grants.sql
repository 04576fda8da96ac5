-- What the role pursekeeper needs of a schema that is there, to run a signer. It may not change the schema, nor a record's past: entries are
-- added, and deleted when they are sealed and pruned, and never updated.
GRANT USAGE ON SCHEMA public TO pursekeeper;
GRANT SELECT ON goose_db_version TO pursekeeper;
GRANT SELECT, INSERT, DELETE ON audit_entries TO pursekeeper;
GRANT SELECT, UPDATE ON audit_head, audit_sealing, audit_pruned, custody, ceremony_lock TO pursekeeper;
GRANT SELECT, INSERT, UPDATE ON purses, cards, attempts, settlements, terminals, purchases, reader_sessions, change_requests TO pursekeeper;
GRANT SELECT, INSERT, UPDATE, DELETE ON totals, group_commits TO pursekeeper;
